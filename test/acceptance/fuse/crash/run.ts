/** `npm run mount-crash -- [--rounds N]`: SIGKILL under load of the mount, in its long form. */
import { parseArgs } from 'node:util'
import { testSeed } from '../../../model/random.ts'
import { runCrashRounds } from './crash-rounds.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '50' } } })
const rounds = Number(values.rounds)
const seed = testSeed()
try {
  const total = await runCrashRounds({
    seed,
    rounds,
    onRound: ({ round, synced, begun, endedMs }) =>
      void process.stdout.write(
        `round ${round}: ${begun} steps, ${synced} of them synced; all as written, writers ended after ${endedMs} ms\n`,
      ),
  })
  process.stdout.write(`seed ${seed}: ${total.begun} steps, ${total.synced} synced, none lost\n`)
  process.stdout.write(`${rounds} passed, 0 failed\n`)
} catch (error) {
  process.stdout.write(`seed ${seed}: ${(error as Error).stack}\n`)
  process.exitCode = 1
}
