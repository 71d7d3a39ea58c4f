/** What a node answers while a majority of etcd does not (src/meta/raft/barrier.ts), in virtual time. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { isTidegateError } from '../../src/common/errors.ts'
import { MemoryBackend } from '../../src/meta/memory/memory-backend.ts'
import { createEtcdStore } from '../../src/meta/raft/etcd-store.ts'
import type { SharedStore } from '../../src/meta/raft/figures.ts'
import { Scheduler } from '../sim/scheduler.ts'
import { FakeEtcd } from '../support/fake-etcd.ts'
import { bytes, key, text } from './ordered-store-rows.ts'

const AWAY_AFTER_MS = 5_000
const WAIT_MS = 1_000
/** How coarsely it is looked, and how long one call to etcd takes. */
const SLACK_MS = 600

let scheduler: Scheduler
let etcd: FakeEtcd
let store: SharedStore
let told: (string | undefined)[]

const within = <T>(work: Promise<T>): Promise<T> => scheduler.until(work, 'the work')
const nowMs = (): number => scheduler.clock.monotonicMs()
const put = (name: string, value: string): Promise<unknown> =>
  store.transact(async (tx) => tx.put(key(name), bytes(value)))
const get = (name: string): Promise<string | undefined> => store.read(async (view) => text(await view.get(key(name))))

async function start(staleReads: boolean): Promise<void> {
  const client = etcd.client()
  await client.start()
  const onAway = (reason: string | undefined): void => void told.push(reason)
  const { clock } = scheduler
  store = createEtcdStore({ etcd: client, node: 1, replica: new MemoryBackend(), clock, staleReads, onAway })
  await within(store.start())
}

/** What became of it, and after how long. */
async function outcome(work: Promise<unknown>): Promise<{ told: unknown; unknown: boolean; ms: number }> {
  const sinceMs = nowMs()
  const answer = await within(
    work.then(
      (value) => ({ told: value, unknown: false }),
      (error: unknown) => {
        if (!isTidegateError(error)) throw error
        return { told: error.code, unknown: error.details['outcome'] === 'unknown' }
      },
    ),
  )
  return { ...answer, ms: nowMs() - sinceMs }
}

beforeEach(() => {
  scheduler = new Scheduler()
  etcd = new FakeEtcd({ clock: scheduler.clock, callTimeoutMs: 200 })
  told = []
})

afterEach(() => within(store.stop()))

describe('while etcd has no majority', () => {
  test('what is asked first waits for longer than a change of leader takes, what is asked later for a second', async () => {
    await start(false)
    await within(put('a', '1'))
    etcd.majority = false
    const first = await outcome(get('a'))
    expect(first).toMatchObject({ told: 'Unavailable', unknown: false })
    expect(first.ms).toBeGreaterThanOrEqual(AWAY_AFTER_MS)
    expect(first.ms).toBeLessThan(AWAY_AFTER_MS + SLACK_MS)
    expect(store.away).toContain('etcd does not answer, or has no majority')
    for (const work of [get('a'), put('a', '2'), store.transact(async (tx) => text(await tx.get(key('a'))))]) {
      const later = await outcome(work)
      expect(later).toMatchObject({ told: 'Unavailable', unknown: false })
      expect(later.ms).toBeLessThanOrEqual(WAIT_MS + SLACK_MS)
    }
    etcd.majority = true
    expect(await outcome(put('a', '3'))).toMatchObject({ told: { value: undefined } })
    expect(await outcome(get('a'))).toMatchObject({ told: '3' })
    expect(told).toEqual([expect.stringContaining('no majority'), undefined])
    expect(store.figures).toMatchObject({ outages: 1, staleReads: 0 })
  })

  test('that is noticed when nobody asks, too', async () => {
    await start(false)
    etcd.majority = false
    await within(scheduler.delay(AWAY_AFTER_MS + 3_000))
    expect(store.away).toBeDefined()
    expect((await outcome(get('a'))).ms).toBeLessThanOrEqual(WAIT_MS + SLACK_MS)
    etcd.majority = true
    await within(scheduler.delay(1_000))
    expect(store.away).toBeUndefined()
  })

  test('a change of leader is waited for', async () => {
    await start(false)
    await within(put('a', '1'))
    etcd.majority = false
    const back = scheduler.delay(2_000).then(() => (etcd.majority = true))
    expect(await outcome(get('a'))).toMatchObject({ told: '1' })
    await within(back)
    expect(told).toEqual([])
  })

  test('reads are told what is known here, if that is wanted: at once, and only while there is none (C5)', async () => {
    await start(true)
    await within(put('a', '1'))
    etcd.majority = false
    const first = await outcome(get('a'))
    expect(first.told).toBe('1')
    expect(first.ms).toBeLessThan(AWAY_AFTER_MS + SLACK_MS)
    const later = await outcome(get('a'))
    expect(later.told).toBe('1')
    expect(later.ms).toBeLessThan(SLACK_MS)
    expect(store.figures.staleReads).toBe(2)
    expect(await outcome(put('a', '2'))).toMatchObject({ told: 'Unavailable', unknown: false })
    etcd.majority = true
    await within(scheduler.delay(1_000))
    const other = etcd.client()
    await other.start()
    const second = createEtcdStore({ etcd: other, node: 2, replica: new MemoryBackend(), clock: scheduler.clock })
    await within(second.start())
    await within(second.transact(async (tx) => tx.put(key('a'), bytes('5'))))
    expect(await outcome(get('a'))).toMatchObject({ told: '5' })
    expect(store.figures.staleReads).toBe(2)
    await within(second.stop())
  })

  test('a write that may have been sent waits for its time, and then it is not known what became of it (C6)', async () => {
    await start(false)
    etcd.next('transact', { lost: 'never applied' })
    etcd.next('transact', { lost: 'never applied' })
    const sent = outcome(put('a', '1'))
    etcd.majority = false
    const { told: code, unknown, ms } = await sent
    expect([code, unknown]).toEqual(['Unavailable', true])
    expect(ms).toBeGreaterThan(AWAY_AFTER_MS)
    etcd.majority = true
  })
})
