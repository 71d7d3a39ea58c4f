/** The short form of `npm run cluster-test`. */
import { describe, expect, it } from 'vitest'
import { testSeed } from '../model/random.ts'
import { runClusterTest } from './cluster-test/cluster-test.ts'
import { summaryText, tableText } from './cluster-test/report.ts'
import type { Engine } from './engine/engine.ts'

const CLUSTER_MS_MAX = 900_000
const FAULTS = 4

export function describeCluster(engine: () => Engine, image: string): void {
  describe('three nodes by docker/compose.cluster.yml', () => {
    it(
      `lose nothing that was acknowledged, and answer nothing stale, whatever befalls them (seed ${testSeed()})`,
      { timeout: CLUSTER_MS_MAX },
      async () => {
        const steps: string[] = []
        const onStep = (step: string): void => void steps.push(step)
        const result = await runClusterTest(engine(), { seed: testSeed(), short: true, image, onStep })
        const shown = `${steps.join('\n')}\n${tableText(result.rows)}\n${summaryText(result)}`
        console.log(shown)
        const { lost, stale, wrongListings, undecided, unexpected } = result
        const nothing: string[] = []
        expect({ lost, stale, wrongListings, undecided, unexpected }).toEqual({
          lost: nothing,
          stale: nothing,
          wrongListings: nothing,
          undecided: nothing,
          unexpected: nothing,
        })
        // It has really been at work.
        expect(result.rows).toHaveLength(FAULTS + 1)
        expect(result.acknowledged).toBeGreaterThan(100)
        expect(result.readBack).toBeGreaterThan(500)
        expect(result.histories).toBeGreaterThan(FAULTS)
      },
    )
  })
}
