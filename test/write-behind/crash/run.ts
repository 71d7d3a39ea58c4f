/** `npm run write-behind-crash -- [--remote external|tidegate] [--rounds N] [--random N] [--point NAME]`: the crash matrix in its long form. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { testSeed } from '../../model/random.ts'
import { startRemote, type RemoteKind } from '../remote/remote-target.ts'
import { table } from '../table.ts'
import { runCrashRounds } from './crash-rounds.ts'
import { CRASH_POINTS, isCrashPoint } from './points.ts'

const { values } = parseArgs({
  options: {
    remote: { type: 'string', multiple: true, default: ['external', 'tidegate'] },
    rounds: { type: 'string', default: '20' },
    random: { type: 'string', default: '200' },
    point: { type: 'string', multiple: true },
  },
})
const seed = testSeed()
const points = values.point?.filter(isCrashPoint) ?? CRASH_POINTS
let failed = 0
let passed = 0
for (const kind of values.remote as RemoteKind[]) {
  const directory = await mkdtemp(join(tmpdir(), 'tidegate-crash-'))
  const remote = await startRemote(kind)
  try {
    const totals = await runCrashRounds({
      seed,
      directory,
      remote,
      points,
      roundsOfPoint: Number(values.rounds),
      randomRounds: Number(values.random),
      roundsOfInspection: 20,
      onRound: ({ name, ended, acknowledged, compared }) =>
        void process.stdout.write(
          `${name}: ended ${ended}, ${compared} keys as acknowledged, then ${acknowledged} writes\n`,
        ),
    })
    const reached = points.map((point) => [point, String(totals.reached.get(point) ?? 0)])
    process.stdout.write(`${table([['point', 'kills at it'], ...reached])}\n`)
    process.stdout.write(
      `over ${remote.name}, seed ${seed}: ${totals.rounds} rounds, ${totals.acknowledged} writes acknowledged, ` +
        `${totals.compared} keys read back and compared, ${totals.inspections} inspections; ` +
        `lost 0, duplicated 0, orphaned 0 of ${totals.remoteSegments} segments\n`,
    )
    passed += totals.rounds
    await rm(directory, { recursive: true })
  } catch (error) {
    failed++
    process.stdout.write(
      `over ${remote.name}, seed ${seed}: ${(error as Error).stack}\nleft for a look: ${directory}\n`,
    )
  } finally {
    await remote.stop()
  }
}
process.stdout.write(`${passed} passed, ${failed} failed\n`)
process.exitCode = failed === 0 ? 0 : 1
