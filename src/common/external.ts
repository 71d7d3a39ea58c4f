/** Attached buckets: what metadata, cache, store and doors say of them alike (docs/decisions/0015). */
import { createHash } from 'node:crypto'
import type { SegmentId } from './ids.ts'

export const CONFLICT_POLICIES = ['fail', 'keep-both', 'last-writer-wins'] as const
export type ConflictPolicy = (typeof CONFLICT_POLICIES)[number]

/**
 * `closing`: what was written goes out, and nothing more is taken; a restart opens it again. `forgetting`: all has gone out, or is given up, and what is
 * here goes; a restart goes on with that.
 */
export const DETACH_PHASES = ['closing', 'forgetting'] as const
export type DetachPhase = (typeof DETACH_PHASES)[number]

/** A body that lies in an object of an external bucket. */
export interface ExternalBody {
  /** Bucket key of the object that holds it: its own, unless it was renamed and has not arrived yet. */
  readonly key: string
  readonly etag: string
  readonly size: number
  /** Whether its attributes are known (HEAD), or only what a listing tells. */
  readonly isDescribed: boolean
}

export interface AttachmentRecord {
  readonly bucketId: number
  readonly bucket: string
  /** `s3://BUCKET/PREFIX?endpoint=URL&region=R[&profile=NAME][&style=path|host]`; holds no secret. */
  readonly url: string
  readonly conflicts: ConflictPolicy
  /** For how long what was seen of one key counts. */
  readonly ttlMs: number
  /** For how long a listing counts. */
  readonly listingTtlMs: number
  /** Between two listings of all that is covered; 0: never. */
  readonly compareIntervalMs: number
  readonly attachedMs: number
  /** Undefined: it is attached, and takes writes. */
  readonly phase?: DetachPhase | undefined
}

/** 16 bytes as 32 hex digits; the first is ff, which no id made of a time has. */
export function externalSegment(bucketId: number, body: Pick<ExternalBody, 'key' | 'etag' | 'size'>): SegmentId {
  const text = JSON.stringify([bucketId, body.key, body.etag, body.size])
  return `ff${createHash('sha256').update(text).digest('hex').slice(0, 30)}` as SegmentId
}

export function isExternalSegment(segment: SegmentId): boolean {
  return segment.startsWith('ff')
}
