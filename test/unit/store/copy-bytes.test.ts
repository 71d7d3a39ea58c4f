import { createHash } from 'node:crypto'
import { beforeEach, expect, test } from 'vitest'
import { computeChecksum } from '../../../src/common/checksums.ts'
import { TidegateError } from '../../../src/common/errors.ts'
import type { ObjectVersion } from '../../../src/common/model.ts'
import { copyBytes, type CopyBytesParts } from '../../../src/store/copy-bytes.ts'
import { TINY_LIMITS } from '../../sim/life.ts'

const BYTES = Buffer.from(Array.from({ length: 2000 }, (_, index) => index % 251))
const SLICE_BYTES = 100
const LABEL = { bucket: 'b', key: 'k' }

let gathered: Buffer[]
let leases: Set<number>
let discarded: number[]
let failAt: number

beforeEach(() => {
  gathered = []
  leases = new Set()
  discarded = []
  failAt = Infinity
})

const readers = {
  read: (_: number, offset: number, length: number) => {
    if (offset >= failAt) return Promise.reject(new TidegateError('Unavailable', 'changed outside'))
    leases.add(offset)
    return Promise.resolve({ slabOffset: offset, length: Math.min(length, SLICE_BYTES), lease: offset })
  },
  view: ({ slabOffset, length }: { slabOffset: number; length: number }) =>
    BYTES.subarray(slabOffset, slabOffset + length),
  release: (lease: number) => leases.delete(lease),
}

const bodies = {
  open: () => Promise.resolve(1),
  append: (_: number, bytes: Uint8Array) => Promise.resolve(void gathered.push(Buffer.from(bytes))),
  finish: () => Promise.resolve({ length: 0, digests: { md5: 'md5', checksums: { SHA1: 'sum' } } }),
  discard: (id: number) => Promise.resolve(void discarded.push(id)),
}

const parts = { bodies, readers, limits: TINY_LIMITS } as unknown as CopyBytesParts
const version = { size: BYTES.length, body: { kind: 'external' } } as ObjectVersion
const opened = { reader: 1, version }

test('a range of what lies outside becomes a body of its own, piece by piece', async () => {
  const range = { offset: 50, length: 1500 }
  const copied = await copyBytes(parts, { opened, range }, { label: LABEL, algorithm: 'SHA1' })
  expect(copied).toEqual({
    source: { kind: 'streamed', body: 1 },
    checksum: { algorithm: 'SHA1', type: 'FULL_OBJECT', value: 'sum' },
  })
  expect(Buffer.compare(Buffer.concat(gathered), BYTES.subarray(50, 1550))).toBe(0)
  expect([leases.size, discarded]).toEqual([0, []])
})

test('a few bytes travel with the request, so that they may lie inline', async () => {
  const range = { offset: 10, length: 20 }
  const { source, checksum } = await copyBytes(parts, { opened, range }, { label: LABEL, algorithm: 'CRC32' })
  const bytes = BYTES.subarray(10, 30)
  expect(source.kind === 'bytes' && Buffer.compare(source.bytes, bytes)).toBe(0)
  expect(source).toMatchObject({ digests: { md5: createHash('md5').update(bytes).digest('hex') } })
  expect(checksum?.value).toBe(computeChecksum('CRC32', bytes))
  expect(leases.size).toBe(0)
})

test('what cannot be read gives everything back', async () => {
  failAt = 400
  const copy = copyBytes(parts, { opened, range: { offset: 0, length: 1000 } }, { label: LABEL, algorithm: undefined })
  await expect(copy).rejects.toMatchObject({ code: 'Unavailable' })
  expect([leases.size, discarded]).toEqual([0, [1]])
})
