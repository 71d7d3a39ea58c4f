/**
 * A dirty key comes clean (attach/ports.ts, `settle`): what lies outside at it is what it names here.
 *
 *   nobody changed it since     the body becomes the external one, and the content that it had is dropped. If that is what we wrote, the inode stays, with
 *                               all that a file system knows of it; its time becomes the external one, and if nothing but these two changed, watchers are
 *                               told nothing: only the place of the bytes is another. If it is not what we wrote, it takes the key as a PUT would
 *   it was changed since        it stays dirty, and the next upload expects what lies there now (its *base*). Bytes that were to be found in the object that
 *                               we have overwritten are in the new one, at the same offsets: bodies refer to that from now on (`rebase`)
 *
 * A directory above it may have been renamed since, or another one to where it was, which does not change the row of the key (`Z m`): that is a change too.
 */
import { utf8Bytes, type InodeId, type Revision } from '../../../common/ids.ts'
import { externalSegment, type ExternalBody } from '../../../common/external.ts'
import type { Transaction } from '../../ports.ts'
import { bodyRanges, knownContent } from '../contents.ts'
import { endStep, revisionMade, type Commit, type Step } from '../context.ts'
import { contentKey, entryKey, inodeKey, segmentLiveKey } from '../keys.ts'
import { inodesForKey } from '../publish.ts'
import { encodeContent, type LeafContent } from '../records-contents.ts'
import { decodeInode, encodeEntry, encodeInode, type ObjectEntry, type ObjectInode } from '../records-objects.ts'
import { dropReference } from '../references.ts'
import { currentEntry, findPlace, settle as settleDirectories, type Place } from '../tree.ts'
import { readObjectInode } from '../versions.ts'
import { forgetIfEmpty, isKeptHere, objectsOutside } from './bodies.ts'
import { mirrorStep, readAttached, type MirrorContext } from './mirror-context.ts'
import { makeObjectAt, removeObject, replaceObject } from './mirror-entries.ts'
import { findBelow, originsOf, readMoves, type StoredMove } from './moves.ts'
import {
  decodeDirty,
  decodeExternalSegment,
  dirtyKey,
  encodeDirty,
  encodeExternalSegment,
  externalSegmentKey,
  type BaseRecord,
  type DirtyRecord,
} from './rows.ts'
import type { DescribedObject, DirtyChange } from './types.ts'

export interface SettleRequest {
  readonly bucketId: number
  readonly key: string
  readonly revision: Revision
  readonly outside: DescribedObject | undefined
  readonly written?: string | undefined
}

interface Settled {
  readonly isClean: boolean
  /** Keys that wait for this one no longer. */
  readonly freed: readonly DirtyChange[]
}

const CLEAN: Settled = { isClean: true, freed: [] }
const STILL_DIRTY: Settled = { isClean: false, freed: [] }

export async function settle(context: MirrorContext, request: SettleRequest): Promise<Commit<boolean>> {
  const { bucketId } = request
  const keyBytes = utf8Bytes(request.key)
  const rowKey = dirtyKey(bucketId, keyBytes)
  const ids = await context.ids.take(inodesForKey(keyBytes))
  const done = await context.store.transact(async (tx) => {
    const lease = { next: ids.first, end: ids.first + ids.count }
    const row = await tx.get(rowKey)
    const attached = row && (await readAttached(tx, bucketId))
    if (!attached) return { ...CLEAN, lease }
    const dirty = decodeDirty(rowKey, row)
    const step = mirrorStep(context, tx, { bucket: attached.bucket, ids })
    const moves = await readMoves(tx, bucketId)
    const movedTo = await movedWithDirectory(tx, moves, keyBytes)
    const isRenamed = movedTo !== undefined || mayHaveCome(moves, keyBytes)
    const isAsItWas = dirty.revision === request.revision && !isRenamed
    const settled =
      isAsItWas && !(await hasLeft(step, { ...request, keyBytes }))
        ? await comeClean(step, { ...request, keyBytes })
        : await stayDirty(step, { ...request, keyBytes, dirty, movedTo })
    endStep(step)
    if (settled.isClean) {
      tx.delete(rowKey)
      context.recent.note(bucketId, keyBytes, { revision: revisionMade(step) })
    }
    return { ...settled, lease: step.ids }
  })
  context.ids.giveBack(done.value.lease)
  context.tracked.tell(done.value.freed)
  return { ...done, value: done.value.isClean }
}

