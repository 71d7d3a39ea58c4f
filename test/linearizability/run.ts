/**
 * `npm run linearizability -- [--seeds N] [--killed N] [--seed S]`: histories of 16 clients, checked; the long form. With `--shared [--rounds N]` instead those
 * of two gateways over one etcd, with faults; with `--neighbours [--rounds N]` those of three that keep bytes for each other, some of which are lost; with `--renames [--rounds N]` rounds of two processes that rename directories across each other there.
 */
import { parseArgs } from 'node:util'
import { Rounds } from './rounds.ts'
import { runRenames, runShared } from './run-shared.ts'

const { values } = parseArgs({
  options: {
    /** Histories without a kill. */
    seeds: { type: 'string', default: '200' },
    /** Histories with one kill each. */
    killed: { type: 'string', default: '40' },
    /** Of the first history; the next ones count up from it. */
    seed: { type: 'string' },
    shared: { type: 'boolean', default: false },
    neighbours: { type: 'boolean', default: false },
    renames: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '100' },
  },
})
const quiet = Number(values.seeds)
const killed = Number(values.killed)
const firstSeed = Number(values.seed ?? Date.now() % 2 ** 31)

if (values.shared || values.neighbours || values.renames) {
  const { neighbours } = values
  const run = values.renames ? runRenames : runShared
  process.exit((await run({ rounds: Number(values.rounds), firstSeed, neighbours })) > 0 ? 1 : 0)
}

const rounds = new Rounds()
const totals = { operations: 0, unknown: 0, configurations: 0 }
let failed = 0
process.stdout.write(`${quiet} histories, and ${killed} through kill -9, from seed ${firstSeed}\n`)
try {
  for (let index = 0; index < quiet + killed; index++) {
    const seed = firstSeed + index
    const kills = index < quiet ? 0 : 1
    try {
      const result = await rounds.run({ seed, kills })
      totals.operations += result.operations
      totals.unknown += result.unknown
      totals.configurations += result.configurations
    } catch (error) {
      failed++
      const again = `--seeds ${kills === 0 ? 1 : 0} --killed ${kills} --seed ${seed}`
      process.stdout.write(`${(error as Error).message}\nsame choices with: npm run linearizability -- ${again}\n`)
    }
  }
} finally {
  await rounds.end()
}
process.stdout.write(
  `${totals.operations} operations, ${totals.unknown} of unknown outcome, ${totals.configurations} configurations looked at\n` +
    `${quiet + killed - failed} passed, ${failed} failed\n`,
)
process.exitCode = failed > 0 ? 1 : 0
