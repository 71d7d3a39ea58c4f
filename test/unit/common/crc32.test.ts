import { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 as zlibCrc32 } from 'node:zlib'
import * as fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { must } from '../../../src/common/assert.ts'
import { crc32, nativePageReader, prepareCrc32 } from '../../../src/common/crc32.ts'

const PAGE_BYTES = 4096

const isNativeHere = await prepareCrc32().then(() => nativePageReader() !== undefined)

test('says the same as zlib, of any length, at any alignment, and continued', () => {
  const start = fc.nat({ max: 31 })
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5000 }), start, fc.nat({ max: 0xffffffff }), (bytes, from, before) => {
      const some = bytes.subarray(from)
      expect(crc32(some, before)).toBe(zlibCrc32(some, before))
      const half = some.length >> 1
      expect(crc32(some.subarray(half), crc32(some.subarray(0, half)))).toBe(zlibCrc32(some))
    }),
  )
  const shared = new Uint8Array(new SharedArrayBuffer(300_000)).fill(0xa7)
  for (const length of [255, 256, 257, 65_536, 299_999]) {
    expect(crc32(shared.subarray(1, length))).toBe(zlibCrc32(shared.subarray(1, length)))
  }
})

describe.runIf(isNativeHere)('pages read by the native twin (C14)', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-crc32-'))
  const path = join(directory, 'pages')
  const content = Uint8Array.from({ length: 3 * PAGE_BYTES + 100 }, (_, at) => Math.imul(at + 7, 2654435761) >>> 24)
  const crcs = Uint32Array.from({ length: 4 }, (_, page) =>
    zlibCrc32(content.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)),
  )
  let readPages: NonNullable<ReturnType<typeof nativePageReader>>
  let descriptor: number
  let into: Uint8Array

  beforeAll(() => {
    readPages = must(nativePageReader(), 'the native twin')
    writeFileSync(path, content)
    descriptor = openSync(path, 'r')
  })
  beforeEach(() => {
    writeFileSync(path, content)
    into = new Uint8Array(new SharedArrayBuffer(content.length))
  })
  afterAll(() => {
    closeSync(descriptor)
    rmSync(directory, { recursive: true })
  })

  test('the bytes arrive, from the start of the file or from within', () => {
    expect(readPages(descriptor, into, 0, PAGE_BYTES, crcs)).toBe(0)
    expect(into).toEqual(content)
    const rest = into.subarray(0, PAGE_BYTES + 100)
    expect(readPages(descriptor, rest, 2 * PAGE_BYTES, PAGE_BYTES, crcs.subarray(2))).toBe(0)
    expect(rest).toEqual(content.slice(2 * PAGE_BYTES))
  })

  test('one wrong bit in any page is found, and in any checksum', () => {
    for (const at of [0, PAGE_BYTES - 1, PAGE_BYTES, 2 * PAGE_BYTES + 77, content.length - 1]) {
      const damaged = content.slice()
      damaged[at] = (damaged[at] ?? 0) ^ 0x10
      writeFileSync(path, damaged)
      expect(readPages(descriptor, into, 0, PAGE_BYTES, crcs)).toBe(1)
    }
    writeFileSync(path, content)
    const wrong = crcs.slice()
    wrong[3] = (wrong[3] ?? 0) ^ 1
    expect(readPages(descriptor, into, 0, PAGE_BYTES, wrong)).toBe(1)
  })

  test('a file that ends too early is bad; a descriptor that cannot be read and wrong numbers are failures', () => {
    truncateSync(path, content.length - 1)
    expect(readPages(descriptor, into, 0, PAGE_BYTES, crcs)).toBe(1)
    const writeOnly = openSync(path, 'a')
    expect(readPages(writeOnly, into, 0, PAGE_BYTES, crcs)).toBeLessThan(0)
    closeSync(writeOnly)
    expect(readPages(descriptor, into, 0, 0, crcs)).toBeLessThan(0)
    expect(readPages(descriptor, into, 0, PAGE_BYTES, crcs.subarray(1))).toBeLessThan(0)
    expect(() => readPages(descriptor, [] as unknown as Uint8Array, 0, PAGE_BYTES, crcs)).toThrow(TypeError)
  })
})
