/** `npm run attach-interleavings -- [--rounds N] [--seed S]`: interleavings with another program's changes, in their long form. */
import { parseArgs } from 'node:util'
import { runRound } from './round.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '10000' },
    /** Of the first round; the next ones count up from it. */
    seed: { type: 'string' },
    /** Tells what happened in a round that failed. */
    trace: { type: 'boolean', default: false },
    /** Failures after which it ends. */
    failures: { type: 'string', default: '5' },
  },
})
const rounds = Number(values.rounds)
const firstSeed = Number(values.seed ?? Date.now() % 2 ** 31)

const startedMs = performance.now()
const totals = new Map<string, number>()
const add = (what: string, count: number): void => void totals.set(what, (totals.get(what) ?? 0) + count)
let [done, failed] = [0, 0]
process.stdout.write(`${rounds} interleavings from seed ${firstSeed}\n`)
for (let seed = firstSeed; seed < firstSeed + rounds && failed < Number(values.failures); seed++) {
  try {
    const { cuts, kept, counts } = await runRound(seed)
    for (const [what, count] of Object.entries(counts)) add(what, count)
    add('power cuts', cuts)
    add('acknowledged contents found at the end', kept)
  } catch (error) {
    failed++
    const { message, cause } = error as Error & { cause: { error: Error; trace: string[] } }
    if (values.trace) process.stdout.write(`${cause.trace.join('\n')}\n${cause.error.stack}\n`)
    process.stdout.write(`${message}\nrepeat with: npm run attach-interleavings -- --rounds 1 --seed ${seed} --trace\n`)
  }
  done++
  if (done % 500 === 0) process.stdout.write(`${done} interleavings, ${failed} failed\n`)
}
for (const [what, count] of [...totals].sort(([one], [other]) => (one < other ? -1 : 1)))
  process.stdout.write(`  ${String(count).padStart(8)} ${what}\n`)
const seconds = ((performance.now() - startedMs) / 1000).toFixed(0)
process.stdout.write(`${done} interleavings in ${seconds} s\n${done - failed} passed, ${failed} failed\n`)
process.exitCode = failed > 0 ? 1 : 0
