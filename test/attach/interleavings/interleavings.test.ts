/** Interleavings with another program's changes, in their short form. The long one: npm run attach-interleavings. */
import { expect, test } from 'vitest'
import { testSeed } from '../../model/random.ts'
import { runRound } from './round.ts'

const ROUNDS = 150

test(
  `C32: after ${ROUNDS} random interleavings of our changes with outside ones, with crashes, no change is lost and both sides are equal`,
  { timeout: 600_000 },
  async () => {
    const firstSeed = testSeed()
    const counts = new Map<string, number>()
    let [cuts, kept] = [0, 0]
    for (let seed = firstSeed; seed < firstSeed + ROUNDS; seed++) {
      const round = await runRound(seed)
      cuts += round.cuts
      kept += round.kept
      for (const [what, count] of Object.entries(round.counts)) counts.set(what, (counts.get(what) ?? 0) + count)
    }
    // The rounds did what they are there for.
    expect(cuts).toBeGreaterThan(ROUNDS / 2)
    expect(kept).toBeGreaterThan(ROUNDS / 2)
    for (const what of [
      'put',
      'delete',
      'upload',
      'edit',
      'rename',
      'rename directory',
      'outside put',
      'outside delete',
    ]) {
      expect(counts.get(what) ?? 0, what).toBeGreaterThan(20)
    }
  },
)

test('the same seed repeats the same round', async () => {
  const one = await runRound(7)
  expect(await runRound(7)).toEqual(one)
})
