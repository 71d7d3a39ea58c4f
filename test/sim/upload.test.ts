/** The crash simulation with segments that are uploaded to a store which outlives the machine. The long form: npm run sim -- --remote upload. */
import { expect, test } from 'vitest'
import { testSeed } from '../model/random.ts'
import { runSimulation } from './simulation.ts'

const RUNS = 40
const CUTS_PER_RUN = 8
const RUNS_TO_FIND_SABOTAGE = 20

test(
  'C12 C17 C21: power cuts on the way to the remote store lose nothing acknowledged and orphan nothing',
  { timeout: 300_000 },
  async () => {
    const firstSeed = testSeed()
    const counts = new Map<string, number>()
    for (let seed = firstSeed; seed < firstSeed + RUNS; seed++) {
      const result = await runSimulation({ seed, cuts: CUTS_PER_RUN, remote: 'upload' })
      for (const [what, count] of Object.entries(result.counts)) counts.set(what, (counts.get(what) ?? 0) + count)
    }
    for (const what of ['put journal', 'put memory', 'put persisted', 'complete journal', 'get', 'Unavailable']) {
      expect(counts.get(what) ?? 0, what).toBeGreaterThan(20)
    }
  },
)

test('the same seed repeats the same run', async () => {
  const one = await runSimulation({ seed: 7, cuts: 4, remote: 'upload' })
  expect(await runSimulation({ seed: 7, cuts: 4, remote: 'upload' })).toEqual(one)
})

test('a store that says "done" before it is done is found', { timeout: 120_000 }, async () => {
  const found: string[] = []
  for (let seed = 1; seed <= RUNS_TO_FIND_SABOTAGE && found.length === 0; seed++) {
    await runSimulation({ seed, cuts: CUTS_PER_RUN, remote: 'upload', sabotage: 'upload' }).catch((error: unknown) =>
      found.push((error as Error).message),
    )
  }
  expect(found[0]).toMatch(/is on no disk|stored nowhere|missing/)
})
