import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { AssertionFailed } from '../../../../../src/common/assert.ts'
import type { ByteString } from '../../../../../src/common/ids.ts'
import type { EntryReply } from '../../../../../src/gateway/fuse/protocol/attributes.ts'
import { DirectoryReply, type DirectoryEntry } from '../../../../../src/gateway/fuse/protocol/directory-reply.ts'
import { hex, hexOf, zeros } from './messages.ts'

function entry(name: string, nextOffset = 1): DirectoryEntry {
  return { name: name as ByteString, inode: 5, mode: 0o100644, nextOffset }
}

function dirtyReply(): DirectoryReply {
  const reply = new DirectoryReply()
  reply.bytes.fill(0xee)
  return reply
}

const TIME = { seconds: 0, nanoseconds: 0 }
const FOUND: EntryReply = {
  nodeId: 5,
  attributes: {
    inode: 5,
    sizeBytes: 0,
    blocks: 0,
    atime: TIME,
    mtime: TIME,
    ctime: TIME,
    btime: undefined,
    mode: 0o40755,
    linkCount: 2,
    uid: 0,
    gid: 0,
    device: 0,
    blockBytes: 4096,
  },
  cacheTimes: { entryMs: 1000, attributesMs: 1000 },
}

it('packs dirents, 24 bytes and the name, with zeros up to 8', () => {
  const reply = dirtyReply()
  reply.begin(4096)
  expect(reply.isEmpty).toBe(true)
  expect(reply.add(entry('abc', 1))).toBe(true)
  expect(reply.add({ ...entry('12345678', 2), mode: 0o40755 })).toBe(true)
  expect(hexOf(reply.bytes, reply.finish(2))).toBe(
    hex(`50000000 00000000 0200000000000000
      0500000000000000 0100000000000000 03000000 08000000 6162630000000000
      0500000000000000 0200000000000000 08000000 04000000 3132333435363738`),
  )
})

it('packs direntplus, 152 bytes and the name, and mere names with node 0', () => {
  const reply = dirtyReply()
  reply.begin(4096)
  expect(reply.addPlus({ ...entry('.', 1), mode: 0o40755 }, undefined)).toBe(true)
  expect(reply.addPlus({ ...entry('d', 2), mode: 0o40755 }, FOUND)).toBe(true)
  expect(hexOf(reply.bytes, reply.finish(2))).toBe(
    hex(`50010000 00000000 0200000000000000
      ${zeros(128)} 0500000000000000 0100000000000000 01000000 04000000 2e00000000000000
      0500000000000000 ${zeros(8)} 0100000000000000 0100000000000000 ${zeros(8)} 0500000000000000 ${zeros(52)} ed410000
      02000000 ${zeros(12)} 00100000 00000000 0500000000000000 0200000000000000 01000000 04000000 6400000000000000`),
  )
})

it('is full exactly when the next entry does not fit, to the byte', () => {
  for (const [name, needed] of [
    ['a', 32],
    ['12345678', 32],
    ['123456789', 40],
  ] as const) {
    const reply = dirtyReply()
    reply.begin(needed - 1)
    expect(reply.add(entry(name))).toBe(false)
    expect(reply.finish(2)).toBe(16)
    reply.begin(needed)
    expect(reply.add(entry(name))).toBe(true)
    expect(reply.add(entry(name))).toBe(false)
    expect(reply.finish(2)).toBe(16 + needed)
    reply.begin(needed + 127)
    expect(reply.addPlus(entry(name), FOUND)).toBe(false)
    reply.begin(needed + 128)
    expect(reply.addPlus(entry(name), FOUND)).toBe(true)
    expect(reply.finish(2)).toBe(16 + needed + 128)
  }
})

it('stays within its own memory, whatever is asked for', () => {
  const reply = new DirectoryReply(100)
  reply.begin(0xffffffff)
  expect([reply.add(entry('a')), reply.add(entry('b')), reply.add(entry('c')), reply.add(entry('d'))]).toEqual([
    true,
    true,
    true,
    false,
  ])
})

it('refuses names that would fail the whole listing', () => {
  const reply = new DirectoryReply()
  reply.begin(4096)
  expect(() => reply.add(entry(''))).toThrow(AssertionFailed)
  expect(() => reply.add(entry('x'.repeat(1025)))).toThrow(AssertionFailed)
})

it('packs what a reader by the layout finds again', () => {
  const name = fc.uint8Array({ min: 0x30, minLength: 1, maxLength: 255, size: 'max' })
  const names = fc.array(
    name.map((bytes) => Buffer.from(bytes).toString('latin1')),
    { maxLength: 60, size: 'max' },
  )
  fc.assert(
    fc.property(names, fc.integer({ min: 0, max: 8192 }), fc.boolean(), (all, sizeBytes, isPlus) => {
      const reply = dirtyReply()
      reply.begin(sizeBytes)
      let count = 0
      while (count < all.length) {
        const next = entry(all[count] ?? '', count + 1)
        if (!(isPlus ? reply.addPlus(next, FOUND) : reply.add(next))) break
        count++
      }
      const lengthBytes = reply.finish(2)
      expect(lengthBytes).toBeLessThanOrEqual(16 + sizeBytes)
      const found: string[] = []
      const bytes = Buffer.from(reply.bytes.buffer, reply.bytes.byteOffset, lengthBytes)
      for (let at = 16; at < lengthBytes;) {
        const dirent = isPlus ? at + 128 : at
        const nameBytes = bytes.readUInt32LE(dirent + 16)
        found.push(bytes.toString('latin1', dirent + 24, dirent + 24 + nameBytes))
        expect(Number(bytes.readBigUInt64LE(dirent + 8))).toBe(found.length)
        at = 16 + Math.ceil((dirent + 24 + nameBytes - 16) / 8) * 8
      }
      expect(found).toEqual(all.slice(0, count))
    }),
  )
})
