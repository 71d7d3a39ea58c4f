import { expect, it } from 'vitest'
import type { NameRecord, PublishedName } from '../../../../src/persist/names/ports.ts'
import { RecordShipper } from '../../../../src/persist/names/records.ts'
import { ModelClock } from './model.ts'

const ROW = Buffer.from('row')

function shipper(options: { describe?: (published: PublishedName) => boolean; putsFailing?: number } = {}) {
  const puts: string[] = []
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
        Promise.resolve(published.map((one) => (options.describe?.(one) === false ? undefined : recordOf(one)))),
    },
    put: ({ name }) => {
      if (failing-- > 0) return Promise.reject(new Error('down'))
      puts.push(name)
      return Promise.resolve()
    },
    clock: fast,
    lineage: 'd'.repeat(32),
    newRandom: () => '0'.repeat(16),
    waitMsMax: 60_000,
    wantDelta: () => deltasWanted++,
    onFailure: () => undefined,
  })
  return { records, puts, wanted: () => deltasWanted }
}

function recordOf({ bucket, key, inode, revision }: PublishedName): NameRecord {
  return { revision, bucket, key, inode, bucketRow: ROW, inodeRow: ROW, entryRow: ROW, extents: [] }
}

function published(revision: number): PublishedName {
  return { bucket: 'b', key: `k${revision}`, inode: revision, revision }
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
