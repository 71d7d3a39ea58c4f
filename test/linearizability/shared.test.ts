// needs: etcd
/** What clients of two gateways see that share their metadata in etcd (docs/decisions/0016): the short form of `npm run linearizability -- --shared`. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { testSeed } from '../model/random.ts'
import { OPERATIONS_A_ROUND, SharedRounds } from './shared-rounds.ts'

const rounds = new SharedRounds()
beforeAll(() => rounds.start(), 120_000)
afterAll(() => rounds.end())

it('what KV and S3 clients of two gateways see at once is linearizable (C1, C3, C5, C31)', async () => {
  const { operations, unknown, notDone } = await rounds.run({ seed: testSeed(), faults: 0 })
  expect({ operations, unknown, notDone }).toEqual({ operations: OPERATIONS_A_ROUND, unknown: 0, notDone: 0 })
}, 120_000)

it('so it is while members are killed, paused and cut off, and a gateway is killed (C6)', async () => {
  const { operations, faults } = await rounds.run({ seed: testSeed() + 1 })
  expect(operations).toBe(OPERATIONS_A_ROUND)
  expect(faults).toHaveLength(4)
}, 120_000)
