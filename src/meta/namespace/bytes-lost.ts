/**
 * Recovery (C18): what refers to bytes that are gone. There is no index from a segment to its contents, because only recovery
 * would read it and every write would pay for it; so this goes through the tables, in bounded scans: contents in the lost
 * range, composites over those, then objects and parts. An object that was written with ack `memory` is removed; anything else is reported.
 */
import type { ByteString, ContentId, InodeId, SegmentId } from '../../common/ids.ts'
import { utf8Text } from '../../common/ids.ts'
import type { OrderedStore, ReadView, Row } from '../ports.ts'
import { giveUp, lookAgainAt } from './attached/give-up.ts'
import { beginStep, endStep, readBucket, type NamespaceContext } from './context.ts'
import { linksOf } from './files/links.ts'
import {
  CONTENTS,
  INODES,
  PARTS,
  PIECES,
  UPLOADS,
  UPLOAD_KEY_AT,
  bytesHex,
  inodeKey,
  integerAt,
  orderedAt,
  prefixEnd,
} from './keys.ts'
import { decodeContent, decodePiece, decodePieceRow, type LeafContent } from './records-contents.ts'
import { decodeInode, type ObjectInode } from './records-objects.ts'
import { removeInode } from './remove.ts'
import { pathOf } from './tree.ts'

const SCAN_ROWS = 1000
const REPORTED_MAX = 10_000
const UPLOAD_ID_BYTES = 16

export interface LostBytes {
  readonly removedMemory: number
  /** The first ten thousand. */
  readonly lost: { bucket: string; key: string }[]
}

export async function bytesLost(
  context: NamespaceContext,
  segment: SegmentId,
  from: number,
  to: number,
): Promise<LostBytes> {
  const contents = await contentsOver(
    context.store,
    (leaf) => leaf.segment === segment && leaf.segmentOffset < to && leaf.segmentOffset + leaf.length > from,
  )
  if (contents.size === 0) return { removedMemory: 0, lost: [] }
  const lost: { bucket: string; key: string }[] = []
  const doomed: InodeId[] = []
  for await (const { id, inode } of objectsOver(context.store, contents)) {
    // An unlinked file that was open goes at the start anyway.
    if (linksOf(inode) === 0) continue
    if (inode.ack === 'memory') doomed.push(id)
    else if (lost.length < REPORTED_MAX) lost.push(await addressOf(context.store, inode))
  }
  let removedMemory = 0
  for (const inode of doomed) if (await removeObject(context, inode)) removedMemory++
  if (lost.length < REPORTED_MAX) lost.push(...(await partsOver(context.store, contents)))
  return { removedMemory, lost }
}

/** Objects, older versions and unlinked files among them, whose bytes are one of these contents. */
export async function* objectsOver(
  store: OrderedStore,
  contents: ReadonlySet<ContentId>,
): AsyncGenerator<{ id: InodeId; inode: ObjectInode }> {
  for await (const row of tableRows(store, INODES)) {
    const inode = decodeInode(row.value)
    if (inode.kind !== 'object' || inode.body.kind !== 'content' || !contents.has(inode.body.content)) continue
    yield { id: integerAt(row.key, INODES.length), inode }
  }
}

/** Leaves of which that is true, and the composites over them; a part's composite lies below an object's. */
export async function contentsOver(
  store: OrderedStore,
  isMeant: (leaf: LeafContent) => boolean,
): Promise<Set<ContentId>> {
  const contents = new Set<ContentId>()
  for await (const row of tableRows(store, CONTENTS)) {
    const record = decodeContent(row.value)
    if (record.kind === 'leaf' && isMeant(record)) contents.add(integerAt(row.key, CONTENTS.length))
  }
  if (contents.size === 0) return contents
  const files = await filesByRows(store)
  for (let found = true; found;) {
    found = false
    for await (const row of tableRows(store, PIECES)) {
      const rows = integerAt(row.key, PIECES.length)
      const composite = files.get(rows) ?? rows
      if (contents.has(composite)) continue
      const { pieces } = decodePieceRow(row.value)
      if (!pieces.some((piece) => piece.content !== undefined && contents.has(piece.content))) continue
      contents.add(composite)
      found = true
    }
  }
  return contents
}

