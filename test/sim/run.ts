/** `npm run sim -- [--runs N] [--cuts N] [--seed S] [--sabotage KIND] [--remote upload]`: the crash simulation in its long form. */
import { parseArgs } from 'node:util'
import type { RemoteKind, SabotageKind } from './life.ts'
import { runSimulation } from './simulation.ts'

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '1250' },
    /** Power cuts in each run. */
    cuts: { type: 'string', default: '8' },
    /** Of the first run; the next runs count up from it. */
    seed: { type: 'string' },
    sabotage: { type: 'string' },
    /** `local disk` or `upload`. */
    remote: { type: 'string', default: 'local disk' },
  },
})
const runs = Number(values.runs)
const cuts = Number(values.cuts)
const firstSeed = Number(values.seed ?? Date.now() % 2 ** 31)
const sabotage = values.sabotage as SabotageKind | undefined
const remote = values.remote as RemoteKind

const startedMs = performance.now()
const totals = new Map<string, number>()
let cutsDone = 0
let failed = 0
process.stdout.write(`${runs} runs of ${cuts} power cuts from seed ${firstSeed}\n`)
for (let seed = firstSeed; seed < firstSeed + runs; seed++) {
  try {
    const result = await runSimulation({ seed, cuts, remote, ...(sabotage ? { sabotage } : {}) })
    cutsDone += result.cuts
    for (const [what, count] of Object.entries(result.counts)) totals.set(what, (totals.get(what) ?? 0) + count)
  } catch (error) {
    failed++
    process.stdout.write(
      `${(error as Error).message}\nrepeat with: npm run sim -- --runs 1 --cuts ${cuts} --seed ${seed}${remote === 'upload' ? ' --remote upload' : ''}\n`,
    )
    if (failed >= 5) break
  }
  if ((seed - firstSeed) % 100 === 99) process.stdout.write(`${cutsDone} cuts, ${failed} runs failed\n`)
}
for (const [what, count] of [...totals].sort(([one], [other]) => (one < other ? -1 : 1)))
  process.stdout.write(`  ${String(count).padStart(8)} ${what}\n`)
const seconds = ((performance.now() - startedMs) / 1000).toFixed(0)
process.stdout.write(`${cutsDone} power cuts in ${seconds} s\n${runs - failed} passed, ${failed} failed\n`)
process.exitCode = failed > 0 ? 1 : 0
