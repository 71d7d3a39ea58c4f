/**
 * `npm run mount-model -- [--seeds N] [--operations N] [--attached tidegate|external]`: the mount against the model, in its long form; in
 * attached buckets if so asked, which are compared with what lies outside.
 */
import { parseArgs } from 'node:util'
import { testSeed } from '../../../model/random.ts'
import { AttachedStore, modelInStore } from '../../../support/attached-store.ts'
import { startMounted } from '../../../support/mounted-gateway.ts'
import type { RemoteKind } from '../../../write-behind/remote/remote-target.ts'
import { compareWithModel } from './compare.ts'

function kindOf(text: string): RemoteKind {
  if (text === 'external' || text === 'tidegate') return text
  throw new Error(`--attached is external or tidegate, not ${text}`)
}

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '20' },
    operations: { type: 'string', default: '5000' },
    attached: { type: 'string' },
  },
})
const first = testSeed()
let failed = 0
for (let seed = first; seed < first + Number(values.seeds); seed++) {
  const store = values.attached === undefined ? undefined : await AttachedStore.start(kindOf(values.attached))
  const mounted = await startMounted([], { environment: store?.remote.environment ?? {} })
  try {
    const operations = Number(values.operations)
    const attached = store && modelInStore(mounted, store)
    await compareWithModel(mounted, { seed, operations, mayDropCaches: process.getuid?.() === 0, attached })
    process.stdout.write(`seed ${seed}: ${operations} operations, no difference\n`)
  } catch (error) {
    failed++
    process.stdout.write(`${(error as Error).stack}\n`)
  } finally {
    await mounted.stop()
    await store?.stop()
  }
}
process.stdout.write(`${Number(values.seeds) - failed} passed, ${failed} failed\n`)
process.exitCode = failed === 0 ? 0 : 1
