/**
 * Single objects, each with the rows that put it back alone (docs/decisions/0013, records).
 *
 * What an object is now stands for what it was at an earlier commit: who was told that a write is safe must find, after a disaster, it or
 * something that came after it. Not where versions are kept: there the earlier one is something of its own. Undefined is what such a
 * record cannot tell: a key that is gone by now, bytes that have not all arrived, a file of very many pieces. The next delta tells it.
 */
import type { ByteString, InodeId, Revision, SegmentId } from '../../common/ids.ts'
import type { Limits } from '../../common/limits.ts'
import type { Extent } from '../../common/model.ts'
import type { ReadView } from '../ports.ts'
import { bodyRanges, extentsOf, knownContent } from './contents.ts'
import { bucketKey, entryKey, inodeKey, segmentStateKey } from './keys.ts'
import { canNameBucket, validateKey } from './names.ts'
import { decodeBucket, decodeEntry, decodeInode } from './records-objects.ts'
import { decodeSegment } from './records-contents.ts'
import { findPlace, keepsVersions } from './tree.ts'

export interface DescribedName {
  /** At which the rows were as they are here: that of the read, or a durable one before it (names-source.ts). */
  readonly revision: Revision
  readonly bucket: string
  readonly key: string
  readonly bucketRow: Uint8Array
  readonly inode: InodeId
  readonly inodeRow: Uint8Array
  readonly entryRow: Uint8Array
  readonly extents: readonly Extent[]
}

interface Published {
  readonly bucket: string
  readonly key: string
  readonly inode: InodeId
  readonly revision: Revision
}

/** What lies in more pieces waits for the next delta: a record of it would be large, and describing it long. */
const EXTENTS_MAX = 1024

export async function describePublished(
  view: ReadView,
  published: readonly Published[],
  limits: Limits,
): Promise<(DescribedName | undefined)[]> {
  const described: (DescribedName | undefined)[] = []
  for (const one of published) described.push(await describeOne(view, one, limits))
  return described
}

async function describeOne(view: ReadView, published: Published, limits: Limits): Promise<DescribedName | undefined> {
  const { bucket: bucketName, key } = published
  const bucketRow = canNameBucket(bucketName) ? await view.get(bucketKey(bucketName)) : undefined
  if (!bucketRow) return undefined
  const bucket = decodeBucket(bucketRow)
  const place = await findPlace(view, bucket, validateKey(key, limits))
  const entryRow = place && (await view.get(entryKey(place.parent, place.name)))
  if (!entryRow) return undefined
  const entry = decodeEntry(entryRow)
  if (entry.kind !== 'object') return undefined
  const inodeRow = await view.get(inodeKey(entry.inode))
  const inode = inodeRow && decodeInode(inodeRow)
  if (!inodeRow || inode?.kind !== 'object') return undefined
  // What the key names now came at that commit or after it. A version that was covered since is something of its own.
  if (keepsVersions(bucket) && entry.inode !== published.inode) return undefined
  // What lies in an external bucket is found there.
  if (inode.body.kind === 'external') return undefined
  const extents = inode.body.kind === 'inline' ? [] : await arrivedExtents(view, inode.body.content)
  if (!extents) return undefined
  const { revision } = view
  return { revision, bucket: bucketName, key, bucketRow, inode: entry.inode, inodeRow, entryRow, extents }
}

/** Undefined when there are too many, or their bytes are not all in the remote store. */
async function arrivedExtents(view: ReadView, content: number): Promise<Extent[] | undefined> {
  const record = await knownContent(view, content)
  const wanted = { from: 0, to: record.length, base: 0 }
  const ranges = await bodyRanges(view, { content, record, wanted }, EXTENTS_MAX + 1)
  if (ranges.length > EXTENTS_MAX) return undefined
  const extents = extentsOf(ranges)
  const segments = [...new Set(extents.map(({ segment }) => segment))]
  const rows = await view.getMany(segments.map((segment: SegmentId): ByteString => segmentStateKey(segment)))
  return rows.every((row) => row && decodeSegment(row).state === 'persisted') ? extents : undefined
}
