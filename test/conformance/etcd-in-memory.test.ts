/** The twin in memory: that it does what etcd does (etcd.ts), and its faults, which the tests of the store over it rest on. */
import { beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import type { EtcdOperation, TransactionResult } from '../../src/meta/raft/ports.ts'
import { FakeEtcd } from '../support/fake-etcd.ts'
import type { FakeEtcdClient } from '../support/fake-etcd.ts'
import { bytes, put, testEtcd } from './etcd.ts'
import { HandClock } from './hand-clock.ts'

const shared = new FakeEtcd({ clock: systemClock })
testEtcd('in memory', {
  start: () => Promise.resolve(),
  client: () => shared.client(),
  compact: (revision) => Promise.resolve(shared.compact(revision)),
  stop: () => Promise.resolve(),
})

describe('faults of etcd in memory', () => {
  const EVERYTHING = { start: bytes('a'), end: bytes('z') }
  let clock: HandClock
  let etcd: FakeEtcd
  let client: FakeEtcdClient
  beforeEach(async () => {
    clock = new HandClock()
    etcd = new FakeEtcd({ clock, callTimeoutMs: 1_000 })
    client = etcd.client()
    await client.start()
  })

  const write = (by: FakeEtcdClient, ...success: EtcdOperation[]): Promise<TransactionResult> =>
    by.transact({ compares: [], success, failure: [] })
  const keysOf = async (by: FakeEtcdClient, serializable = false): Promise<string[]> =>
    (await by.range({ range: EVERYTHING, limit: 0, serializable })).rows.map((row) => row.key)
  /** The outcome, once it is there; `pending` before. */
  const outcomeOf = (call: Promise<unknown>): { now: () => unknown } => {
    let outcome: unknown = 'pending'
    call.then(
      () => (outcome = 'done'),
      (error: unknown) => (outcome = error),
    )
    return { now: () => outcome }
  }
  const follow = (by: FakeEtcdClient): string[] => {
    const told: string[] = []
    const all = async (): Promise<void> => {
      for await (const batch of by.watch(EVERYTHING, 1, new AbortController().signal))
        told.push(...batch.map((change) => change.key))
    }
    all().catch((error: { kind: string }) => told.push(error.kind))
    return told
  }

  it('delay before and after something is applied', async () => {
    etcd.next('transact', { beforeMs: 100, afterMs: 200 })
    const outcome = outcomeOf(write(client, put(bytes('a'), '')))
    expect(await keysOf(client)).toEqual([])
    await clock.advance(100)
    expect(await keysOf(client)).toEqual(['a'])
    expect(outcome.now()).toBe('pending')
    await clock.advance(200)
    expect(outcome.now()).toBe('done')
  })

  it('lose an answer: of what was applied, of what never is, and of what is applied after it was told to have failed', async () => {
    const lost = { kind: 'unavailable', sent: true }
    etcd.next('transact', { lost: 'applied' })
    await expect(write(client, put(bytes('a'), ''))).rejects.toMatchObject(lost)
    etcd.next('transact', { lost: 'never applied' })
    await expect(write(client, put(bytes('b'), ''))).rejects.toMatchObject(lost)
    etcd.next('transact', { beforeMs: 1_500 })
    const late = outcomeOf(write(client, put(bytes('c'), '')))
    await clock.advance(1_000)
    expect(late.now()).toMatchObject(lost)
    expect(await keysOf(client)).toEqual(['a'])
    await clock.advance(500)
    expect(await keysOf(client)).toEqual(['a', 'c'])
  })

  it('refuse without sending, and tell of a quota that was passed by what was applied', async () => {
    etcd.next('transact', { fails: 'unavailable' })
    await expect(write(client, put(bytes('a'), ''))).rejects.toMatchObject({ kind: 'unavailable', sent: false })
    etcd.next('transact', { answer: 'no space' })
    await expect(write(client, put(bytes('b'), ''))).rejects.toMatchObject({ kind: 'no space', sent: true })
    expect(await keysOf(client)).toEqual(['b'])
    etcd.noSpaceAlarm = true
    await expect(write(client, put(bytes('c'), ''))).rejects.toMatchObject({ kind: 'no space', sent: true })
    const inner = { compares: [], success: [put(bytes('d'), '')], failure: [] }
    await write(client, { kind: 'delete', range: EVERYTHING }, { kind: 'transaction', transaction: inner }).catch(
      (error: unknown) => expect(error).toMatchObject({ kind: 'malformed' }),
    )
    await write(client, { kind: 'transaction', transaction: inner })
    expect(await keysOf(client)).toEqual(['b', 'd'])
  })

  it('ask a planner at every call that nothing was said about', async () => {
    const asked: string[] = []
    etcd.planner = ({ kind }) => {
      asked.push(kind)
      return kind === 'range' ? { fails: 'unavailable' } : undefined
    }
    await write(client, put(bytes('a'), ''))
    await expect(keysOf(client)).rejects.toMatchObject({ kind: 'unavailable' })
    etcd.next('range', {})
    expect(await keysOf(client)).toEqual(['a'])
    expect(asked).toEqual(['transact', 'range'])
  })

  it('take the majority away: only what may be old is read', async () => {
    await write(client, put(bytes('a'), ''))
    etcd.majority = false
    const outcome = outcomeOf(write(client, put(bytes('b'), '')))
    expect(await keysOf(client, true)).toEqual(['a'])
    await clock.advance(1_000)
    expect(outcome.now()).toMatchObject({ kind: 'unavailable', sent: true })
    etcd.majority = true
    expect(await keysOf(client)).toEqual(['a'])
  })

  it('cut one client off, or hold its member back, while others go on', async () => {
    const other = etcd.client()
    await other.start()
    const told = follow(client)
    await write(other, put(bytes('a'), ''))
    await expect.poll(() => told).toEqual(['a'])
    client.hold()
    await write(other, put(bytes('b'), ''))
    expect(await keysOf(client, true)).toEqual(['a'])
    expect(await keysOf(client)).toEqual(['a', 'b'])
    expect(told).toEqual(['a'])
    client.release()
    await expect.poll(() => told).toEqual(['a', 'b'])
    client.reachable = false
    await expect(keysOf(client)).rejects.toMatchObject({ kind: 'unavailable' })
    await write(other, put(bytes('c'), ''))
    expect(told).toEqual(['a', 'b'])
    client.reachable = true
    await expect.poll(() => told).toEqual(['a', 'b', 'c'])
  })

  it('end watches: because they must, and because what they missed was compacted', async () => {
    const told = follow(client)
    client.failWatches('unavailable')
    await expect.poll(() => told).toEqual(['unavailable'])
    const again = follow(client)
    client.hold()
    await write(client, put(bytes('a'), ''))
    const { revision } = await write(client, put(bytes('a'), ''))
    etcd.compact(revision)
    client.release()
    await expect.poll(() => again).toEqual(['compacted'])
  })

  it('let leases run out by the clock', async () => {
    const lease = await client.grantLease(10)
    await write(client, { kind: 'put', key: bytes('a'), value: new Uint8Array(0), lease })
    await clock.advance(9_000)
    expect(await client.keepLease(lease)).toBe(10)
    await clock.advance(9_000)
    expect(await keysOf(client)).toEqual(['a'])
    await clock.advance(1_000)
    expect(await keysOf(client)).toEqual([])
    expect(await client.keepLease(lease)).toBe(0)
  })
})
