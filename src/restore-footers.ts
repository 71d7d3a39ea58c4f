/**
 * Rebuilding from footers (restore.ts): bodies that no restored row names and that came after the restored state was captured are put
 * where their labels say. Older ones without a row were deleted or overwritten, and stay so.
 */
import { createHash } from 'node:crypto'
import { TidegateError } from './common/errors.ts'
import type { ContentId, SegmentId } from './common/ids.ts'
import type { BodyAdder, FoundBody } from './meta/namespace/restore/add-body.ts'
import type { SegmentBody } from './persist/ports.ts'
import { decodeLabel, type BodyLabel } from './store/labels.ts'
import { knowSegment, type RestoredNamespace, type RestoreProgress } from './restored-namespace.ts'

export interface FooterReport {
  /** Footers that were read. */
  readonly segments: number
  /** Segments without a footer that checks. */
  readonly unreadable: readonly SegmentId[]
  readonly objects: number
  readonly fileWrites: number
  /** Bodies whose key has a newer one. */
  readonly older: number
  /** Bodies that were dropped before the state was captured. */
  readonly dropped: number
  /** Bodies that came with no label that can be used. */
  readonly unlabelled: number
  /** Uploads in progress that parts were put back into: whether they had been completed no footer tells. */
  readonly uploads: readonly {
    readonly bucket: string
    readonly key: string
    readonly uploadId: string
    readonly parts: number
  }[]
}

const LISTED_MAX = 10_000
const TIME_HEX = 12
const ETAG_HEX = 32
const SETTLED_AFTER_MS = 600_000
const UNDER_WAY_MS = 60_000

interface Tally {
  objects: number
  fileWrites: number
  older: number
  dropped: number
  unlabelled: number
  readonly uploads: Map<string, { bucket: string; key: string; uploadId: string; parts: number }>
}

/** Segments in the order in which they were begun, which their ids tell. */
export async function addFooterBodies(
  restored: RestoredNamespace,
  onProgress: (progress: RestoreProgress) => void,
): Promise<FooterReport> {
  const segments = [...restored.footers.segments.keys()].filter((one) => mayHoldNewer(restored, one)).toSorted()
  const adder = restored.namespace.restoring.bodies()
  const unreadable: SegmentId[] = []
  const tally: Tally = { objects: 0, fileWrites: 0, older: 0, dropped: 0, unlabelled: 0, uploads: new Map() }
  for (const [index, segment] of segments.entries()) {
    onProgress({ doing: 'reading footers', done: index, total: segments.length })
    const footer = await restored.footers.footer(segment)
    if (!footer) unreadable.push(segment)
    for (const body of footer?.bodies ?? []) await addOne(restored, adder, { segment, body, tally })
  }
  const { uploads, ...counts } = tally
  return { segments: segments.length, unreadable, ...counts, uploads: [...uploads.values()].slice(0, LISTED_MAX) }
}

/** What lay in a segment that was persisted long before the state was captured was published, or given up, by then. */
function mayHoldNewer({ settled, capturedMs }: RestoredNamespace, segment: SegmentId): boolean {
  return !settled.has(segment) || begunMs(segment) > capturedMs - SETTLED_AFTER_MS
}

function begunMs(segment: SegmentId): number {
  return Number.parseInt(segment.slice(0, TIME_HEX), 16)
}

/**
 * Whether a body that no row knows came after the state. Bytes come a little before they are published, so one of the last minute is taken for
 * newer if it was begun after all that rows know: rather does something come back that was deleted in that minute than that something is lost.
 */
function cameAfterState(
  { contentMax, capturedMs }: RestoredNamespace,
  body: { readonly content: number; readonly modifiedMs: number },
): boolean {
  if (body.modifiedMs > capturedMs) return true
  return body.content > contentMax && body.modifiedMs > capturedMs - UNDER_WAY_MS
}

async function addOne(
  restored: RestoredNamespace,
  adder: BodyAdder,
  found: { readonly segment: SegmentId; readonly body: SegmentBody; readonly tally: Tally },
): Promise<void> {
  const { segment, body, tally } = found
  if (await adder.knows(body.content)) return
  const label = decodeLabel(body.label)
  const modifiedMs = label?.modifiedMs ?? begunMs(segment)
  if (!cameAfterState(restored, { content: body.content, modifiedMs })) {
    tally.dropped++
    return
  }
  if (!label || label.bucket === '') {
    tally.unlabelled++
    return
  }
  await knowSegment(restored, segment)
  try {
    await addLabelled(adder, { label, made: foundBody(segment, body, { label, modifiedMs }), tally })
  } catch (error) {
    // A label that none of ours wrote.
    if (!(error instanceof TidegateError) || !LABEL_ERRORS.has(error.code)) throw error
    tally.unlabelled++
  }
}

const LABEL_ERRORS: ReadonlySet<string> = new Set(['InvalidBucketName', 'TooManyBuckets', 'InvalidKey', 'KeyTooLong'])

async function addLabelled(
  adder: BodyAdder,
  { label, made, tally }: { readonly label: BodyLabel; readonly made: FoundBody; readonly tally: Tally },
): Promise<void> {
  const { bucket, key } = label
  switch (await adder.add(made)) {
    case 'object':
      tally.objects++
      return
    case 'file':
      tally.fileWrites++
      return
    case 'older':
      tally.older++
      return
    case 'part': {
      const uploadId = made.part?.uploadId ?? ''
      const upload = tally.uploads.get(uploadId)
      if (upload) upload.parts++
      else tally.uploads.set(uploadId, { bucket, key, uploadId, parts: 1 })
    }
  }
}

/** An ETag that no label tells (C29): one that is opaque, the same each time, and no other body's. */
function opaqueEtag(segment: SegmentId, content: ContentId): string {
  return `${createHash('sha256').update(`${segment} ${content}`).digest('hex').slice(0, ETAG_HEX)}-1`
}

function foundBody(
  segment: SegmentId,
  { content, offset, length }: SegmentBody,
  { label, modifiedMs }: { readonly label: BodyLabel; readonly modifiedMs: number },
): FoundBody {
  const { bucket, key, etag, attributes, expiresMs, part, file } = label
  return {
    bucket,
    key,
    run: { content, segment, segmentOffset: offset, length },
    etag: etag ?? opaqueEtag(segment, content),
    modifiedMs,
    attributes: attributes ?? { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' },
    expiresMs,
    part,
    file,
  }
}
