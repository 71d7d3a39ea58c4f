import { beforeEach, expect, test } from 'vitest'
import { segmentObjectName } from '../../../../src/persist/remote/ports.ts'
import { segmentNumber, withoutTableCrc } from '../fixtures.ts'
import { RemoteFixture } from './remote-fixture.ts'

const SEGMENT = segmentNumber(0x77)
const NAME = segmentObjectName(SEGMENT)
let fixture: RemoteFixture

beforeEach(() => {
  fixture = new RemoteFixture()
})

function readRun(firstBlock: number, slots: readonly number[]): Promise<number[]> {
  return fixture.finish(Promise.all(fixture.remote.read(SEGMENT, firstBlock, slots)))
}

function bytesAt(slot: number | undefined, length: number): Buffer {
  return Buffer.from(fixture.slab.view(slot as number, length))
}

test('blocks that follow each other come by one request, checked by a table that is fetched once', async () => {
  const { data } = await fixture.upload(SEGMENT, 2000)
  const [first, second, third] = fixture.slots(3)
  expect(await readRun(1, [first, second] as number[])).toEqual([256, 256])
  expect(Buffer.concat([bytesAt(first, 256), bytesAt(second, 256)])).toEqual(data.subarray(256, 768))
  const table = `${data.length}+${Math.ceil(data.length / 64) * 4 + 4}`
  expect(fixture.reads.sort()).toEqual([table, '256+512'].sort())
  const last = Math.floor(data.length / 256)
  expect(await readRun(last, [third] as number[])).toEqual([data.length - last * 256])
  expect(bytesAt(third, data.length - last * 256)).toEqual(data.subarray(last * 256))
  expect(fixture.reads.length).toBe(3)
  expect(fixture.badBlocks).toEqual([])
})

test('a block is given out when it is there and checked, while the rest is on its way; a failure waits for the end', async () => {
  const { data } = await fixture.upload(SEGMENT, 2000)
  await readRun(7, fixture.slots(1))
  const end = Promise.withResolvers<number>()
  fixture.takeOver = (into, onFilled) => {
    data.copy(into[0] as Buffer, 0, 0, 256)
    onFilled?.(0)
    return end.promise
  }
  const [first, second] = fixture.remote.read(SEGMENT, 0, fixture.slots(2)) as [Promise<number>, Promise<number>]
  let isSettled = false
  second.catch(() => undefined).finally(() => (isSettled = true))
  expect(await fixture.finish(first)).toBe(256)
  expect(isSettled).toBe(false)
  end.reject(new Error('it broke'))
  await expect(fixture.finish(second)).rejects.toMatchObject({ code: 'Unavailable' })
})

test('blocks beyond the end are asked of nobody, so no failure of the store is left unheard', async () => {
  await fixture.upload(SEGMENT, 600)
  fixture.takeOver = () => Promise.reject(new Error('down'))
  await expect(readRun(9, fixture.slots(2))).rejects.toMatchObject({ code: 'DataLost' })
  expect(fixture.reads).toEqual([])
})

test('what was fetched is offered to the disk level with its checksums', async () => {
  const { data } = await fixture.upload(SEGMENT, 600)
  await readRun(0, fixture.slots(3))
  expect([...fixture.disk.blocks.keys()]).toEqual([0, 1, 2].map((block) => `${SEGMENT}/${block}`))
  const kept = fixture.disk.blocks.get(`${SEGMENT}/2`)
  expect([kept?.bytes, kept?.pageCrcs.length]).toEqual([data.subarray(512), Math.ceil((data.length - 512) / 64)])
})

test('C14: a bad page is fetched once more, alone, and counted', async () => {
  const { data } = await fixture.upload(SEGMENT, 2000)
  let spoilt = 0
  fixture.spoil = (offset, into) => {
    if (offset === 0 && spoilt++ === 0) into[1]?.set([1, 2, 3], 70)
  }
  const slots = fixture.slots(3)
  expect(await readRun(0, slots)).toEqual([256, 256, 256])
  expect(bytesAt(slots[1], 256)).toEqual(data.subarray(256, 512))
  expect(fixture.badBlocks).toEqual(['1'])
  expect(fixture.reads.filter((read) => !read.startsWith(String(data.length)))).toEqual(['0+768', '256+256'])
})

test('C14: a page that stays bad is DataLost that names segment and block; its neighbours are not', async () => {
  await fixture.upload(SEGMENT, 2000, (sealed) => {
    const bad = Buffer.from(sealed)
    bad.writeUInt8(bad.readUInt8(300) ^ 1, 300)
    return bad
  })
  const outcomes = await fixture.finish(Promise.allSettled(fixture.remote.read(SEGMENT, 0, fixture.slots(3))))
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
  expect(outcomes[1]).toMatchObject({ reason: { code: 'DataLost', details: { segment: SEGMENT, block: 1 } } })
  expect(fixture.badBlocks).toEqual(['1', '1'])
  expect([...fixture.disk.blocks.keys()]).toEqual([`${SEGMENT}/0`, `${SEGMENT}/2`])
})

