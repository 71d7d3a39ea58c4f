/** What the reclaimer does about bytes of a publish of which nobody knows yet whether it took effect: over etcd in memory, in virtual time. */
import { afterEach, expect, test } from 'vitest'
import { newSegmentId, type SegmentId } from '../../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../../src/common/limits.ts'
import { MemoryBackend } from '../../../src/meta/memory/memory-backend.ts'
import { createNamespace, type Namespace } from '../../../src/meta/namespace/namespace.ts'
import { createEtcdStore } from '../../../src/meta/raft/etcd-store.ts'
import type { EmbeddedStore } from '../../../src/meta/stage/ports.ts'
import { Moves } from '../../../src/persist/flush/moves.ts'
import { noNames } from '../../../src/persist/names/no-names.ts'
import { Reclaimer } from '../../../src/persist/reclaimer.ts'
import { Scheduler } from '../../sim/scheduler.ts'
import { FakeEtcd } from '../../support/fake-etcd.ts'
import { publishRequest } from '../meta/namespace/fixture.ts'

const TRANSACT_MS = 2_000
const LATE_MS = 5_000
const BYTES = 9_000

const scheduler = new Scheduler()
const within = <T>(work: Promise<T>): Promise<T> => scheduler.until(work, 'the work')
let store: EmbeddedStore
afterEach(() => within(store.stop()))

async function start(
  etcd: FakeEtcd,
): Promise<{ namespace: Namespace; reclaimer: Reclaimer; forgotten: SegmentId[]; removed: SegmentId[] }> {
  const { clock } = scheduler
  const client = etcd.client()
  await client.start()
  store = createEtcdStore({ etcd: client, node: 1, replica: new MemoryBackend(), clock, transactMsMax: TRANSACT_MS })
  await within(store.start())
  const namespace = createNamespace({ store, clock, limits: DEFAULT_LIMITS, nodeNumber: 1 })
  await within(namespace.join())
  const forgotten: SegmentId[] = []
  const removed: SegmentId[] = []
  const reclaimer = new Reclaimer({
    index: namespace,
    horizon: () => Infinity,
    hasPending: () => false,
    isUnsealed: () => false,
    compactBelow: 0.5,
    names: noNames,
    moves: new Moves(),
    forget: (segment) => {
      forgotten.push(segment)
      return Promise.resolve()
    },
    remove: ({ segment }) => {
      removed.push(segment)
      return Promise.resolve()
    },
    bodies: () => Promise.resolve([]),
    copyBody: () => Promise.reject(new Error('nothing is compacted')),
  })
  return { namespace, reclaimer, forgotten, removed }
}

test.each([true, false])(
  'C12: they stay until it is known, and go only if it did not (it takes effect: %s)',
  async (takesEffect) => {
    const etcd = new FakeEtcd({ clock: scheduler.clock, callTimeoutMs: 2 * LATE_MS })
    const { namespace, reclaimer, forgotten, removed } = await start(etcd)
    await within(namespace.createBucket({ name: 'bucket', owner: 'o', region: 'r', ack: 'journal' }))
    const segment = newSegmentId(scheduler.clock.nowMs())
    await within(namespace.segmentOpened(segment))
    await within(namespace.segmentChanged(segment, 'sealed', BYTES))
    const content = await within(namespace.allocateContentId())
    // Writes take their time, the attempts to find out what became of them too; reads do not.
    const sentMs = scheduler.nowMs
    etcd.next('transact', { beforeMs: LATE_MS, ...(takesEffect ? {} : { lost: 'never applied' as const }) })
    etcd.planner = ({ kind }) =>
      kind === 'transact' ? { beforeMs: Math.max(0, sentMs + LATE_MS + 1 - scheduler.nowMs) } : undefined
    const run = { content, segment, segmentOffset: 0, length: BYTES }
    const published = within(namespace.publish(publishRequest('bucket', 'key', { run })))
    await expect(published).rejects.toMatchObject({ code: 'Unavailable', details: { outcome: 'unknown' } })
    expect(scheduler.nowMs - sentMs).toBeLessThan(LATE_MS)
    expect(await within(namespace.segment(segment))).toMatchObject({ liveBytes: 0 })

    const rounds = async (): Promise<void> => {
      await reclaimer.compactSome()
      await reclaimer.step().catch(() => false)
      await reclaimer.removePersisted().catch(() => false)
    }
    await within(rounds())
    // Whoever carries it to the remote store goes on with it, too.
    expect({ forgotten, removed }).toEqual({ forgotten: [], removed: [] })
    await within(scheduler.delay(LATE_MS))
    const found = await within(namespace.segment(segment))
    expect(found?.liveBytes).toBe(takesEffect ? BYTES : removed.length === 0 ? 0 : undefined)
    await within(rounds())
    const gone = takesEffect ? [] : [segment]
    expect({ forgotten, removed }).toEqual({ forgotten: gone, removed: gone })
    expect((await within(namespace.segment(segment)))?.liveBytes).toBe(takesEffect ? BYTES : undefined)
  },
)
