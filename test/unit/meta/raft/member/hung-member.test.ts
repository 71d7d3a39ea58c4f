import { expect, it } from 'vitest'
import { HungMember } from '../../../../../src/meta/raft/member/hung-member.ts'

const LIMITS = { silentMsMax: 30, startMsMax: 100 }

it('one that has answered may be silent for a while, one that has just been started longer', () => {
  const member = new HungMember(LIMITS)
  const see = (answers: boolean, nowMs: number, startedMs = 0): number | undefined =>
    member.see(answers, { nowMs, startedMs })
  expect([see(false, 90), see(false, 100), see(false, 101)]).toEqual([undefined, undefined, 101])
  expect(see(true, 200)).toBeUndefined()
  expect([see(false, 230), see(false, 231)]).toEqual([undefined, 31])
  // Started again: it has not answered yet.
  expect([see(false, 260, 232), see(false, 333, 232)]).toEqual([undefined, 101])
})

it('silence that is excused does not count', () => {
  const member = new HungMember(LIMITS)
  member.see(true, { nowMs: 1, startedMs: 0 })
  expect(member.see(false, { nowMs: 40, startedMs: 0 })).toBe(39)
  member.excuse(40)
  expect(member.see(false, { nowMs: 70, startedMs: 0 })).toBeUndefined()
  expect(member.see(false, { nowMs: 71, startedMs: 0 })).toBe(31)
})
