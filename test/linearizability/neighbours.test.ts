// needs: etcd
/** What clients of three gateways see that keep bytes for each other (docs/decisions/0018): the short form of `npm run linearizability -- --neighbours`. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { testSeed } from '../model/random.ts'
import { OPERATIONS_A_ROUND, SharedRounds } from './shared-rounds.ts'

const rounds = new SharedRounds({ neighbours: true })
beforeAll(() => rounds.start())
afterAll(() => rounds.end())

it('what KV and S3 clients of three neighbours see at once is linearizable, whosever the bytes are (C1, C3, C5)', async () => {
  const { operations, unknown, notDone } = await rounds.run({ seed: testSeed(), faults: 0 })
  expect({ operations, unknown, notDone }).toEqual({ operations: OPERATIONS_A_ROUND, unknown: 0, notDone: 0 })
})

it('so it is while gateways are killed and paused (C6, C17)', async () => {
  const { operations, faults } = await rounds.run({ seed: testSeed() + 1 })
  expect(operations).toBe(OPERATIONS_A_ROUND)
  expect(faults).toHaveLength(4)
})
