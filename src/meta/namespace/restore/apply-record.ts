/**
 * Records: single objects that were acknowledged as persisted and are newer than the rows that were restored. Each is put where its key is, as a
 * publish would do it, with the inode, the version and the revision that it had, so that clients find what they were told.
 *
 * A bucket that was deleted and made again has a greater id in the record: the one that is there was empty when it went, so what is in it goes,
 * and records that are still of the older one are passed over.
 *
 * What a record does not say: extended attributes, further links, and the numbers of a completed upload's parts. A file that the rows
 * know keeps its own. Nor does it say what became of a name that its object had before: a file that was renamed and then synced is found
 * under the new name by its record, and under the old one too, where the rows have it, as two files: nothing is lost, and something is back
 * that had moved.
 */
import { must } from '../../../common/assert.ts'
import { utf8Bytes } from '../../../common/ids.ts'
import type { StoredRun } from '../../../common/model.ts'
import {
  PIECES_PER_ROW,
  BUILD_START,
  appendPieces,
  beginBuild,
  publishBuild,
  type BuildPosition,
} from '../composites.ts'
import { beginStep, endStep, leaseInodes, type NamespaceContext, type Step } from '../context.ts'
import { armExpiry } from '../expiry-rows.ts'
import { entriesOf } from '../files/entries-of.ts'
import { bucketKey, entryKey, inodeKey } from '../keys.ts'
import { inodesForKey } from '../publish.ts'
import type { Piece } from '../records-contents.ts'
import {
  decodeBucket,
  decodeEntry,
  decodeInode,
  encodeEntry,
  encodeInode,
  type ObjectEntry,
  type ObjectInode,
} from '../records-objects.ts'
import { addRunOrReference, dropReference } from '../references.ts'
import { currentEntry, findPlace, keepsVersions, makePlace, type Place } from '../tree.ts'
import { makeWay, newestInV, readObjectInode } from '../versions.ts'
import { ensureBucket } from './ensure-bucket.ts'

/** An object as the record says, and what its body is made of. */
export interface RestoredRecord {
  readonly bucket: string
  readonly key: string
  /** Rows `B`, `I` and `D` as they were. */
  readonly bucketRow: Uint8Array
  readonly inode: number
  readonly inodeRow: Uint8Array
  readonly entryRow: Uint8Array
  /** Of a body that is not inline, in order. What lies between is a hole. */
  readonly extents: readonly RestoredExtent[]
}

/** A range of what the journal wrote. */
export interface RestoredExtent {
  readonly offset: number
  readonly length: number
  readonly run: StoredRun
  readonly runOffset: number
}

const PIECES_PER_STEP = PIECES_PER_ROW * 16

/** False when what is there is as new. One at a time, in the order of their revisions. */
export async function applyRecord(context: NamespaceContext, record: RestoredRecord): Promise<boolean> {
  const entry = decodeEntry(record.entryRow)
  const inode = decodeInode(record.inodeRow)
  must(entry.kind === 'object' && inode.kind === 'object' ? entry : undefined, 'a record is of an object')
  const made = { ...record, entry: entry as ObjectEntry, record: inode as ObjectInode, keyBytes: utf8Bytes(record.key) }
  if (!(await ensureBucket(context, decodeBucket(record.bucketRow)))) return false
  if (await isKnown(context, made)) return false
  const body = made.record.body.kind === 'content' ? await buildBody(context, made) : made.record.body
  const ids = await leaseInodes(context, inodesForKey(made.keyBytes))
  await context.store.transact(async (tx) => {
    const step = await beginStep(context, tx, record.bucket, ids)
    await placeRecord(step, { ...made, record: { ...made.record, body } })
    endStep(step)
  })
  return true
}

interface MadeRecord extends RestoredRecord {
  readonly entry: ObjectEntry
  readonly record: ObjectInode
  readonly keyBytes: string
}

function isKnown(context: NamespaceContext, { bucket, keyBytes, entry }: MadeRecord): Promise<boolean> {
  return context.store.read(async (view) => {
    const row = must(await view.get(bucketKey(bucket)), 'bucket of a record')
    const place = await findPlace(view, decodeBucket(row), keyBytes)
    const current = place && (await currentEntry(view, place))
    return current !== undefined && current.revision >= entry.revision
  })
}

