import { describe, expect, it } from 'vitest'
import { decide, decideAmong } from '../../../../../src/meta/raft/member/decide.ts'
import type { KnownMember, NodeRecord } from '../../../../../src/meta/raft/member/node-record.ts'

const record = (state: NodeRecord['state']): NodeRecord => ({
  cluster: 'c',
  state,
  memberId: '1',
  voters: 3,
  members: [],
})

const member = (port: number): KnownMember => ({
  id: String(port),
  name: `n${port}`,
  peerUrl: `http://127.0.0.1:${port}`,
  clientUrl: undefined,
  isLearner: false,
})

describe('a node that starts', () => {
  it.each([
    [undefined, false, { kind: 'ask' }],
    ['founding', false, { kind: 'start', launch: 'new' }],
    ['founding', true, { kind: 'start', launch: 'new' }],
    ['member', true, { kind: 'start', launch: 'existing' }],
    ['member', false, { kind: 'ask' }],
    ['joining', true, { kind: 'start', launch: 'existing' }],
    ['joining', false, { kind: 'ask' }],
    ['client', false, { kind: 'ask' }],
    ['removed', false, { kind: 'client' }],
  ] as const)('as %s, with data: %s', (state, hasData, step) => {
    expect(decide(state && record(state), hasData)).toEqual(step)
  })
})

describe('a node among members', () => {
  const own = { peerUrl: 'http://127.0.0.1:3', voters: 3 }

  it('takes a free place', () => expect(decideAmong([member(1), member(2)], own)).toEqual({ kind: 'add' }))

  it('is a client where none is free', () =>
    expect(decideAmong([member(1), member(2), member(4)], own)).toEqual({ kind: 'client' }))

  it('takes its own place again, full or not', () => {
    expect(decideAmong([member(3)], own)).toEqual({ kind: 'replace', member: member(3) })
    expect(decideAmong([member(1), member(2), member(3)], own)).toEqual({ kind: 'replace', member: member(3) })
  })
})
