/** The crash simulation in its short form. The long one: npm run sim. */
import { expect, test } from 'vitest'
import { testSeed } from '../model/random.ts'
import type { SabotageKind } from './life.ts'
import { runSimulation } from './simulation.ts'

const RUNS = 250
const CUTS_PER_RUN = 8
const RUNS_TO_FIND_SABOTAGE = 40

test(
  'C11 C12 C15 C18 C21: 2,000 random power cuts lose nothing acknowledged, tear nothing and leak nothing',
  { timeout: 600_000 },
  async () => {
    const firstSeed = testSeed()
    const counts = new Map<string, number>()
    let cuts = 0
    for (let seed = firstSeed; seed < firstSeed + RUNS; seed++) {
      const result = await runSimulation({ seed, cuts: CUTS_PER_RUN })
      cuts += result.cuts
      for (const [what, count] of Object.entries(result.counts)) counts.set(what, (counts.get(what) ?? 0) + count)
    }
    expect(cuts).toBe(RUNS * CUTS_PER_RUN)
    // The workload did what it is there for.
    const wanted = ['put journal', 'put memory', 'put persisted', 'copy journal', 'complete journal', 'part copied']
    for (const what of [...wanted, 'delete', 'delete version', 'discarded', 'get', 'StorageFull', 'Unavailable']) {
      expect(counts.get(what) ?? 0, what).toBeGreaterThan(20)
    }
  },
)

test('the same seed repeats the same run', async () => {
  const one = await runSimulation({ seed: 7, cuts: 4 })
  expect(await runSimulation({ seed: 7, cuts: 4 })).toEqual(one)
})

const SABOTAGES: readonly [SabotageKind, string][] = [
  ['file-sync', 'the fdatasync of segments'],
  ['directory-sync', 'the sync of directories'],
  ['barrier', 'C15: the barrier before a metadata commit'],
  ['metadata-commit', 'the sync of metadata commits'],
]

test.each(SABOTAGES)('taking out %s is found (%s)', { timeout: 120_000 }, async (sabotage) => {
  const found: string[] = []
  for (let seed = 1; seed <= RUNS_TO_FIND_SABOTAGE && found.length === 0; seed++) {
    await runSimulation({ seed, cuts: CUTS_PER_RUN, sabotage }).catch((error: unknown) =>
      found.push((error as Error).message),
    )
  }
  expect(found[0]).toMatch(
    /lost|superseded|footer|checksum|is on no disk|ends before|never written|not recorded|not what was written|not uploaded|missing|no version/,
  )
})
