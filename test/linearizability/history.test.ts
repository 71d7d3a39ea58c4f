import { afterAll, expect, it } from 'vitest'
import { testSeed } from '../model/random.ts'
import { Rounds } from './rounds.ts'

/** The short form of `npm run linearizability`. */
const HISTORIES = 12
const KILLED_HISTORIES = 4

const rounds = new Rounds()
afterAll(() => rounds.end())

it('what 16 clients see at once is linearizable, transactions and scans included (C1, C3, C31)', async () => {
  const first = testSeed()
  for (let seed = first; seed < first + HISTORIES; seed++) {
    const { operations, unknown } = await rounds.run({ seed, kills: 0 })
    expect(operations).toBe(320)
    expect(unknown).toBe(0)
  }
}, 120_000)

it('what 16 clients see is linearizable through kill -9 and a restart (C1, C15)', async () => {
  const first = testSeed() + HISTORIES
  for (let seed = first; seed < first + KILLED_HISTORIES; seed++) {
    const { operations } = await rounds.run({ seed, kills: 1 })
    expect(operations).toBe(320)
  }
}, 120_000)