test('an object that ends too soon is DataLost for the blocks that it does not hold', async () => {
  await fixture.upload(SEGMENT, 2000)
  const table = await readRun(0, fixture.slots(1))
  expect(table).toEqual([256])
  const whole = fixture.memory.objects.get(NAME)
  if (whole) fixture.memory.objects.set(NAME, { ...whole, bytes: whole.bytes.subarray(0, 600) })
  const outcomes = await fixture.finish(Promise.allSettled(fixture.remote.read(SEGMENT, 1, fixture.slots(3))))
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected'])
  expect(outcomes[2]).toMatchObject({ reason: { code: 'DataLost', details: { segment: SEGMENT, block: 3 } } })
})

test('a segment that the remote store does not have is DataLost in words; one that metadata does not know too', async () => {
  await fixture.upload(SEGMENT, 600)
  fixture.memory.objects.delete(NAME)
  const error = await readRun(0, fixture.slots(1)).catch((reason: unknown) => reason)
  expect(error).toMatchObject({
    code: 'DataLost',
    message: expect.stringContaining(`s3://bucket/prefix has no ${NAME}`),
  })
  fixture.index.rows.clear()
  await expect(readRun(0, fixture.slots(1))).rejects.toMatchObject({ code: 'DataLost' })
  await fixture.upload(SEGMENT, 100)
  await expect(readRun(3, fixture.slots(1))).rejects.toMatchObject({ code: 'DataLost' })
})

test('segments from before the table had a checksum are read by their whole footer, fetched once', async () => {
  const { data } = await fixture.upload(SEGMENT, 2000, (sealed) => withoutTableCrc(sealed, imageDataBytes(sealed)))
  expect(await readRun(0, fixture.slots(2))).toEqual([256, 256])
  expect(fixture.reads.filter((read) => read.startsWith(`${data.length}+`)).length).toBe(2)
  expect(await readRun(2, fixture.slots(1))).toEqual([256])
  expect(fixture.reads.length).toBe(4)
})

function imageDataBytes(sealed: Buffer): number {
  return Number(sealed.readBigUInt64LE(sealed.length - 40))
}

test('a table that came damaged is fetched again with the footer; a footer that stays damaged is DataLost', async () => {
  const { data } = await fixture.upload(SEGMENT, 600)
  let spoilt = 0
  fixture.spoil = (offset, into) => {
    if (offset === data.length && spoilt++ === 0) into[0]?.fill(7, 0, 1)
  }
  expect(await readRun(0, fixture.slots(1))).toEqual([256])
  fixture.remote.forget(SEGMENT)
  fixture.spoil = (offset, into) => {
    if (offset === data.length) into[0]?.fill(7, 0, 1)
  }
  await expect(readRun(0, fixture.slots(1))).rejects.toMatchObject({ code: 'DataLost' })
  fixture.spoil = () => undefined
  expect(await readRun(0, fixture.slots(1))).toEqual([256])
})

test('the footer of a remote segment tells its bodies', async () => {
  const { bodies, data } = await fixture.upload(SEGMENT, 600)
  const footer = await fixture.finish(fixture.remote.footer(SEGMENT))
  expect([footer.bodies, footer.dataBytes]).toEqual([bodies, data.length])
  fixture.memory.objects.delete(NAME)
  await expect(fixture.finish(fixture.remote.footer(SEGMENT))).rejects.toMatchObject({ code: 'DataLost' })
})

test('the remote store being down is Unavailable, at once after some failures, and over by itself', async () => {
  await fixture.upload(SEGMENT, 2000)
  fixture.faulty.faults.down = true
  const slots = fixture.slots(1)
  for (let count = 0; count < 50; count++) {
    await expect(readRun(0, slots)).rejects.toMatchObject({ code: 'Unavailable' })
  }
  expect(fixture.reads.length).toBeLessThan(10)
  fixture.faulty.faults.down = false
  const recoveredMs = fixture.scheduler.nowMs
  for (;;) {
    const length = await readRun(0, slots).catch(() => undefined)
    if (length) break
    fixture.scheduler.nowMs += 100
  }
  expect(fixture.scheduler.nowMs - recoveredMs).toBeLessThan(5000)
  expect(await readRun(3, slots)).toEqual([256])
})

test('refused credentials are Unavailable to who reads: they are not his', async () => {
  await fixture.upload(SEGMENT, 600)
  fixture.faulty.faults.revoked = true
  await expect(readRun(0, fixture.slots(1))).rejects.toMatchObject({ code: 'Unavailable' })
})

test('a store that lies in wait is given up at a deadline', async () => {
  await fixture.upload(SEGMENT, 600)
  fixture.faulty.faults.latencyMs = () => 3_600_000
  const slots = fixture.slots(1)
  const reading = Promise.allSettled(fixture.remote.read(SEGMENT, 0, slots))
  const [outcome] = await fixture.finish(reading)
  expect(outcome).toMatchObject({ reason: { code: 'Unavailable' } })
  expect(fixture.scheduler.nowMs).toBeLessThan(30_000)
})
