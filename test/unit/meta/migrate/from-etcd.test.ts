import { beforeEach, describe, expect, it } from 'vitest'
import { MemoryDisk } from '../../../../src/meta/memory/memory-backend.ts'
import { moveFromEtcd } from '../../../../src/meta/migrate/from-etcd.ts'
import { readMoving } from '../../../../src/meta/migrate/moving-row.ts'
import { etcdToServe } from '../../../../src/meta/migrate/serving.ts'
import type { MoveReport } from '../../../../src/meta/migrate/to-etcd.ts'
import {
  directoryTimeKey,
  droppedContentKey,
  horizonKey,
  integerBytes,
  orphanKey,
  segmentStateKey,
} from '../../../../src/meta/namespace/keys.ts'
import {
  decodeDropped,
  decodeSegment,
  encodeDropped,
  encodeInteger,
  encodeSegment,
} from '../../../../src/meta/namespace/records-contents.ts'
import { deltaKey, partKey } from '../../../../src/meta/raft/counter-parts.ts'
import { encodeRow, encodeSession, uint64 } from '../../../../src/meta/raft/layout.ts'
import { takeNodeNumber } from '../../../../src/meta/raft/node-number.ts'
import type { Etcd } from '../../../../src/meta/raft/ports.ts'
import { addCounters } from '../../../../src/meta/stage/counters.ts'
import { LogKeeper } from '../../../../src/meta/stage/log-keeper.ts'
import { stageSettings } from '../../../../src/meta/stage/options.ts'
import type { FakeEtcd } from '../../../support/fake-etcd.ts'
import { bytes, contentsOf, embedded, HURRIED, LAYOUT, NAME, segmentId, smallEtcd } from './moved-metadata.ts'

const NODE = 3
const BASE = 7_000_000
const PLAIN = { rewritten: false, untold: false }
const SEGMENT = segmentId(1) as Parameters<typeof segmentStateKey>[0]

