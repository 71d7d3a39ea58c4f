import { beforeEach, describe, expect, it } from 'vitest'
import { MemoryDisk } from '../../../../src/meta/memory/memory-backend.ts'
import { Changes } from '../../../../src/meta/migrate/changes.ts'
import { etcdPages } from '../../../../src/meta/migrate/etcd-rows.ts'
import { moveFromEtcd } from '../../../../src/meta/migrate/from-etcd.ts'
import { readMoving } from '../../../../src/meta/migrate/moving-row.ts'
import { etcdToServe } from '../../../../src/meta/migrate/serving.ts'
import { moveToEtcd, type MoveReport } from '../../../../src/meta/migrate/to-etcd.ts'
import { attachmentKey, encodeAttachment } from '../../../../src/meta/namespace/attached/rows.ts'
import { takeNodeNumber } from '../../../../src/meta/raft/node-number.ts'
import type { Etcd } from '../../../../src/meta/raft/ports.ts'
import { encodeState, STATE_KEY } from '../../../../src/meta/stage/stage-state.ts'
import type { FakeEtcd } from '../../../support/fake-etcd.ts'
import {
  bytes,
  contentsOf,
  embedded,
  HANDED_OUT,
  HURRIED,
  LAYOUT,
  NAME,
  smallEtcd,
  someMetadata,
} from './moved-metadata.ts'

const ROWS = 350

interface Run {
  readonly fake: FakeEtcd
  readonly disk: MemoryDisk
  readonly name?: typeof NAME
}

async function move({ fake, disk, name = NAME }: Run): Promise<MoveReport> {
  const etcd = fake.client()
  await etcd.start()
  const backend = await embedded(disk)
  try {
    return await moveToEtcd({ etcd, layout: LAYOUT, clock: HURRIED, waitMsMax: 0, name, backend, onProgress: () => {} })
  } finally {
    await backend.close()
  }
}

async function settle(fake: FakeEtcd): Promise<Etcd> {
  const etcd = fake.client()
  await etcd.start()
  const changes = new Changes({ etcd, layout: LAYOUT, clock: HURRIED, waitMsMax: 0 })
  expect((await changes.look())?.state).toBe('arrived')
  await changes.end()
  return etcdToServe(etcd, LAYOUT)
}

/** Back again, into a new file. */
async function moveBack(fake: FakeEtcd): Promise<MemoryDisk> {
  const etcd = await settle(fake)
  let disk = new MemoryDisk()
  await moveFromEtcd({
    etcd,
    layout: LAYOUT,
    clock: HURRIED,
    waitMsMax: 0,
    name: NAME,
    node: 0,
    onProgress: () => {},
    target: (how) => embedded(how === 'empty' ? (disk = new MemoryDisk()) : disk),
  })
  return disk
}

async function keysIn(fake: FakeEtcd): Promise<number> {
  const etcd = fake.client()
  await etcd.start()
  let rows = 0
  const pages = etcdPages({ layout: LAYOUT, after: bytes(''), range: (request) => etcd.range(request) })
  for await (const page of pages) rows += page.rows.length
  return rows
}

