// needs: etcd
/** What clients of two gateways see that share their metadata in etcd (docs/decisions/0016). */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { testSeed } from '../model/random.ts'
import { SharedRounds, type Trouble } from './shared-rounds.ts'

const HISTORIES: Readonly<Record<Trouble, number>> = {
  none: 4,
  'member paused': 2,
  'member killed': 2,
  'gateway killed': 2,
}

const rounds = new SharedRounds()
beforeAll(() => rounds.start(), 120_000)
afterAll(() => rounds.end())

it.each(Object.entries(HISTORIES) as [Trouble, number][])(
  'what 16 clients of two gateways see at once is linearizable, with trouble of the kind %j (C1, C3, C5, C6, C31)',
  async (trouble, histories) => {
    const first = testSeed() + Object.keys(HISTORIES).indexOf(trouble) * 100
    for (let seed = first; seed < first + histories; seed++) {
      const { operations, unknown } = await rounds.run({ seed, trouble })
      expect(operations).toBe(320)
      if (trouble === 'none') expect(unknown).toBe(0)
    }
  },
  300_000,
)
