import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { computeChecksum } from '../../../src/common/checksums.ts'
import type { ChecksumAlgorithm, UploadPart, UploadRecord } from '../../../src/common/model.ts'
import { checkCompletion } from '../../../src/store/complete-upload.ts'
import type { CompleteUploadRequest } from '../../../src/store/types.ts'
import { TINY_LIMITS } from '../../sim/life.ts'

const LIMITS = { ...TINY_LIMITS, partBytesMin: 10, partsMax: 5 }
const BODIES = [Buffer.alloc(10, 1), Buffer.alloc(12, 2), Buffer.alloc(3, 3)]

function md5(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex')
}

function uploadOf(fields: Partial<UploadRecord> = {}): UploadRecord {
  const attributes = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }
  const nothing = { checksumAlgorithm: undefined, checksumType: undefined }
  return { bucket: 'b', key: 'k', uploadId: 'u', initiatedMs: 0, owner: 'o', attributes, ...nothing, ...fields }
}

function partsOf(bodies: readonly Buffer[], algorithm: ChecksumAlgorithm = 'CRC64NVME'): Map<number, UploadPart> {
  return new Map(
    bodies.map((body, index) => [
      index + 1,
      {
        partNumber: index + 1,
        size: body.length,
        etag: md5(body),
        mtimeMs: 0,
        checksum: { algorithm, type: 'FULL_OBJECT' as const, value: computeChecksum(algorithm, body) },
      } satisfies UploadPart,
    ]),
  )
}

function requestOf(numbers: readonly number[], fields: Partial<CompleteUploadRequest> = {}): CompleteUploadRequest {
  const parts = numbers.map((partNumber) => ({
    partNumber,
    etag: md5(BODIES[partNumber - 1] ?? Buffer.alloc(0)),
    checksum: undefined,
  }))
  const address = { bucket: 'b', key: 'k', uploadId: 'u' }
  const nothing = { checksum: undefined, checksumType: undefined, objectSize: undefined, ack: undefined }
  return { ...address, parts, conditions: {}, ...nothing, ...fields }
}

const KNOWN = { upload: uploadOf(), parts: partsOf(BODIES), limits: LIMITS }

test('the ETag is the MD5 of the parts’ MD5s and their number; CRC64NVME is that of the whole object', () => {
  const { etag, checksum } = checkCompletion(requestOf([1, 2, 3]), KNOWN)
  expect(etag).toBe(`${md5(Buffer.concat(BODIES.map((body) => createHash('md5').update(body).digest())))}-3`)
  const value = computeChecksum('CRC64NVME', Buffer.concat(BODIES))
  expect(checksum).toEqual({ algorithm: 'CRC64NVME', type: 'FULL_OBJECT', value })
})

test.each([
  ['no parts', requestOf([]), 'InvalidRequest'],
  ['too many parts', requestOf([1, 2, 3, 4, 5, 6]), 'InvalidArgument'],
  ['parts out of order', requestOf([2, 1]), 'InvalidPartOrder'],
  ['a part twice', requestOf([1, 1]), 'InvalidPartOrder'],
  ['a part that was never uploaded', requestOf([1, 4]), 'InvalidPart'],
  [
    'another ETag',
    requestOf([], { parts: [{ partNumber: 1, etag: 'f'.repeat(32), checksum: undefined }] }),
    'InvalidPart',
  ],
  ['a small part before the last', requestOf([3]), undefined],
  ['another size than announced', requestOf([1, 2], { objectSize: 21 }), 'InvalidRequest'],
  ['the size that was announced', requestOf([1, 2], { objectSize: 22 }), undefined],
] as const)('%s', (_, request, code) => {
  if (code === undefined) expect(checkCompletion(request, KNOWN).parts.length).toBe(request.parts.length)
  else expect(() => checkCompletion(request, KNOWN)).toThrow(expect.objectContaining({ code }) as Error)
})

test('every part but the last has at least the least size', () => {
  const small = { ...KNOWN, parts: partsOf([BODIES[0] as Buffer, BODIES[2] as Buffer, BODIES[1] as Buffer]) }
  const parts = [...small.parts.values()].map(({ partNumber, etag }) => ({ partNumber, etag, checksum: undefined }))
  expect(() => checkCompletion(requestOf([], { parts }), small)).toThrow(
    expect.objectContaining({ code: 'EntityTooSmall' }) as Error,
  )
})

test('SHA-256 is composite; a full-object one cannot be had', () => {
  const known = { ...KNOWN, upload: uploadOf({ checksumAlgorithm: 'SHA256' }), parts: partsOf(BODIES, 'SHA256') }
  const { checksum } = checkCompletion(requestOf([1, 2]), known)
  const digests = BODIES.slice(0, 2).map((body) => createHash('sha256').update(body).digest())
  const value = `${createHash('sha256').update(Buffer.concat(digests)).digest('base64')}-2`
  expect(checksum).toEqual({ algorithm: 'SHA256', type: 'COMPOSITE', value })
  const full = requestOf([1, 2], { checksumType: 'FULL_OBJECT' })
  expect(() => checkCompletion(full, known)).toThrow(expect.objectContaining({ code: 'InvalidRequest' }) as Error)
})

test('what the client claims of the object is held against what the parts give', () => {
  const right = {
    algorithm: 'CRC64NVME',
    type: 'FULL_OBJECT',
    value: computeChecksum('CRC64NVME', Buffer.concat(BODIES)),
  } as const
  expect(checkCompletion(requestOf([1, 2, 3], { checksum: right }), KNOWN).checksum).toEqual(right)
  const wrong = requestOf([1, 2], { checksum: right })
  expect(() => checkCompletion(wrong, KNOWN)).toThrow(expect.objectContaining({ code: 'BadDigest' }) as Error)
})

test('of an upload that is gone only form is checked: metadata knows whether this repeats a Complete', () => {
  const { etag, checksum } = checkCompletion(requestOf([1, 2]), { ...KNOWN, upload: undefined, parts: new Map() })
  expect([etag.endsWith('-2'), checksum]).toEqual([true, undefined])
})