describe('metadata that move to etcd', () => {
  let fake: FakeEtcd
  let disk: MemoryDisk
  beforeEach(async () => {
    fake = smallEtcd()
    disk = await someMetadata(ROWS)
  })

  it('are the same there, and the same again back here', async () => {
    const before = await contentsOf(disk)
    const { source, target, found } = await move({ fake, disk })
    expect(source).toEqual(target)
    expect(source.rows).toBe(before.length)
    expect(found).toBe(0)
    expect(await contentsOf(disk)).toEqual(before)
    expect(await contentsOf(await moveBack(fake))).toEqual(before)
  })

  it('C3: get revisions above all that were handed out', async () => {
    await move({ fake, disk })
    const etcd = await settle(fake)
    const { revision } = await etcd.range({ range: LAYOUT.all, limit: 1 })
    expect(revision).toBeGreaterThan(HANDED_OUT)
  })

  it.each(['fails', 'lost, applied', 'lost, never applied'] as const)(
    'C6: go on after any call %s, and never copy a page twice',
    async (what) => {
      const before = await contentsOf(disk)
      const plan =
        what === 'fails'
          ? ({ fails: 'unavailable' } as const)
          : ({ lost: what === 'lost, applied' ? 'applied' : 'never applied' } as const)
      let at = 0
      let isThrough = false
      while (!isThrough) {
        fake = smallEtcd()
        let calls = 0
        const failing = at
        const counts = (kind: string): boolean => kind === 'transact' || what === 'fails'
        fake.planner = ({ kind }) => (counts(kind) && calls++ === failing ? plan : undefined)
        await move({ fake, disk }).catch(() => {})
        isThrough = calls <= failing
        fake.planner = undefined
        const copied = await keysIn(fake)
        const { found, target } = await move({ fake, disk })
        expect(found).toBe(copied)
        expect(target.rows).toBe(before.length)
        at++
      }
      expect(at).toBeGreaterThan(what === 'fails' ? 20 : 10)
      expect(await contentsOf(await moveBack(fake))).toEqual(before)
    },
    60_000,
  )

  it('C6: wait for etcd to come back, and do each step once', async () => {
    const etcd = fake.client()
    await etcd.start()
    let calls = 0
    // Every third answer is lost, in both ways; nothing may be done twice.
    fake.planner = ({ transaction }) => {
      if (!transaction?.success.length || ++calls % 3 !== 0) return undefined
      return { lost: calls % 2 === 0 ? 'applied' : 'never applied' }
    }
    const backend = await embedded(disk)
    const options = { etcd, layout: LAYOUT, clock: HURRIED, waitMsMax: 60_000, name: NAME, backend }
    const { source, target } = await moveToEtcd({ ...options, onProgress: () => {} })
    expect(source).toEqual(target)
  })

  it('say what to do when etcd is full, and go on when it has room', async () => {
    let pages = 0
    fake.planner = ({ transaction }) => {
      if (transaction?.success.some(({ kind }) => kind === 'transaction') && ++pages === 3) fake.noSpaceAlarm = true
      return undefined
    }
    await expect(move({ fake, disk })).rejects.toMatchObject({
      code: 'StorageFull',
      message: expect.stringMatching(/over its quota.*run this again: it goes on where it stopped/),
    })
    fake.noSpaceAlarm = false
    const { found } = await move({ fake, disk })
    expect(found).toBeGreaterThan(0)
  })

  it('are copied anew when a gateway has served the data directory meanwhile', async () => {
    fake.planner = ({ transaction }) =>
      transaction?.success.some(({ kind }) => kind === 'transaction') && fake.revision > 3
        ? { fails: 'unavailable' }
        : undefined
    await expect(move({ fake, disk })).rejects.toMatchObject({ code: 'Unavailable' })
    fake.planner = undefined
    const backend = await embedded(disk)
    const state = { revision: 5, reservedThrough: HANDED_OUT + 5, trimmedThrough: 0, loggedRevisions: 0 }
    const changed = new Map([
      [bytes('D\x01'), null],
      [STATE_KEY, encodeState(state)],
    ])
    for (const { key } of backend.scan({ start: bytes('D\x01'), end: bytes('D\x02') }, 100, false))
      changed.set(key, null)
    await backend.commit([changed])
    const { found, source } = await move({ fake, disk })
    expect(found).toBe(0)
    expect(source.rows).toBe((await contentsOf(disk)).length)
    expect(await contentsOf(await moveBack(fake))).toEqual(await contentsOf(disk))
  })

  it('are refused where something is, where others are on their way, and where they were', async () => {
    const etcd = fake.client()
    await etcd.start()
    const key = LAYOUT.rowKey(bytes('D\x01'))
    const put = { kind: 'put', key, value: new Uint8Array(1) } as const
    await etcd.transact({ compares: [], success: [put], failure: [] })
    await expect(move({ fake, disk })).rejects.toMatchObject({
      message: expect.stringContaining('there is something in etcd'),
    })
    fake = smallEtcd()
    await move({ fake, disk })
    await expect(move({ fake, disk, name: bytes('another move....') })).rejects.toMatchObject({
      message: expect.stringContaining('another data directory'),
    })
    await moveBack(fake)
    await expect(move({ fake, disk })).rejects.toMatchObject({ message: expect.stringContaining('were moved into') })
  })

  it('are refused with attached buckets, before anything is written', async () => {
    const backend = await embedded(disk)
    const value = encodeAttachment({
      bucketId: 5,
      bucket: 'theirs',
      url: 's3://theirs',
      conflicts: 'keep-both',
      ttlMs: 1,
      listingTtlMs: 1,
      compareIntervalMs: 1,
      attachedMs: 1,
      phase: undefined,
    })
    await backend.commit([new Map([[attachmentKey(5), value]])])
    await expect(move({ fake, disk })).rejects.toMatchObject({
      code: 'InvalidRequest',
      message: expect.stringContaining('theirs'),
    })
    expect(fake.revision).toBe(1)
  })

  it('cannot be served before they are settled, nor joined', async () => {
    const etcd = fake.client()
    await etcd.start()
    fake.planner = ({ transaction }) => (transaction && fake.revision > 2 ? { fails: 'unavailable' } : undefined)
    await expect(move({ fake, disk })).rejects.toThrow()
    fake.planner = undefined
    const join = { etcd, layout: LAYOUT, clock: HURRIED, waitMsMax: 0, fillRandom: () => {} }
    const words = { code: 'Unavailable', message: expect.stringContaining('not all there yet') }
    await expect(etcdToServe(etcd, LAYOUT)).rejects.toMatchObject(words)
    await expect(takeNodeNumber(join)).rejects.toMatchObject(words)
    await move({ fake, disk })
    expect((await readMoving(etcd, LAYOUT))?.state).toBe('arrived')
    await expect(takeNodeNumber(join)).rejects.toMatchObject({
      message: expect.stringContaining('still has to be told'),
    })
    await settle(fake)
    expect(await takeNodeNumber(join)).toMatchObject({ number: 1 })
  })
})
