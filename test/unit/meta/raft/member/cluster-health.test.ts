import { describe, expect, it } from 'vitest'
import { judge } from '../../../../../src/meta/raft/member/cluster-health.ts'
import type { ClusterView, MemberHealth } from '../../../../../src/meta/raft/member/cluster-health.ts'
import { isWorthwhile, mayStandStill } from '../../../../../src/meta/raft/member/upkeep.ts'

const MIB = 2 ** 20
const QUOTA_BYTES = 1024 * MIB

function member(name: string, changed: Partial<MemberHealth> = {}): MemberHealth {
  return {
    id: name,
    name,
    peerUrl: `http://${name}:2380`,
    clientUrl: `http://${name}:2379`,
    role: name === 'a' ? 'leader' : 'follower',
    trouble: undefined,
    version: '3.6.5',
    knowsLeader: true,
    dbBytes: 100 * MIB,
    dbInUseBytes: 90 * MIB,
    lag: 0,
    ...changed,
  }
}

const away = { trouble: 'cannot be reached', knowsLeader: undefined, lag: undefined }

function view(members: readonly MemberHealth[], changed: Partial<ClusterView> = {}): ClusterView {
  return { members, alarms: [], voters: 3, quotaBytes: QUOTA_BYTES, ...changed }
}

describe('what is said of a cluster', () => {
  it('is nothing when all is well', () => {
    expect(judge(view([member('a'), member('b'), member('c')]))).toEqual({ level: 'well', words: [] })
  })

  it('is who is missing, and that there is none to spare', () => {
    expect(judge(view([member('a'), member('b'), member('c', away)]))).toEqual({
      level: 'impaired',
      words: ['not reached: c (http://c:2379): cannot be reached. If one more goes, nothing can be written'],
    })
  })

  it('is that quorum is lost, as long as it is', () => {
    const left = { knowsLeader: false, role: 'follower' } as const
    const { level, words } = judge(view([member('a', left), member('b', away), member('c', away)]))
    expect(level).toBe('failing')
    expect(words).toEqual([
      'quorum is lost: 0 of 3 voters know a leader, 2 are needed; not reached: b (http://b:2379): cannot be reached; c (http://c:2379): ' +
        'cannot be reached. Nothing can be written until enough of them are back',
    ])
  })

  it('is that nobody can be reached from here, which may be different elsewhere', () => {
    const { words } = judge(view([member('a', away), member('b', away), member('c', away)]))
    expect(words[0]).toMatch(/^quorum is lost: none of the 3 voters answers, 2 are needed/)
  })

  it('does not count learners', () => {
    const learner = member('c', { role: 'learner' })
    const { level, words } = judge(view([member('a'), member('b'), learner]))
    expect(level).toBe('impaired')
    expect(words).toEqual([
      'c (http://c:2379) does not vote yet: it is catching up',
      '2 of 3 voters are there: the loss of one stops writes',
    ])
  })

  it('is how full it is, before and after it is too late', () => {
    const full = [member('a', { dbInUseBytes: 900 * MIB }), member('b'), member('c')]
    expect(judge(view(full)).words).toEqual(['etcd is nearly full: 900 of 1024 MiB are in use (--cluster-quota)'])
    const alarmed = judge(view(full, { alarms: [{ kind: 'no space', memberId: 'a' }] }))
    expect(alarmed.level).toBe('failing')
    expect(alarmed.words[0]).toContain('only reads and deletes pass: 900 of 1024 MiB are in use')
    const corrupt = judge(view(full, { alarms: [{ kind: 'corrupt', memberId: 'b' }] }))
    expect(corrupt.words[0]).toContain('the data of b differs')
  })

  it('is who lags behind', () => {
    const { words } = judge(view([member('a'), member('b'), member('c', { lag: 20_000 })]))
    expect(words).toEqual(['c (http://c:2379) is 20000 changes behind'])
  })
})

describe('a member is defragmented', () => {
  const wasteful = { dbBytes: 600 * MIB, dbInUseBytes: 100 * MIB }

  it('when much of its file is free, and the file not small', () => {
    expect(isWorthwhile(member('b', wasteful), QUOTA_BYTES)).toBe(true)
    expect(isWorthwhile(member('b', { dbBytes: 600 * MIB, dbInUseBytes: 500 * MIB }), QUOTA_BYTES)).toBe(false)
    expect(isWorthwhile(member('b', { dbBytes: 20 * MIB, dbInUseBytes: 1 * MIB }), QUOTA_BYTES)).toBe(false)
  })

  it('only while all others are well', () => {
    const own = member('b', wasteful)
    expect(mayStandStill(own, view([member('a'), own, member('c')]))).toBe(true)
    expect(mayStandStill(own, view([member('a'), own, member('c', away)]))).toBe(false)
    expect(mayStandStill(own, view([member('a'), own, member('c', { lag: 5_000 })]))).toBe(false)
  })

  it('after the followers that need it too, if it leads', () => {
    const own = member('a', wasteful)
    expect(mayStandStill(own, view([own, member('b', wasteful), member('c')]))).toBe(false)
    expect(mayStandStill(own, view([own, member('b'), member('c')]))).toBe(true)
  })

  it('where none can be spared only when its file is more than half of the quota', () => {
    const own = member('a', wasteful)
    expect(mayStandStill(own, view([own]))).toBe(true)
    const smaller = member('a', { dbBytes: 400 * MIB, dbInUseBytes: 100 * MIB })
    expect(mayStandStill(smaller, view([smaller, member('b')]))).toBe(false)
  })
})
