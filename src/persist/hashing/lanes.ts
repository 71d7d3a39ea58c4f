/**
 * What both implementations compute. A request is cut into lanes, one for each algorithm, because lanes of one stream may
 * run on different threads while the slices of one lane must stay in order.
 */
import { createHash } from 'node:crypto'
import { createChecksum, type Checksum } from '../../common/checksums.ts'
import { crc32 } from '../../common/crc32.ts'
import type { ChecksumAlgorithm } from '../../common/model.ts'
import type { BodyHashes, HashRequest } from './ports.ts'

export type LaneAlgorithm = 'MD5' | ChecksumAlgorithm

/** Time for a byte, compared with CRC32; decides which thread is least loaded. */
export const LANE_COST: Record<LaneAlgorithm, number> = {
  CRC32: 1,
  CRC32C: 2,
  CRC64NVME: 2,
  SHA1: 4,
  SHA256: 5,
  MD5: 7,
}

export function laneAlgorithms(request: HashRequest): LaneAlgorithm[] {
  const wanted = new Set<LaneAlgorithm>(request.algorithms)
  if (request.sha256) wanted.add('SHA256')
  if (request.md5) wanted.add('MD5')
  return [...wanted]
}

/** Digest is hex for MD5, else base64. */
export function createLaneHash(algorithm: LaneAlgorithm): Checksum {
  if (algorithm !== 'MD5') return createChecksum(algorithm)
  const state = createHash('md5')
  return { update: (bytes) => void state.update(bytes), digest: () => state.digest('hex') }
}

/** Puts the lanes' digests together as the request asked for them. */
export function bodyHashes(request: HashRequest, digests: ReadonlyMap<LaneAlgorithm, string>): BodyHashes {
  const checksums: Partial<Record<ChecksumAlgorithm, string>> = {}
  for (const algorithm of request.algorithms) checksums[algorithm] = digests.get(algorithm) ?? ''
  const sha256 = request.sha256 ? Buffer.from(digests.get('SHA256') ?? '', 'base64').toString('hex') : undefined
  return { md5: digests.get('MD5') ?? '', checksums, ...(sha256 === undefined ? {} : { sha256 }) }
}

export function pageChecksumsOf(bytes: Uint8Array, pageBytes: number): Uint32Array {
  const checksums = new Uint32Array(Math.ceil(bytes.length / pageBytes))
  for (let page = 0; page < checksums.length; page++) {
    checksums[page] = crc32(bytes.subarray(page * pageBytes, (page + 1) * pageBytes))
  }
  return checksums
}

export function sameChecksums(actual: ArrayLike<number>, expected: ArrayLike<number>): boolean {
  if (actual.length !== expected.length) return false
  for (let page = 0; page < actual.length; page++) if (actual[page] !== expected[page]) return false
  return true
}
