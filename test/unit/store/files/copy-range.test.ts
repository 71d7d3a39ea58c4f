/** copy_file_range(2) in the store: what goes by reference and what as bytes, and who waits for whom. */
import { randomBytes } from 'node:crypto'
import { beforeEach, expect, test } from 'vitest'
import { createFixture, turns, type Fixture } from './files-fixture.ts'

const KIB = 1024

let fixture: Fixture

beforeEach(() => {
  fixture = createFixture()
})

async function fileOf(name: string, bytes: Uint8Array): Promise<number> {
  const handle = await fixture.open(await fixture.make(name))
  for (let at = 0; at < bytes.length; at += 16 * KIB) {
    await fixture.files.write(handle, at, bytes.subarray(at, at + 16 * KIB), false)
  }
  return handle
}

function copy(from: number, to: number, where: { from?: number; to?: number; length: number }): Promise<number> {
  const { from: offset = 0, to: target = 0, length } = where
  return fixture.files.copyRange({ handle: from, offset }, { handle: to, offset: target }, length)
}

test('a long range goes by reference: what was written before the call is in it, and no byte is journaled twice', async () => {
  const bytes = randomBytes(100 * KIB)
  const [from, to] = [await fileOf('from', bytes), await fileOf('to', Buffer.alloc(0))]
  expect(await copy(from, to, { from: 100, to: 50, length: 2 ** 40 })).toBe(bytes.length - 100)
  expect(fixture.journal.bytes).toBe(bytes.length)
  const expected = Buffer.concat([Buffer.alloc(50), bytes.subarray(100)])
  expect((await fixture.contentOf(to)).equals(expected)).toBe(true)
  await fixture.files.write(from, 200, Buffer.from('source only'), false)
  await fixture.files.write(to, 70, Buffer.from('target only'), false)
  expected.set(Buffer.from('target only'), 70)
  expect((await fixture.contentOf(to)).equals(expected)).toBe(true)
  await fixture.files.sync(to)
  expect((await fixture.contentOf(to)).equals(expected)).toBe(true)
  expect(await copy(from, to, { from: bytes.length, length: 10 })).toBe(0)
})

test('short ranges and inline bytes are copied, holes as holes', async () => {
  const from = await fileOf('from', Buffer.from('abcdef'))
  const to = await fileOf('to', Buffer.from('0123456789'))
  expect(await copy(from, to, { from: 1, to: 3, length: 3 })).toBe(3)
  expect((await fixture.contentOf(to)).toString()).toBe('012bcd6789')
  await fixture.files.change((await fixture.files.find(1, 'from' as never)).inode, { size: 100 * KIB })
  await fixture.files.sync(from)
  const clones: string[] = []
  fixture.metadata.hook = (what) => void clones.push(what)
  let copied = 0
  while (copied < 100 * KIB) copied += await copy(from, to, { from: copied, to: copied, length: 100 * KIB - copied })
  const content = await fixture.contentOf(to)
  expect([content.length, content.subarray(0, 7).toString()]).toEqual([100 * KIB, 'abcdef\0'])
})

test('in one file ranges that overlap are refused, others are not', async () => {
  const bytes = randomBytes(160 * KIB)
  const file = await fileOf('file', bytes)
  await expect(copy(file, file, { to: 79 * KIB, length: 80 * KIB })).rejects.toMatchObject({ code: 'InvalidArgument' })
  expect(await copy(file, file, { to: 80 * KIB, length: 80 * KIB })).toBe(80 * KIB)
  bytes.copyWithin(80 * KIB, 0, 80 * KIB)
  expect((await fixture.contentOf(file)).equals(bytes)).toBe(true)
})

test('copies in opposite directions do not wait for each other, and writes go on meanwhile', async () => {
  const [one, other] = [await fileOf('one', randomBytes(90 * KIB)), await fileOf('other', randomBytes(90 * KIB))]
  let goOn: () => void = () => undefined
  const held = new Promise<void>((resolve) => (goOn = resolve))
  fixture.metadata.hook = (what) => (what === 'cloneRange' ? held : undefined)
  const copies = [
    copy(one, other, { to: 200 * KIB, length: 90 * KIB }),
    copy(other, one, { to: 300 * KIB, length: 90 * KIB }),
  ]
  await turns(20)
  await fixture.files.write(one, 0, Buffer.from('new'), false)
  goOn()
  expect(await Promise.all(copies)).toEqual([90 * KIB, 90 * KIB])
  expect((await fixture.contentOf(one, 0, 3)).toString()).toBe('new')
  expect((await fixture.contentOf(one)).length).toBe(390 * KIB)
})

test('C19, C20: refused when the disk is full; a commit that is lost is told by the next sync, once', async () => {
  const [from, to] = [await fileOf('from', randomBytes(90 * KIB)), await fileOf('to', Buffer.alloc(0))]
  await fixture.files.sync(from)
  fixture.full = new Error('full')
  await expect(copy(from, to, { length: 90 * KIB })).rejects.toThrow('full')
  fixture.full = undefined
  fixture.metadata.durable = () => Promise.reject(new Error('lost'))
  expect(await copy(from, to, { length: 90 * KIB })).toBe(90 * KIB)
  await turns()
  await expect(fixture.files.sync(to)).rejects.toThrow('lost')
})

test('C16: a file of a bucket whose level is persisted waits for what it refers to', async () => {
  const [from, to] = [await fileOf('from', randomBytes(90 * KIB)), await fileOf('to', Buffer.alloc(0))]
  await fixture.files.sync(from)
  fixture.metadata.ack = 'persisted'
  expect(await copy(from, to, { length: 90 * KIB })).toBe(90 * KIB)
  await fixture.files.sync(to)
  expect(fixture.persisted.length).toBeGreaterThan(0)
})
