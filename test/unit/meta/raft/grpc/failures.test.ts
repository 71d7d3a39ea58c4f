import { status } from '@grpc/grpc-js'
import { expect, it } from 'vitest'
import { etcdFailure, memberFailure, meaningOf, unsent } from '../../../../../src/meta/raft/grpc/failures.ts'
import { EtcdFailure } from '../../../../../src/meta/raft/ports.ts'

it.each<[string, status, { kind: string; sent: boolean }]>([
  ['etcdserver: request timed out', status.UNAVAILABLE, { kind: 'unavailable', sent: true }],
  [
    'etcdserver: request timed out, possibly due to previous leader failure',
    status.UNAVAILABLE,
    { kind: 'unavailable', sent: true },
  ],
  ['etcdserver: server stopped', status.UNAVAILABLE, { kind: 'unavailable', sent: true }],
  ['etcdserver: leader changed', status.UNAVAILABLE, { kind: 'unavailable', sent: true }],
  ['Connection dropped', status.UNAVAILABLE, { kind: 'unavailable', sent: true }],
  ['Deadline exceeded', status.DEADLINE_EXCEEDED, { kind: 'unavailable', sent: true }],
  ['Cancelled on client', status.CANCELLED, { kind: 'unavailable', sent: true }],
  ['something new', status.INTERNAL, { kind: 'unavailable', sent: true }],
  // The answer to a transaction that was applied.
  ['Received message larger than max (5 vs 4)', status.RESOURCE_EXHAUSTED, { kind: 'unavailable', sent: true }],
  ['etcdserver: mvcc: database space exceeded', status.RESOURCE_EXHAUSTED, { kind: 'no space', sent: true }],
  ['etcdserver: too many requests', status.RESOURCE_EXHAUSTED, { kind: 'unavailable', sent: false }],
  ['etcdserver: no leader', status.UNAVAILABLE, { kind: 'unavailable', sent: false }],
  ['grpc: received message larger than max (3 vs. 2)', status.RESOURCE_EXHAUSTED, { kind: 'too large', sent: false }],
  ['etcdserver: request is too large', status.INVALID_ARGUMENT, { kind: 'too large', sent: false }],
  ['etcdserver: too many operations in txn request', status.INVALID_ARGUMENT, { kind: 'too large', sent: false }],
  ['etcdserver: duplicate key given in txn request', status.INVALID_ARGUMENT, { kind: 'malformed', sent: false }],
  ['etcdserver: mvcc: required revision has been compacted', status.OUT_OF_RANGE, { kind: 'compacted', sent: false }],
  ['etcdserver: requested lease not found', status.NOT_FOUND, { kind: 'lease gone', sent: false }],
  ['etcdserver: permission denied', status.PERMISSION_DENIED, { kind: 'refused', sent: false }],
  ['etcdserver: invalid auth token', status.UNAUTHENTICATED, { kind: 'refused', sent: false }],
])('%s', (details, code, expected) => {
  expect(meaningOf(details, code)).toMatchObject(expected)
  const told = etcdFailure(memberFailure('http://m:1', Object.assign(new Error(details), { details, code })))
  expect(told).toMatchObject({ ...expected, message: `http://m:1: ${details}` })
})

it('what is known not to have left is told so, and a failure of the port stays what it is', () => {
  expect(etcdFailure(unsent('nobody'))).toMatchObject({ kind: 'unavailable', sent: false })
  const failure = new EtcdFailure('compacted', 'gone', { sent: false })
  expect(etcdFailure(failure)).toBe(failure)
  expect(etcdFailure(new Error('odd'))).toMatchObject({ kind: 'unavailable', sent: true })
})