describe('metadata that move from etcd', () => {
  let fake: FakeEtcd
  let etcd: Etcd
  let disk: MemoryDisk

  const put = async (key: string, value: Uint8Array, stampAt?: number): Promise<number> => {
    const row = { kind: 'put', key: LAYOUT.rowKey(bytes(key)), value: encodeRow(value, { ...PLAIN, stampAt }) } as const
    const clock = { kind: 'put', key: LAYOUT.clock, value: new Uint8Array(20) } as const
    const { revision } = await etcd.transact({ compares: [], success: [row, clock], failure: [] })
    return revision
  }
  const own = async (key: string, value: Uint8Array): Promise<void> => {
    const row = { kind: 'put', key: bytes(key), value } as const
    await etcd.transact({ compares: [], success: [row], failure: [] })
  }
  const moveBack = async (): Promise<MoveReport> =>
    await moveFromEtcd({
      etcd: await etcdToServe(etcd, LAYOUT),
      layout: LAYOUT,
      clock: HURRIED,
      waitMsMax: 0,
      name: NAME,
      node: NODE,
      onProgress: () => {},
      target: (how) => embedded(how === 'empty' ? (disk = new MemoryDisk()) : disk),
    })

  beforeEach(async () => {
    fake = smallEtcd()
    etcd = fake.client()
    await etcd.start()
    disk = new MemoryDisk()
    await own(LAYOUT.base, Buffer.from(uint64(BASE), 'latin1'))
    await own(LAYOUT.node(NODE), new Uint8Array(16))
  })

  it('C3: have their stamps filled, their counters added up, and greater revisions to come', async () => {
    const revision = await put('I\x01stamped', Buffer.from('at________.'), 2)
    const counter = bytes('Q\x01counter')
    for (const [slot, deltas] of [
      [5, -2],
      [1, 2 ** 40],
      [0, 7],
    ].entries())
      await put(partKey(deltaKey(counter), NODE, slot), addCounters(undefined, deltas))
    await put(partKey(deltaKey(bytes('Q\x01other')), NODE, 0), addCounters(undefined, [3]))
    expect(await moveBack()).toMatchObject({ source: { rows: 3 }, target: { rows: 3 }, found: 0 })
    const backend = await embedded(disk)
    expect(backend.get(counter)).toEqual(addCounters(undefined, [6, 2 ** 40 + 5]))
    const stamped = Buffer.concat([Buffer.from('at'), Buffer.from(uint64(BASE + revision), 'latin1'), Buffer.from('.')])
    expect(Buffer.from(backend.get(bytes('I\x01stamped')) ?? '')).toEqual(stamped)
    const log = new LogKeeper(backend, stageSettings({}))
    expect(await log.open()).toBeGreaterThan(BASE + revision)
    const old = log.watch(bytes(''), BASE + revision, new AbortController().signal)
    await expect(old[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'RevisionGone' })
  })

  it('become those of node 0, which one gateway alone is', async () => {
    await put(segmentStateKey(SEGMENT), encodeSegment({ state: 'sealed', bytes: 5, node: NODE }))
    await put(orphanKey(8, `node${NODE}`), new Uint8Array(0))
    await put(directoryTimeKey(9, `node${NODE}`), Buffer.from('time'))
    await put(directoryTimeKey(9, 'node5'), Buffer.from('of a node that was forgotten'))
    await own(LAYOUT.node(5), new Uint8Array(0))
    await put(horizonKey(NODE), encodeInteger(12))
    const content = { kind: 'composite', references: 1, ownsPieces: false, length: 4 } as const
    await put(droppedContentKey(7), encodeDropped({ builder: `node${NODE}`, content }))
    await moveBack()
    const backend = await embedded(disk)
    expect(decodeSegment(backend.get(segmentStateKey(SEGMENT)) ?? new Uint8Array(0))).toEqual({
      state: 'sealed',
      bytes: 5,
    })
    expect(backend.get(orphanKey(8, 'local'))).toBeDefined()
    expect(Buffer.from(backend.get(directoryTimeKey(9, 'local')) ?? '').toString()).toBe('time')
    expect(decodeDropped(backend.get(droppedContentKey(7)) ?? new Uint8Array(0)).builder).toBe('local')
    expect(await contentsOf(disk)).toHaveLength(4)
  })

  it('are refused where another node has been, or has left something', async () => {
    await put(segmentStateKey(SEGMENT), encodeSegment({ state: 'sealed', bytes: 5, node: 9 }))
    await expect(moveBack()).rejects.toMatchObject({
      code: 'InvalidRequest',
      message: expect.stringContaining('node 9'),
    })
    await own(LAYOUT.node(9), new Uint8Array(16))
    await expect(moveBack()).rejects.toMatchObject({
      code: 'InvalidRequest',
      message: expect.stringContaining('node 9'),
    })
    expect(await readMoving(etcd, LAYOUT)).toBeUndefined()
  })

  it("let nobody join meanwhile, and are nobody's afterwards", async () => {
    await put('D\x01row', new Uint8Array(1))
    const join = { etcd, layout: LAYOUT, clock: HURRIED, waitMsMax: 0, fillRandom: () => {} }
    fake.planner = ({ request }) => (request?.range.start === LAYOUT.clock ? { fails: 'unavailable' } : undefined)
    await expect(moveBack()).rejects.toMatchObject({ code: 'Unavailable' })
    await expect(takeNodeNumber(join)).rejects.toMatchObject({
      message: expect.stringContaining('are being moved into'),
    })
    fake.planner = undefined
    await moveBack()
    await expect(takeNodeNumber(join)).rejects.toMatchObject({ message: expect.stringContaining('were moved into') })
    await expect(etcdToServe(etcd, LAYOUT)).rejects.toMatchObject({
      message: expect.stringContaining('were moved into'),
    })
  })

  it('C23: fence a process of the same node, and refuse what has changed meanwhile', async () => {
    await put('D\x01row', new Uint8Array(1))
    const { revision } = await etcd.transact({
      compares: [],
      success: [{ kind: 'put', key: LAYOUT.session(NODE), value: encodeSession(NAME, 1) }],
      failure: [],
    })
    let changed = false
    fake.planner = ({ request }) => {
      if (request?.range.start === LAYOUT.clock && !changed) {
        changed = true
        void put('D\x01late', new Uint8Array(2))
      }
      return undefined
    }
    await expect(moveBack()).rejects.toMatchObject({ message: expect.stringContaining('were changed while') })
    const [session] = (
      await etcd.range({ range: { start: LAYOUT.session(NODE), end: LAYOUT.session(NODE + 1) }, limit: 1 })
    ).rows
    expect(session?.modRevision).toBeGreaterThan(revision)
    expect(await moveBack()).toMatchObject({ source: { rows: 2 }, target: { rows: 2 }, found: 0 })
  })

  it('go on where they were after any call failed', async () => {
    for (let index = 0; index < 2500; index++) {
      const success = {
        kind: 'put',
        key: LAYOUT.rowKey(bytes(`I\x01${integerBytes(index)}`)),
        value: new Uint8Array(9),
      } as const
      await etcd.transact({ compares: [], success: [success], failure: [] })
    }
    await put('D\x01last', new Uint8Array(1))
    let most = 0
    for (let failing = 0, isThrough = false; !isThrough; failing++) {
      disk = new MemoryDisk()
      let calls = 0
      fake.planner = () => (calls++ === failing ? { fails: 'unavailable' } : undefined)
      const first = await moveBack().catch(() => undefined)
      isThrough = first !== undefined
      fake.planner = undefined
      if (isThrough) break
      const { found, target } = await moveBack()
      most = Math.max(most, found)
      expect(target.rows).toBe(2501)
      const range = { start: LAYOUT.moving, end: bytes(`${LAYOUT.moving}\0`) }
      await etcd.transact({ compares: [], success: [{ kind: 'delete', range }], failure: [] })
    }
    expect(most).toBe(2501)
  }, 60_000)
})