/** The contents of files by the id that their pieces lie under. */
async function filesByRows(store: OrderedStore): Promise<Map<ContentId, ContentId>> {
  const files = new Map<ContentId, ContentId>()
  for await (const row of tableRows(store, CONTENTS)) {
    const record = decodeContent(row.value)
    if (record.kind === 'file') files.set(record.rows, integerAt(row.key, CONTENTS.length))
  }
  return files
}

/** Rows of parts that are one of these contents. */
export async function* partRowsOver(store: OrderedStore, contents: ReadonlySet<ContentId>): AsyncGenerator<Row> {
  for await (const row of tableRows(store, PARTS)) {
    const { content } = decodePiece(row.value)
    if (content !== undefined && contents.has(content)) yield row
  }
}

/** The uploads in progress, by bucket and key, that have such a part. */
export async function partsOver(
  store: OrderedStore,
  contents: ReadonlySet<ContentId>,
): Promise<{ bucket: string; key: string }[]> {
  const uploads = new Set<string>()
  for await (const row of partRowsOver(store, contents)) {
    uploads.add(bytesHex(row.key.slice(PARTS.length, PARTS.length + UPLOAD_ID_BYTES)))
  }
  const lost: { bucket: string; key: string }[] = []
  if (uploads.size === 0) return lost
  for await (const row of tableRows(store, UPLOADS)) {
    const { raw, next } = orderedAt(row.key, UPLOAD_KEY_AT)
    if (!uploads.has(bytesHex(row.key.slice(next)))) continue
    const root = await store.read((view) => view.get(inodeKey(integerAt(row.key, UPLOADS.length))))
    const record = root && decodeInode(root)
    if (record?.kind === 'directory') lost.push({ bucket: record.name, key: utf8Text(raw) })
  }
  return lost
}

async function* tableRows(store: OrderedStore, table: string): AsyncGenerator<Row> {
  const end = prefixEnd(table)
  let start = table as ByteString
  for (;;) {
    const from = start
    const rows = await store.read((view) => view.scan({ start: from, end }, SCAN_ROWS))
    yield* rows
    const last = rows.at(-1)
    if (!last || rows.length < SCAN_ROWS) return
    start = `${last.key}\0` as ByteString
  }
}

export function addressOf(store: OrderedStore, inode: ObjectInode): Promise<{ bucket: string; key: string }> {
  return store.read(async (view) => {
    const { bucket, key } = await pathOf(view, inode)
    return { bucket, key: utf8Text(key) }
  })
}

/** Takes away the version that has this inode under its first name. */
export async function removeObject(context: NamespaceContext, id: InodeId): Promise<boolean> {
  const attached = await context.store.read((view) => attachedPlace(view, id))
  if (attached) await lookAgainAt(context, attached)
  const { value } = await context.untraced.transact(async (tx) => {
    const row = await tx.get(inodeKey(id))
    const inode = row && decodeInode(row)
    if (inode?.kind !== 'object') return false
    const { bucket, key } = await pathOf(tx, inode)
    const step = await beginStep(context, tx, bucket)
    const removed = await removeInode(step, key, id)
    if (removed && step.bucket.isAttached) await giveUp(step, key)
    endStep(step)
    return removed
  })
  return value
}

async function attachedPlace(view: ReadView, id: InodeId): Promise<{ bucketId: number; key: string } | undefined> {
  const row = await view.get(inodeKey(id))
  const inode = row && decodeInode(row)
  if (inode?.kind !== 'object') return undefined
  const path = await pathOf(view, inode)
  const bucket = await readBucket(view, path.bucket)
  return bucket.isAttached ? { bucketId: bucket.id, key: utf8Text(path.key) } : undefined
}
