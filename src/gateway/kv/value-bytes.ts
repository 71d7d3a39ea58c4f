/** Values that travel inside of a request or an answer, to the store and from it. */
import { hash } from 'node:crypto'
import { computeChecksum } from '../../common/checksums.ts'
import type { ChecksumAlgorithm, ObjectChecksum } from '../../common/model.ts'
import type { Reading, Store } from '../../store/doors.ts'
import type { BodyDigests, BodySource, ReaderId } from '../../store/types.ts'

/** What an S3 PUT that names no checksum gets, so that a value looks the same by whatever door it came. */
export const CHECKSUM_ALGORITHM = 'CRC64NVME' satisfies ChecksumAlgorithm

export interface ValueBody {
  readonly source: BodySource
  readonly checksum: ObjectChecksum | undefined
}

export interface BodyTarget {
  readonly bodies: Store['bodies']
  readonly hashInlineBytesMax: number
  readonly bucket: string
  readonly key: string
}

/** A body of bytes that are at hand. A large one is given to the store, which hashes it off the event loop. @throws SlowDown, StorageFull */
export async function valueBody(target: BodyTarget, bytes: Uint8Array): Promise<ValueBody> {
  if (bytes.length <= target.hashInlineBytesMax) return smallBody(bytes)
  return await streamedBody(target, bytes.length, [bytes])
}

export function smallBody(bytes: Uint8Array): ValueBody {
  const checksums = { [CHECKSUM_ALGORITHM]: computeChecksum(CHECKSUM_ALGORITHM, bytes) }
  const digests: BodyDigests = { md5: hash('md5', bytes, 'hex'), checksums }
  return { source: { kind: 'bytes', bytes, digests }, checksum: checksumOf(digests) }
}

/** Nothing is left behind when it rejects. The caller discards the body unless a put has taken it. */
export async function streamedBody(
  { bodies, bucket, key }: BodyTarget,
  length: number,
  pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<ValueBody> {
  const label = { bucket, key }
  const body = await bodies.open({ expectedLength: length, algorithms: [CHECKSUM_ALGORITHM], sha256: false, label })
  try {
    for await (const piece of pieces) await bodies.append(body, piece)
    const { digests } = await bodies.finish(body)
    return { source: { kind: 'streamed', body }, checksum: checksumOf(digests) }
  } catch (error) {
    await bodies.discard(body)
    throw error
  }
}

/** For a body that may not have been taken by a write; a no-op if it was. */
export async function discardBody(bodies: Store['bodies'], { source }: ValueBody): Promise<void> {
  if (source.kind === 'streamed') await bodies.discard(source.body)
}

function checksumOf({ checksums }: BodyDigests): ObjectChecksum | undefined {
  const value = checksums[CHECKSUM_ALGORITHM]
  return value === undefined ? undefined : { algorithm: CHECKSUM_ALGORITHM, type: 'FULL_OBJECT', value }
}

/** All of an opened content, copied out of the slab; the reader stays open. @throws DataLost */
export async function readValue(reading: Reading, reader: ReaderId, size: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(size)
  for (let offset = 0; offset < size;) {
    const slice = await reading.read(reader, offset, size - offset)
    bytes.set(reading.view(slice), offset)
    reading.release(slice.lease)
    offset += slice.length
  }
  return bytes
}
