/** A range of an opened object as a body of its own, for copies of what cannot be referred to: it lies inline, or in an external bucket. */
import { createHash } from 'node:crypto'
import { must } from '../common/assert.ts'
import { computeChecksum } from '../common/checksums.ts'
import type { Limits } from '../common/limits.ts'
import type { ChecksumAlgorithm, ObjectChecksum } from '../common/model.ts'
import type { OpenBodies } from './bodies.ts'
import type { Readers } from './reading.ts'
import type { BodyId, BodySource, OpenedObject } from './types.ts'

export interface CopyBytesParts {
  readonly bodies: OpenBodies
  readonly readers: Readers
  readonly limits: Limits
}

export interface CopiedBytes {
  readonly source: BodySource
  /** Of the range, when an algorithm was named. */
  readonly checksum: ObjectChecksum | undefined
}

export interface CopiedRange {
  readonly offset: number
  readonly length: number
}

/** The caller has the body taken, or discards it. @throws EntityTooLarge over the largest body of one PUT */
export async function copyBytes(
  parts: CopyBytesParts,
  { opened, range }: { readonly opened: OpenedObject; readonly range: CopiedRange },
  { label, algorithm }: { label: { bucket: string; key: string }; algorithm: ChecksumAlgorithm | undefined },
): Promise<CopiedBytes> {
  if (opened.version.body.kind === 'inline' || range.length <= parts.limits.inlineBytesMax) {
    return smallBody(await bytesOf(parts, opened, range), algorithm)
  }
  const { bodies } = parts
  const algorithms = algorithm ? [algorithm] : []
  const id = await bodies.open({ expectedLength: range.length, algorithms, sha256: false, label })
  try {
    await fill(parts, id, { opened, range })
    const { digests } = await bodies.finish(id)
    const value = algorithm && must(digests.checksums[algorithm], `${algorithm} of a copy`)
    return { source: { kind: 'streamed', body: id }, checksum: checksumOf(algorithm, value) }
  } catch (error) {
    await bodies.discard(id).catch(() => undefined)
    throw error
  }
}

async function fill(
  { bodies, readers }: CopyBytesParts,
  id: BodyId,
  { opened, range }: { readonly opened: OpenedObject; readonly range: CopiedRange },
): Promise<void> {
  for (let done = 0; done < range.length;) {
    const slice = await readers.read(opened.reader, range.offset + done, range.length - done)
    await bodies.append(id, readers.view(slice)).finally(() => readers.release(slice.lease))
    done += slice.length
  }
}

async function bytesOf(
  { readers }: CopyBytesParts,
  { version, reader }: OpenedObject,
  range: CopiedRange,
): Promise<Uint8Array> {
  const { body } = version
  if (body.kind === 'inline') return body.bytes.subarray(range.offset, range.offset + range.length)
  const bytes = new Uint8Array(range.length)
  for (let done = 0; done < range.length;) {
    const slice = await readers.read(reader, range.offset + done, range.length - done)
    bytes.set(readers.view(slice), done)
    readers.release(slice.lease)
    done += slice.length
  }
  return bytes
}

function smallBody(bytes: Uint8Array, algorithm: ChecksumAlgorithm | undefined): CopiedBytes {
  const md5 = createHash('md5').update(bytes).digest('hex')
  const checksum = checksumOf(algorithm, algorithm && computeChecksum(algorithm, bytes))
  return { source: { kind: 'bytes', bytes, digests: { md5, checksums: {} } }, checksum }
}

function checksumOf(algorithm: ChecksumAlgorithm | undefined, value: string | undefined): ObjectChecksum | undefined {
  return algorithm && value !== undefined ? { algorithm, type: 'FULL_OBJECT', value } : undefined
}
