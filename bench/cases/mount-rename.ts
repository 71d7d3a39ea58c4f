/**
 * Renaming a directory with a million descendants (`--objects`) through the mount, against one with ten in the same bucket, and
 * against ten in a local directory. The measure is time, the median of many renames there and back; less is better.
 */
import { join } from 'node:path'
import { compare, takeTurns, type Benchmark, type BenchmarkContext, type Measurement } from '../benchmark.ts'
import { BUCKET, makeBucket } from '../gateway-probe.ts'
import { numbered } from '../kv-probe.ts'
import { buildFileLoop } from '../load/file-loop.ts'
import { directoryOf, withMounts, type MountName } from '../mounts.ts'
import { runProgram } from '../program.ts'
import { publishObjects } from '../publish-objects.ts'

const FEW = 10
const FILES_A_DIRECTORY = 1000
const RENAMES = 100
const LIMIT_MS = 5

export const mountRename: Benchmark = {
  name: 'mount-rename',
  rounds: 5,
  async run(context) {
    const loop = buildFileLoop(context.directory)
    const data = await filledData(context)
    return withMounts(context, { data, withoutOther: true }, async (mounts) => {
      for (const name of ['null', 'local'] as const) {
        const few = join(directoryOf(mounts, name), 'few')
        await runProgram('mkdir', [few])
        await loop('fill', few, FEW, 1)
      }
      const renameMs = async (mounted: MountName, name: string): Promise<number> => {
        const path = join(directoryOf(mounts, mounted), name)
        const [renamed] = await loop('rename', path, `${path}-renamed`, RENAMES)
        return (renamed?.seconds ?? Number.NaN) * 1000
      }
      const taken = await takeTurns(context.rounds, {
        many: () => renameMs('gateway', 'many'),
        few: () => renameMs('gateway', 'few'),
        bare: () => renameMs('null', 'few'),
        local: () => renameMs('local', 'few'),
      })
      return rows(context.objects, taken)
    })
  },
}

function rows(many: number, taken: Readonly<Record<'many' | 'few' | 'bare' | 'local', number[]>>): Measurement[] {
  const row = { unit: 'ms', aim: null, durability: 'none' } as const
  const limits = taken.many.map(() => LIMIT_MS)
  return [
    { ...row, ...compare(taken.many, taken.few), name: `mount-rename-${many}`, aim: '<= 1.5' },
    { ...row, ...compare(taken.many, limits), name: `mount-rename-${many}-limit`, aim: `<= 1 (${LIMIT_MS} ms)` },
    { ...row, ...compare(taken.few, taken.bare), name: `mount-rename-${FEW}` },
    { ...row, ...compare(taken.few, taken.local), name: `mount-rename-${FEW}-local` },
  ]
}

/** A data directory whose bucket holds both directories: a thousand files in each of a thousand, and ten in one. */
async function filledData(context: BenchmarkContext): Promise<string> {
  const data = join(context.directory, 'data')
  const empty = await context.gateway(data)
  await makeBucket(context, empty)
  await empty.stop()
  const startedMs = performance.now()
  const manyKey = (index: number): string =>
    `many/${numbered(Math.floor(index / FILES_A_DIRECTORY))}/${numbered(index % FILES_A_DIRECTORY)}`
  await publishObjects(data, [
    { bucket: BUCKET, key: manyKey, count: context.objects },
    { bucket: BUCKET, key: (index) => `few/${numbered(index)}`, count: FEW },
  ])
  const seconds = (performance.now() - startedMs) / 1000
  context.note(`a directory of ${context.objects} descendants, filled in ${seconds.toFixed(0)} s`)
  return data
}