export type Settling = SettleRequest & { readonly keyBytes: string }

/** We have written it, and it went from here with its directory meanwhile: what is outside now is to go. */
async function hasLeft(step: Step, { keyBytes, outside, written }: Settling): Promise<boolean> {
  if (outside === undefined || written !== outside.etag) return false
  const place = await findPlace(step.tx, step.bucket, keyBytes)
  return !place || (await currentEntry(step.tx, place)) === undefined
}

export function baseOf(outside: DescribedObject | undefined): BaseRecord {
  return outside ? { kind: 'etag', etag: outside.etag, size: outside.size } : { kind: 'absent' }
}

/** The object that was at this key when a directory above it was renamed, if that is not written down yet. */
async function movedWithDirectory(
  tx: Transaction,
  moves: readonly StoredMove[],
  key: string,
): Promise<InodeId | undefined> {
  for (const { prefix, inode } of originsOf(moves)) {
    if (!key.startsWith(prefix)) continue
    const found = await findBelow(tx, inode, key.slice(prefix.length))
    if (found) return found.id
  }
  return undefined
}

/** Whether what is at this key now may have come with its directory, and not be written down as dirty yet: so it is none of what was carried out. */
function mayHaveCome(moves: readonly StoredMove[], key: string): boolean {
  return moves.some(({ to, isWalked }) => !isWalked && key.startsWith(to))
}

async function comeClean(step: Step, request: Settling): Promise<Settled> {
  const { outside, keyBytes, bucketId, key } = request
  const place = await findPlace(step.tx, step.bucket, keyBytes)
  const current = place && (await currentEntry(step.tx, place))
  if (!place || !current) {
    if (outside) await makeObjectAt(step, { key: keyBytes, outside })
    return CLEAN
  }
  if (!outside) {
    await removeObject(step, place, current)
    await settleDirectories(step, place)
    return CLEAN
  }
  const inode = await readObjectInode(step.tx, current.inode)
  const held = await objectsOutside(step.tx, inode.body)
  if (isOurs(request, inode)) await becomeExternal(step, { place, current, inode, outside })
  else await replaceObject(step, place, { key: keyBytes, outside, current })
  return {
    isClean: true,
    freed: held.filter((object) => object.key !== key).map(({ key: of }) => ({ bucketId, key: of })),
  }
}

/** Where it is not said what we wrote, the size decides: who only looked has found what he wrote before he was stopped. */
function isOurs({ outside, written }: Settling, { size }: ObjectInode): boolean {
  return outside?.size === size && (written === undefined || written === outside.etag)
}

async function becomeExternal(
  step: Step,
  at: {
    readonly place: Place
    readonly current: ObjectEntry
    readonly inode: ObjectInode
    readonly outside: DescribedObject
  },
): Promise<void> {
  const { place, current, inode, outside } = at
  const { key, etag, size } = outside
  const isSame = inode.etag === etag
  const changed = {
    etag,
    mtimeMs: Math.max(0, Math.floor(outside.modifiedMs)) || 0,
    revision: isSame ? inode.revision : revisionMade(step),
  }
  const external: ExternalBody = { key, etag, size, isDescribed: true }
  const held: Pick<ObjectInode, 'body' | 'twin'> = isKeptHere(inode)
    ? { body: inode.body, twin: external }
    : { body: { kind: 'external', external } }
  const partsCount = outside.partsCount ?? inode.partsCount
  step.tx.rewrite(inodeKey(current.inode), encodeInode({ ...inode, ...changed, partsCount, ...held }))
  const row = entryKey(place.parent, place.name)
  const entry = encodeEntry({ ...current, ...changed })
  if (isSame) step.tx.rewriteUntold(row, entry)
  else step.tx.rewrite(row, entry)
  if (inode.body.kind === 'content') await dropReference(step.tx, inode.body.content)
}

/**
 * What was changed here since knows of what we wrote, or of what was known before: not of what somebody else has put there meanwhile, which whoever carries the
 * change out is to find as a conflict.
 */
