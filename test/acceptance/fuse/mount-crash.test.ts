/** What the mount holds after `kill -9` of the gateway under load. The long form: npm run mount-crash. */
import { expect, it } from 'vitest'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { testSeed } from '../../model/random.ts'
import { runCrashRounds } from './crash/crash-rounds.ts'

const SEED = testSeed()

it.skipIf(unmetNeeds() !== undefined)(
  `C20: nothing synced is lost, and no file is a mixture (seed ${SEED})`,
  { timeout: 120_000 },
  async () => {
    const { synced, begun } = await runCrashRounds({ seed: SEED, rounds: 3 })
    expect(synced).toBeGreaterThan(10)
    expect(begun).toBeGreaterThanOrEqual(synced)
  },
)
