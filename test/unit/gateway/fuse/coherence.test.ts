import { beforeEach, expect, it } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import type { ByteString, InodeId } from '../../../../src/common/ids.ts'
import { silentLogger } from '../../../../src/common/logging.ts'
import { Coherence } from '../../../../src/gateway/fuse/coherence.ts'

const ROOT: InodeId = 0
const CACHED = { entryMs: 60_000, attributesMs: 60_000 }
const NOT_CACHED = { entryMs: 0, attributesMs: 0 }
/** More changes than are remembered. */
const MANY = 5000

const WRITTEN: InodeId = 50
let alone = true
beforeEach(() => {
  alone = true
})

function setUp(told = Promise.resolve()): { coherence: Coherence; notifications: Uint8Array[]; slept: number[] } {
  const notifications: Uint8Array[] = []
  const slept: number[] = []
  const coherence = new Coherence({
    channel: {
      notify: (message) => {
        notifications.push(message)
        return told
      },
    },
    // No time passes but where nothing else ends a wait.
    clock: {
      ...systemClock,
      sleep: (ms) => {
        slept.push(ms)
        return new Promise((resolve) => setImmediate(resolve))
      },
    },
    log: silentLogger,
    isWritten: (inode) => inode === WRITTEN,
    isAlone: () => alone,
  })
  return { coherence, notifications, slept }
}

const node = (inode: InodeId): { kind: 'node'; inode: InodeId } => ({ kind: 'node', inode })
const entry = (name: string): { kind: 'entry'; parent: InodeId; name: ByteString } => ({
  kind: 'entry',
  parent: ROOT,
  name: name as ByteString,
})

it('lets the kernel keep what has not changed since it was read, and nothing else', () => {
  const { coherence } = setUp()
  const point = coherence.point()
  expect(coherence.timesSince(point, 5)).toEqual(CACHED)
  coherence.changed([node(6)])
  expect(coherence.timesSince(point, 5)).toEqual(CACHED)
  expect(coherence.timesSince(point, 5, 6)).toEqual(NOT_CACHED)
  expect(coherence.timesSince(coherence.point(), 5, 6)).toEqual(CACHED)
})

it('lets the kernel keep what it had made, unless that was changed once more before the answer', async () => {
  const { coherence } = setUp()
  const point = coherence.point()
  const own = { entries: [[ROOT, 'new' as ByteString]] as const, nodes: [ROOT] }
  await coherence.during(own, () => Promise.resolve(coherence.changed([entry('new'), node(9), node(ROOT)])))
  expect(coherence.timesOfMade(point, { parent: ROOT, made: 9 })).toEqual(CACHED)
  // As something that was read, it has changed: only the maker knows that his change is the one.
  expect(coherence.timesSince(point, ROOT, 9)).toEqual(NOT_CACHED)
  coherence.changed([node(9)])
  expect(coherence.timesOfMade(point, { parent: ROOT, made: 9 })).toEqual(NOT_CACHED)
  coherence.changed([entry('other')])
  expect(coherence.timesOfMade(coherence.point(), { parent: ROOT, made: 9 })).toEqual(CACHED)
  expect(coherence.timesOfMade(point, { parent: ROOT, made: 10 })).toEqual(NOT_CACHED)
})

it('takes everything for changed that was read before what it remembers', () => {
  const { coherence } = setUp()
  const before = coherence.point()
  coherence.changed([node(1)])
  for (let i = 0; i < MANY; i++) coherence.changed([node(2 + (i % 10))])
  expect(coherence.timesSince(before, 1)).toEqual(NOT_CACHED)
  expect(coherence.timesSince(before, 999)).toEqual(NOT_CACHED)
  const point = coherence.point()
  for (let i = 0; i < 100; i++) coherence.changed([node(2)])
  expect(coherence.timesSince(point, 3)).toEqual(CACHED)
  expect(coherence.timesSince(point, 2)).toEqual(NOT_CACHED)
})

it('tells the kernel of what others change, if it knows it, and never of its own changes', async () => {
  const { coherence, notifications } = setUp()
  coherence.changed([node(7)])
  expect(notifications).toHaveLength(0)
  coherence.known(7)
  coherence.changed([node(7), node(7), entry('name')])
  expect(notifications).toHaveLength(2)
  await coherence.during({ nodes: [7] }, () => Promise.resolve(coherence.changed([node(7)])))
  expect(notifications).toHaveLength(2)
  coherence.forget(7, 1)
  coherence.changed([node(7)])
  expect(notifications).toHaveLength(2)
})

it('keeps the pages of what this mount alone writes, and drops them when somebody else may have written or bytes are lost', async () => {
  const { coherence, notifications } = setUp()
  coherence.known(WRITTEN)
  const code = (message: Uint8Array | undefined): number => Buffer.from(message ?? []).readInt32LE(4)
  // Offset of fuse_notify_inval_inode_out: negative is "attributes only".
  const offset = (message: Uint8Array | undefined): bigint => Buffer.from(message ?? []).readBigInt64LE(24)
  coherence.changed([node(WRITTEN)])
  expect(code(notifications[0])).toBe(2)
  expect(offset(notifications[0])).toBeLessThan(0n)
  alone = false
  coherence.changed([node(WRITTEN)])
  expect(offset(notifications[1])).toBe(0n)
  alone = true
  await coherence.during({ nodes: [WRITTEN] }, () =>
    Promise.resolve(coherence.changed([{ kind: 'content', inode: WRITTEN }])),
  )
  expect(offset(notifications[2])).toBe(0n)
})

it('makes an open wait until the kernel was told of the file, not of others, and not for ever', async () => {
  const telling = Promise.withResolvers<undefined>()
  const { coherence, slept } = setUp(telling.promise)
  for (const inode of [5, 6]) coherence.known(inode)
  coherence.changed([node(5), entry('name')])
  expect([await coherence.toldOf(6), slept]).toEqual([true, []])
  const order: string[] = []
  const waiting = coherence.toldOf(5).then((isTold) => order.push(`opened ${isTold}`))
  await Promise.resolve()
  order.push('told')
  telling.resolve(undefined)
  await waiting
  expect([order, slept]).toEqual([['told', 'opened true'], [2_000]])
  await coherence.toldOf(5)
  expect(slept).toHaveLength(1)
  const stuck = setUp(new Promise(() => undefined)).coherence
  stuck.known(5)
  stuck.changed([{ kind: 'content', inode: 5 }])
  expect(await stuck.toldOf(5)).toBe(false)
})
