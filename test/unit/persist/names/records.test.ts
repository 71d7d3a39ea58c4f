import { expect, it } from 'vitest'
import type { NameRecord, PublishedName } from '../../../../src/persist/names/ports.ts'
import { RecordShipper } from '../../../../src/persist/names/records.ts'
import { ModelClock } from './model.ts'

const ROW = Buffer.from('row')

function shipper(
  options: {
    describe?: (published: PublishedName) => boolean
    putsFailing?: number
    held?: () => Promise<void>
    rowBytes?: number
  } = {},
) {
  const puts: string[] = []
  const rows: number[] = []
  let failing = options.putsFailing ?? 0
  let deltasWanted = 0
  const clock = new ModelClock()
  const fast = {
    nowMs: () => clock.nowMs(),
    monotonicMs: () => clock.monotonicMs(),
    sleep: (ms: number, signal?: AbortSignal): Promise<void> =>
      ms > 10_000 ? clock.sleep(ms, signal) : new Promise((resolve) => setImmediate(resolve)),
  }
  const records = new RecordShipper({
    source: {
      describe: (published) =>
        Promise.resolve(
          published.map((one) => (options.describe?.(one) === false ? undefined : recordOf(one, options.rowBytes))),
        ),
    },
    put: ({ name, bytes }) => {
      if (failing-- > 0) return Promise.reject(new Error('down'))
      puts.push(name)
      rows.push(bytes.readUInt32LE(12))
      return Promise.resolve()
    },
    ready: Promise.resolve(),
    held: options.held ?? (() => Promise.resolve()),
    clock: fast,
    lineage: 'd'.repeat(32),
    newRandom: () => '0'.repeat(16),
    waitMsMax: 60_000,
    wantDelta: () => deltasWanted++,
    onFailure: () => undefined,
  })
  return { records, puts, rows, wanted: () => deltasWanted }
}

function recordOf({ bucket, key, inode, revision }: PublishedName, rowBytes = 3): NameRecord {
  const inodeRow = Buffer.alloc(rowBytes)
  return { revision, bucket, key, inode, bucketRow: ROW, inodeRow, entryRow: ROW, extents: [] }
}

function published(revision: number, inode = revision): PublishedName {
  return { bucket: 'b', key: `k${inode}`, inode, revision }
}

it('C17: all that wait share one object', async () => {
  const { records, puts } = shipper()
  await Promise.all([1, 2, 3].map((revision) => records.named(published(revision))))
  expect(puts).toHaveLength(1)
  expect(puts[0]).toContain('0000000000000003-records-0000000000000001')
  await records.stop()
})

it('C17: what no record tells waits for a delta, which is asked for', async () => {
  const { records, puts, wanted } = shipper({ describe: ({ revision }) => revision !== 2 })
  const told: number[] = []
  const waits = [1, 2].map((revision) => records.named(published(revision)).then(() => told.push(revision)))
  await waits[0]
  expect([told, puts.length, wanted(), records.waiting]).toEqual([[1], 1, 1, 1])
  records.covered(1)
  expect(records.waiting).toBe(1)
  records.covered(2)
  await waits[1]
  expect(told).toEqual([1, 2])
  await records.stop()
})

it('C17: nobody is told before the store has answered, however often it fails', async () => {
  const { records, puts } = shipper({ putsFailing: 3 })
  await records.named(published(1))
  expect(puts).toHaveLength(1)
  await records.stop()
})

it('who waits when the gateway stops hears that the write is published', async () => {
  const { records } = shipper({ putsFailing: 1e9 })
  const told = expect(records.named(published(1))).rejects.toMatchObject({
    code: 'Unavailable',
    details: { published: true },
  })
  await records.stop()
  await told
  await expect(records.named(published(2))).rejects.toMatchObject({ code: 'Unavailable' })
})

it('C17: nobody is told before the store was seen to be ours after the object had arrived', async () => {
  const events: string[] = []
  let lost = true
  const { records, puts } = shipper({
    held: () => {
      events.push(`looked after ${puts.length} puts`)
      return lost ? Promise.reject(new Error('taken over')) : Promise.resolve()
    },
  })
  const waiting = records.named(published(1)).then(() => events.push('told'))
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
  expect(events[0]).toBe('looked after 1 puts')
  expect(events).not.toContain('told')
  lost = false
  await waiting
  expect(events.at(-1)).toBe('told')
  await records.stop()
})

it('who comes in the very turn in which the last was told is told too', async () => {
  const { records, puts } = shipper()
  await records.named(published(1))
  await records.named(published(2))
  for (let revision = 3; revision < 40; revision++) {
    for (let turn = 0; turn < revision % 7; turn++) await Promise.resolve()
    await records.named(published(revision))
  }
  expect(puts).toHaveLength(39)
  await records.stop()
})

it('large records are told in several objects, none of which is large', async () => {
  const { records, rows } = shipper({ rowBytes: 200 * 1024 })
  await Promise.all([1, 2, 3, 4, 5].map((revision) => records.named(published(revision))))
  expect(rows).toEqual([2, 2, 1])
  await records.stop()
})

it('C2: what one transaction published is told in one object, or waits for the delta as a whole', async () => {
  const large = shipper({ rowBytes: 200 * 1024 })
  await Promise.all([1, 2, 3, 4].map((inode) => large.records.named(published(7, inode))))
  expect(large.rows).toEqual([4])
  await large.records.stop()

  const { records, puts } = shipper({ describe: ({ inode }) => inode !== 3 })
  const told: number[] = []
  const waits = [1, 2, 3].map((inode) => records.named(published(7, inode)).then(() => told.push(inode)))
  await records.named(published(8))
  expect([told, puts.length, records.waiting]).toEqual([[], 1, 3])
  records.covered(7)
  await Promise.all(waits)
  await records.stop()
})

it('C17: what no record tells waits for a delta of at least that revision', async () => {
  const { records, puts, wanted } = shipper()
  let told = false
  const waiting = records.covering(5).then(() => (told = true))
  expect(wanted()).toBe(1)
  records.covered(4)
  await Promise.resolve()
  expect(told).toBe(false)
  records.covered(5)
  await waiting
  expect(puts).toEqual([])
  await records.stop()
})

it('once it is refused, who waits and who comes hears that the write is published, and why', async () => {
  const { records } = shipper({ putsFailing: 1e9 })
  const refused = { code: 'Unavailable', details: { published: true }, message: expect.stringContaining('no more') }
  const waits = expect(records.named(published(1))).rejects.toMatchObject(refused)
  records.refuse('no more')
  await waits
  await expect(records.named(published(2))).rejects.toMatchObject(refused)
  await records.stop()
})