function baseSince({ dirty, outside, written }: Settling & { readonly dirty: DirtyRecord }): BaseRecord {
  if (outside === undefined) return { kind: 'absent' }
  if (written === undefined) return dirty.base
  if (written === outside.etag) return baseOf(outside)
  // Only the ETag is ever compared.
  return { kind: 'etag', etag: written, size: outside.size }
}

async function stayDirty(
  step: Step,
  request: Settling & { readonly dirty: DirtyRecord; readonly movedTo: InodeId | undefined },
): Promise<Settled> {
  const { dirty, outside, written, keyBytes, bucketId } = request
  const { tx } = step
  tx.put(dirtyKey(bucketId, keyBytes), encodeDirty({ ...dirty, base: baseSince(request) }))
  if (!outside || written !== outside.etag) return STILL_DIRTY
  const place = await findPlace(tx, step.bucket, keyBytes)
  const current = place && (await currentEntry(tx, place))
  const inodes = new Set([current?.inode, request.movedTo, ...dirty.neededBy])
  for (const id of inodes) if (id !== undefined) await rebase(tx, id, { bucketId, outside })
  return STILL_DIRTY
}

/**
 * What of an inode's bytes lay in the external object of this key lies in the new one, which we have written from just such a body: so every
 * piece that is still left of the old one is at its own offset in it.
 */
async function rebase(
  tx: Transaction,
  id: InodeId,
  onto: { readonly bucketId: number; readonly outside: DescribedObject },
): Promise<void> {
  const row = await tx.get(inodeKey(id))
  const inode = row && decodeInode(row)
  if (inode?.kind !== 'object') return
  const { body } = inode
  const { key, etag, size } = onto.outside
  if (body.kind === 'external' && body.external.key === key && body.external.size === size) {
    const external = { ...body.external, etag }
    tx.rewrite(inodeKey(id), encodeInode({ ...inode, body: { kind: 'external', external } }))
  }
  if (body.kind !== 'content') return
  for (const [content, leaf] of await leavesOf(tx, body.content, onto)) await moveLeaf(tx, { content, leaf }, onto)
}

/** Leaves that lie in an older object of the key, each where it was in that. */
async function leavesOf(
  tx: Transaction,
  content: number,
  { bucketId, outside }: { readonly bucketId: number; readonly outside: DescribedObject },
): Promise<ReadonlyMap<number, LeafContent>> {
  const record = await knownContent(tx, content)
  const wanted = { from: 0, to: record.length, base: 0 }
  const leaves = new Map<number, LeafContent>()
  const displaced = new Set<number>()
  for (const range of await bodyRanges(tx, { content, record, wanted }, Infinity)) {
    const { leaf } = range
    if (!leaf || !(await isAtKey(tx, leaf, { bucketId, key: outside.key }))) continue
    leaves.set(range.content, leaf)
    const at = leaf.segmentOffset + range.contentOffset
    if (at !== range.offset || at + range.length > outside.size) displaced.add(range.content)
  }
  for (const one of displaced) leaves.delete(one)
  return leaves
}

async function isAtKey(
  tx: Transaction,
  { segment }: LeafContent,
  { bucketId, key }: { readonly bucketId: number; readonly key: string },
): Promise<boolean> {
  const row = await tx.get(externalSegmentKey(segment))
  const known = row && decodeExternalSegment(row)
  return known?.bucketId === bucketId && known.key === key
}

/** A leaf lies in another external object from now on, where it lay in the one before. */
export async function moveLeaf(
  tx: Transaction,
  { content, leaf }: { readonly content: number; readonly leaf: LeafContent },
  { bucketId, outside }: { readonly bucketId: number; readonly outside: Pick<ExternalBody, 'key' | 'etag' | 'size'> },
): Promise<void> {
  const { key, etag, size } = outside
  const segment = externalSegment(bucketId, outside)
  if (segment === leaf.segment) return
  tx.put(contentKey(content), encodeContent({ ...leaf, segment }))
  tx.put(externalSegmentKey(segment), encodeExternalSegment({ bucketId, key, etag, size }))
  tx.add(segmentLiveKey(segment), [leaf.length])
  tx.add(segmentLiveKey(leaf.segment), [-leaf.length])
  await forgetIfEmpty(tx, leaf.segment)
}
