/** The model test through two mounts (two-mounts.ts), which see at the end, one after the other, all that both have done. */
import { Comparison, type CompareOptions } from '../model/compare.ts'
import { MountModel } from '../model/model.ts'
import type { SharedGateways } from '../../../support/three-gateways.ts'
import { TwoMounts } from './two-mounts.ts'

/** In a bucket of its own. @returns how often it went from one mount to the other @throws where mounts and model differ */
export async function compareTwoMounts(
  gateways: SharedGateways,
  options: Omit<CompareOptions, 'attached'>,
): Promise<number> {
  const { seed } = options
  const bucket = `seed-${seed}`
  await gateways.shell(0, `mkdir ../${bucket}`)
  const model = new MountModel()
  const inMounts = async (run: (comparison: Comparison, mounts: TwoMounts) => Promise<void>): Promise<number> => {
    const mounts = new TwoMounts(gateways, { seed, bucket, model })
    try {
      await mounts.start()
      await run(new Comparison(mounts, { bucket, model }, options), mounts)
    } finally {
      await mounts.end()
    }
    return mounts.changes
  }
  const changes = await inMounts(async (comparison, mounts) => {
    await comparison.operations()
    await comparison.everything('at the end')
    await comparison.closeAll()
    for (const at of [0, 1]) {
      mounts.pin(at)
      await comparison.everything(`by ${at} once all is closed`)
    }
  })
  await gateways.stop(0)
  await gateways.start(0)
  await inMounts(async (comparison, mounts) => {
    mounts.pin(0)
    await comparison.everything('after a restart')
  })
  return changes
}
