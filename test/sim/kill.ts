/** `npm run crash-test -- [--rounds N]`: SIGKILL under load, in its long form. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runKillRounds } from './kill-rounds.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '50' } } })
const directory = await mkdtemp(join(tmpdir(), 'tidegate-kill-'))
const logFile = join(directory, 'log')
const rounds = Number(values.rounds)
try {
  const total = await runKillRounds({
    data: join(directory, 'data'),
    rounds,
    logFile,
    onRound: ({ round, writes, checked }) =>
      void process.stdout.write(
        `round ${round}: ${checked} keys as acknowledged, then ${writes} writes until SIGKILL\n`,
      ),
  })
  process.stdout.write(`${total.writes} writes acknowledged, ${total.checked} objects read back and compared\n`)
  process.stdout.write(`${rounds} passed, 0 failed\n`)
  await rm(directory, { recursive: true })
} catch (error) {
  process.stdout.write(`${(error as Error).stack}\nleft for a look: ${directory}\n`)
  process.exitCode = 1
}