/** One reference to what the extents say, held by nobody yet. */
async function buildBody(context: NamespaceContext, { record, extents }: MadeRecord): Promise<ObjectInode['body']> {
  const [only] = extents
  const { size, ack } = record
  if (only && extents.length === 1 && only.runOffset === 0 && only.run.length === size && only.length === size) {
    await context.store.transact((tx) => addRunOrReference(tx, only.run, ack))
    return { kind: 'content', content: only.run.content }
  }
  const content = await context.contents.take(1)
  const pieces = piecesOf(extents, size)
  await context.store.transact(async (tx) => beginBuild(tx, context, content, true))
  let at: BuildPosition = BUILD_START
  for (let first = 0; first < pieces.length; first += PIECES_PER_STEP) {
    const from = at
    const step = pieces.slice(first, first + PIECES_PER_STEP)
    const { value } = await context.store.transact(async (tx) => {
      for (const { run } of step) if (run) await addRunOrReference(tx, run, ack)
      return appendPieces(
        tx,
        content,
        from,
        step.map(({ piece }) => piece),
      )
    })
    at = value
  }
  await context.store.transact((tx) => publishBuild(tx, content, size))
  return { kind: 'content', content }
}

function piecesOf(extents: readonly RestoredExtent[], size: number): { piece: Piece; run: StoredRun | undefined }[] {
  const pieces: { piece: Piece; run: StoredRun | undefined }[] = []
  let at = 0
  const hole = (length: number): void => {
    if (length <= 0) return
    pieces.push({ piece: { content: undefined, contentOffset: 0, length, part: undefined }, run: undefined })
  }
  for (const { offset, length, run, runOffset } of extents) {
    hole(offset - at)
    pieces.push({ piece: { content: run.content, contentOffset: runOffset, length, part: undefined }, run })
    at = offset + length
  }
  hole(size - at)
  return pieces
}

async function placeRecord(step: Step, made: MadeRecord): Promise<void> {
  const place = await makePlace(step, made.keyBytes, 'live')
  const current = await currentEntry(step.tx, place)
  if (current?.inode === made.inode) return replaceContent(step, made)
  const previous = current ?? (keepsVersions(step.bucket) ? await newestInV(step.tx, place) : undefined)
  const { version, isNull } = await makeWay(step, place, current)
  const isTaken = (await step.tx.get(inodeKey(made.inode))) !== undefined
  const inode = isTaken ? step.ids.next++ : made.inode
  const kept = made.entry.version > (previous?.version ?? 0) ? made.entry.version : version
  const entry: ObjectEntry = { ...made.entry, inode, isNull, version: kept }
  writePlaced(step, place, { entry, record: made.record })
  armExpiry(step, entry)
  step.objectsDelta += 1
  step.bytesDelta += made.record.size
}

function writePlaced(
  step: Step,
  { parent, name }: Place,
  { entry, record }: { readonly entry: ObjectEntry; readonly record: ObjectInode },
): void {
  const posix = record.posix && { ...record.posix, links: 1, attributesBytes: 0 }
  step.tx.put(entryKey(parent, name), encodeEntry(entry))
  step.tx.put(inodeKey(entry.inode), encodeInode({ ...record, parent, name, posix, partsCount: undefined }))
}

/** The object is the one that is there: only what it consists of, and what is said of it, is newer. */
async function replaceContent(step: Step, { inode, entry, record }: MadeRecord): Promise<void> {
  const old = await readObjectInode(step.tx, inode)
  const entries = await entriesOf(step.tx, inode, old)
  const { parent, name } = old
  const { links = 1, attributesBytes = 0 } = old.posix ?? {}
  const posix = record.posix && { ...record.posix, links, attributesBytes }
  step.tx.put(inodeKey(inode), encodeInode({ ...record, parent, name, posix, partsCount: undefined }))
  for (const { key, entry: named } of entries) {
    const { version, isNull } = named
    step.tx.put(key, encodeEntry({ ...entry, version, isNull }))
  }
  if (old.body.kind === 'content') await dropReference(step.tx, old.body.content)
  step.bytesDelta += record.size - old.size
}
