/** `npm run node-loss -- [--rounds N] [--seed S]`: nodes are lost under writers, and nothing that was acknowledged as `replicated` may be; the long form. */
import { parseArgs } from 'node:util'
import { NodeLossRounds, type LossResult } from './rounds.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '100' }, seed: { type: 'string' } } })
const rounds = Number(values.rounds)
const firstSeed = Number(values.seed ?? Date.now() % 2 ** 31)
const results: LossResult[] = []
const LOG_LINES = 30

let nodes = new NodeLossRounds()
let failed = 0
process.stdout.write(`${rounds} rounds of three gateways of which one is lost, from seed ${firstSeed}\n`)
await nodes.start()
for (let seed = firstSeed; seed < firstSeed + rounds; seed++) {
  try {
    const result = await nodes.run({ seed, onStep: (step) => void process.stdout.write(`  ${step}\n`) })
    results.push(result)
    process.stdout.write(`${seed}: ${JSON.stringify(result)}\n`)
  } catch (error) {
    failed++
    process.stdout.write(`${seed}: ${(error as Error).stack}\n`)
    for (const index of [0, 1, 2]) process.stdout.write(`log of ${index}:\n${tail(nodes.log(index))}\n`)
    // What the others would find after it says nothing.
    await nodes.end()
    nodes = new NodeLossRounds()
    await nodes.start()
  }
}
await nodes.end()

function tail(log: string): string {
  return log.trimEnd().split('\n').slice(-LOG_LINES).join('\n')
}

const sum = (read: (result: LossResult) => number): number => results.reduce((total, one) => total + read(one), 0)
const most = (read: (result: LossResult) => number): string => (Math.max(0, ...results.map(read)) / 1000).toFixed(1)
process.stdout.write(
  `${results.filter(({ loss }) => loss === 'killed').length} killed, ${results.filter(({ loss }) => loss === 'paused').length} paused past the grace; ` +
    `${sum(({ acknowledged }) => acknowledged)} writes acknowledged as replicated, ${sum(({ unknown }) => unknown)} of unknown outcome, ` +
    `${sum(({ compared }) => compared)} comparisons; read from the survivors after ${most(({ readMs }) => readMs)} s and safe again after ` +
    `${most(({ safeMs }) => safeMs)} s at most\n${results.length} rounds passed, ${failed} failed\n`,
)
process.exitCode = failed === 0 && results.length > 0 ? 0 : 1
