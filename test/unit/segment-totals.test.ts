import { expect, it } from 'vitest'
import { newSegmentId } from '../../src/common/ids.ts'
import { segmentLiveKey, segmentStateKey } from '../../src/meta/namespace/keys.ts'
import { encodeSegment, type SegmentRow } from '../../src/meta/namespace/records-contents.ts'
import { SegmentTotalsCounter, type SegmentTotalsOptions } from '../../src/segment-totals.ts'
import { fixture, TestClock, type Fixture } from './meta/namespace/fixture.ts'

/** Waits for nothing: what is slow here is overdue at once. */
class PatientClock extends TestClock {
  override sleep(): Promise<void> {
    return new Promise(() => undefined)
  }
}

async function withRows(rows: readonly SegmentRow[]): Promise<Fixture> {
  const begun = await fixture()
  await begun.namespace.segmentRemoved(begun.segment)
  for (let from = 0; from < rows.length; from += 50) {
    await begun.store.transact(async (tx) => {
      for (const [index, row] of rows.slice(from, from + 50).entries()) {
        const segment = newSegmentId(from + index)
        tx.put(segmentStateKey(segment), encodeSegment(row))
        if (row.state === 'open') tx.add(segmentLiveKey(segment), [7])
      }
    })
  }
  return begun
}

const counterOf = (
  { store, clock }: Pick<SegmentTotalsOptions, 'store' | 'clock'>,
  more: Partial<SegmentTotalsOptions> = {},
): SegmentTotalsCounter =>
  new SegmentTotalsCounter({ store, clock, alive: () => new Set([1, 2]), isRemoteShared: false, ...more })

const ROWS: readonly SegmentRow[] = [
  { state: 'open', bytes: 0, node: 1, copies: [2] },
  { state: 'sealed', bytes: 10, node: 2, copies: [1] },
  { state: 'sealed', bytes: 20, node: 3, copies: [1] },
  { state: 'sealed', bytes: 30, node: 3 },
  { state: 'persisted', bytes: 40, node: 3 },
  { state: 'persisted', bytes: 50, node: 3, copies: [] },
]

it('counts whose segments there are, and what is nowhere', async () => {
  const { store, stop } = await withRows(ROWS)
  const counter = counterOf({ store, clock: new PatientClock() })
  expect(await counter.look()).toMatchObject({
    trouble: undefined,
    totals: {
      isComplete: true,
      byNode: [
        { node: 1, state: 'open', segments: 1, bytes: 7 },
        { node: 2, state: 'sealed', segments: 1, bytes: 10 },
        { node: 3, state: 'persisted', segments: 2, bytes: 90 },
        { node: 3, state: 'sealed', segments: 2, bytes: 50 },
      ],
      unreachable: [{ node: 3, segments: 3, bytes: 120 }],
    },
  })
  const shared = counterOf({ store, clock: new PatientClock() }, { isRemoteShared: true })
  expect((await shared.look()).totals?.unreachable).toEqual([{ node: 3, segments: 1, bytes: 30 }])
  await stop()
})

it('keeps what it counted for some seconds, and counts once however many ask', async () => {
  const { store, stop } = await withRows(ROWS)
  const clock = new PatientClock()
  let reads = 0
  const read: typeof store.read = (fn) => {
    reads++
    return store.read(fn)
  }
  const counter = counterOf({ store: { read }, clock })
  await Promise.all([counter.look(), counter.look()])
  await counter.look()
  expect(reads).toBe(1)
  clock.ms += 5000
  await counter.look()
  expect(reads).toBe(2)
  await stop()
})

it('tells what it knew and why there is no more, while metadata do not answer', async () => {
  const { store, stop } = await withRows(ROWS)
  const clock = new PatientClock()
  let isAway = false
  const read: typeof store.read = (fn) => (isAway ? Promise.reject(new Error('no quorum')) : store.read(fn))
  const counter = counterOf({ store: { read }, clock })
  await counter.look()
  isAway = true
  clock.ms += 5000
  expect(await counter.look()).toMatchObject({ trouble: 'no quorum', totals: { unreachable: [{ node: 3 }] } })
  const neverAnswers = counterOf({ store: { read: () => new Promise(() => undefined) }, clock: new TestClock() })
  expect(await neverAnswers.look()).toEqual({ trouble: 'they are still being counted', totals: undefined })
  await stop()
})

it('looks through all pages', async () => {
  const { store, stop } = await withRows(Array.from({ length: 2345 }, () => ({ state: 'sealed', bytes: 1, node: 2 })))
  const { totals } = await counterOf({ store, clock: new PatientClock() }).look()
  expect(totals).toMatchObject({ isComplete: true, byNode: [{ segments: 2345, bytes: 2345 }] })
  await stop()
})
