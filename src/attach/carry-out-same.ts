/**
 * Whether what lies outside is what we are about to write: then an earlier try of ours got through, and its answer (or the process) was lost.
 *
 * ETags tell where both are made the same way. Else sizes, attributes and bytes do, by reading both sides. Left out of that are ranges that lay in the former object at
 * the same key: they are gone there, and what we had to add to them is compared. To take what lies outside for ours is always safe for
 * them, since nothing is written then; it is for us too, since all that was ours is there.
 */
import { isExternalSegment, type ExternalBody } from '../common/external.ts'
import type { SegmentId } from '../common/ids.ts'
import type { Extent, ObjectAttributes } from '../common/model.ts'
import { isGone, type Content } from './carry-out-content.ts'
import type { ExternalBucket, ExternalDescription } from './ports.ts'

export interface Ours {
  readonly content: Content
  readonly extents: readonly Extent[]
  readonly sources: ReadonlyMap<SegmentId, ExternalBody>
}

const COMPARED_BYTES = 1024 * 1024

/** `likely`: some of it could not be compared. */
export type Sameness = 'same' | 'likely' | 'other'

export async function compareWithOurs(
  { content, extents, sources }: Ours,
  seen: ExternalDescription,
  external: ExternalBucket,
  signal: AbortSignal,
): Promise<Sameness> {
  const { version } = content
  const { body } = version
  const { attributes } = version
  if (version.size !== seen.size || !hasOurAttributes(attributes, seen.attributes)) return 'other'
  // An earlier try may have got through before they were set here.
  if (!sameMap(attributes.tags, seen.attributes.tags)) return 'other'
  if (version.etag === seen.etag) return 'same'
  // Only what describes it was ours, and that is there.
  if (body.kind === 'external' && body.external.key === seen.key) return 'likely'
  const former = extents.filter(({ segment }) => isExternalSegment(segment) && sources.get(segment)?.key === seen.key)
  for (const [from, to] of between(former, version.size)) {
    if (!(await sameBytes({ content, external, seen, signal }, from, to))) return 'other'
  }
  return former.length > 0 ? 'likely' : 'same'
}

/** What the extents leave out, in order. */
function* between(extents: readonly Extent[], size: number): Generator<readonly [from: number, to: number]> {
  let position = 0
  for (const { offset, length } of extents) {
    if (offset > position) yield [position, offset]
    position = offset + length
  }
  if (size > position) yield [position, size]
}

interface Compared {
  readonly content: Content
  readonly external: ExternalBucket
  readonly seen: ExternalDescription
  readonly signal: AbortSignal
}

async function sameBytes({ content, external, seen, signal }: Compared, from: number, to: number): Promise<boolean> {
  const theirs = Buffer.allocUnsafe(Math.min(COMPARED_BYTES, to - from))
  let position = from
  content.forgive()
  try {
    for await (const slice of content.bytes(from, to - from)) {
      for (let at = 0; at < slice.length; at += theirs.length) {
        const ours = slice.subarray(at, at + theirs.length)
        const into = theirs.subarray(0, ours.length)
        const read = await external.read({ key: seen.key, etag: seen.etag }, position, [into], signal)
        if (read !== ours.length || !into.equals(ours)) return false
        position += read
      }
    }
    return true
  } catch (error) {
    // Ours cannot be had any more, so it cannot be shown to be the same.
    if (content.failure !== undefined && isGone(content.failure)) return false
    throw error
  }
}

/** Stores add to what was set (a content type, say), and not all tell tags and storage class: what was set here must be there. */
export function hasOurAttributes(ours: ObjectAttributes, theirs: ObjectAttributes): boolean {
  return holds(ours.headers, theirs.headers) && sameMap(ours.userMetadata, theirs.userMetadata)
}

/** Whether nothing has to be told to the store for ours to be there; tags apart. */
export function sameButTags(ours: ObjectAttributes, theirs: ObjectAttributes): boolean {
  return hasOurAttributes(ours, theirs) && ours.websiteRedirect === theirs.websiteRedirect
}

export function sameMap(ours: Readonly<Record<string, string>>, theirs: Readonly<Record<string, string>>): boolean {
  return Object.keys(ours).length === Object.keys(theirs).length && holds(ours, theirs)
}

function holds(ours: object, theirs: object): boolean {
  const there = new Map<string, unknown>(Object.entries(theirs))
  return Object.entries(ours).every(([name, value]) => value === undefined || there.get(name) === value)
}
