/** `npm run mount-model -- [--seeds N] [--operations N]`: the mount against the model, in its long form. */
import { parseArgs } from 'node:util'
import { testSeed } from '../../../model/random.ts'
import { startMounted } from '../../../support/mounted-gateway.ts'
import { compareWithModel } from './compare.ts'

const { values } = parseArgs({
  options: { seeds: { type: 'string', default: '20' }, operations: { type: 'string', default: '5000' } },
})
const first = testSeed()
let failed = 0
for (let seed = first; seed < first + Number(values.seeds); seed++) {
  const mounted = await startMounted()
  try {
    const operations = Number(values.operations)
    await compareWithModel(mounted, { seed, operations, mayDropCaches: process.getuid?.() === 0 })
    process.stdout.write(`seed ${seed}: ${operations} operations, no difference\n`)
  } catch (error) {
    failed++
    process.stdout.write(`${(error as Error).stack}\n`)
  } finally {
    await mounted.stop()
  }
}
process.stdout.write(`${Number(values.seeds) - failed} passed, ${failed} failed\n`)
process.exitCode = failed === 0 ? 0 : 1
