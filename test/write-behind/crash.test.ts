/** `kill -9` on the way to the remote store, in its short form. The long one: npm run write-behind-crash. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { testSeed } from '../model/random.ts'
import { externalS3Lack } from '../support/external-s3-program.ts'
import { runCrashRounds } from './crash/crash-rounds.ts'
import { CRASH_POINTS } from './crash/points.ts'
import { startRemote } from './remote/remote-target.ts'

const SEED = testSeed()
const lack = await externalS3Lack()

it.skipIf(lack !== undefined)(
  `C12 C17 C21 C23: at no point of the path does kill -9 lose, duplicate or orphan anything (seed ${SEED})`,
  { timeout: 900_000 },
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tidegate-crash-'))
    const remote = await startRemote('external')
    try {
      const { acknowledged, compared, reached } = await runCrashRounds({
        seed: SEED,
        directory,
        remote,
        points: CRASH_POINTS,
        roundsOfPoint: 1,
        randomRounds: 3,
        roundsOfInspection: 1000,
      })
      expect(acknowledged).toBeGreaterThan(100)
      expect(compared).toBeGreaterThan(100)
      expect([...reached.keys()].length).toBeGreaterThan(CRASH_POINTS.length / 2)
    } finally {
      await remote.stop()
      rmSync(directory, { recursive: true, force: true })
    }
  },
)
