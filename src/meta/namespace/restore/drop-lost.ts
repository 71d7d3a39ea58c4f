/**
 * After a restore: what refers to segments that the remote store does not have. That does not happen as long as names follow bytes
 * (decision 13); it does when somebody removed objects there, or when only an older part of the names could be read. An
 * object without all its bytes is removed, as a DELETE of that version would do it: where versions are kept the one before becomes current. So is
 * an upload's part. What nothing refers to any more is then taken apart at once, so that no row names such a segment afterwards.
 */
import type { ByteString, SegmentId } from '../../../common/ids.ts'
import type { OrderedStore } from '../../ports.ts'
import { addressOf, contentsOver, objectsOver, partRowsOver, partsOver, removeObject } from '../bytes-lost.ts'
import type { NamespaceContext } from '../context.ts'
import { dropFile } from '../files/remove.ts'
import { linksOf } from '../files/links.ts'
import { RECLAIM, inodeKey, prefixRange } from '../keys.ts'
import type { Reclaimer } from '../reclaim.ts'
import { decodePiece } from '../records-contents.ts'
import { decodeInode } from '../records-objects.ts'
import { dropReference } from '../references.ts'
import { segmentRemoved } from '../segments.ts'

const REPORTED_MAX = 10_000

export interface DroppedObjects {
  readonly objects: number
  readonly parts: number
  /** The first ten thousand. */
  readonly lost: readonly { readonly bucket: string; readonly key: string }[]
}

export async function dropLost(
  context: NamespaceContext,
  reclaimer: Pick<Reclaimer, 'dismantle'>,
  missing: ReadonlySet<SegmentId>,
): Promise<DroppedObjects> {
  if (missing.size === 0) return { objects: 0, parts: 0, lost: [] }
  const { store } = context
  const contents = await contentsOver(store, (leaf) => missing.has(leaf.segment))
  const lost: { bucket: string; key: string }[] = []
  const doomed: number[] = []
  for await (const { id, inode } of objectsOver(store, contents)) {
    doomed.push(id)
    if (linksOf(inode) > 0 && lost.length < REPORTED_MAX) lost.push(await addressOf(store, inode))
  }
  lost.push(...(await partsOver(store, contents)).slice(0, REPORTED_MAX - lost.length))
  for (const inode of doomed) await removeEverywhere(context, inode)
  const parts = await dropParts(store, contents)
  await dismantleAll(store, reclaimer)
  for (const segment of missing) await segmentRemoved(context, segment)
  await store.flush()
  return { objects: doomed.length, parts, lost }
}

/** Under all its names; a file that had none goes with its row. */
async function removeEverywhere(context: NamespaceContext, id: number): Promise<void> {
  for (;;) {
    const row = await context.store.read((view) => view.get(inodeKey(id)))
    const inode = row && decodeInode(row)
    if (inode?.kind !== 'object') return
    if (linksOf(inode) === 0) return void (await dropFile(context, id))
    if (!(await removeObject(context, id))) return
  }
}

async function dropParts(store: OrderedStore, contents: ReadonlySet<number>): Promise<number> {
  const keys: ByteString[] = []
  for await (const row of partRowsOver(store, contents)) keys.push(row.key)
  for (const key of keys) {
    await store.transact(async (tx) => {
      const row = await tx.get(key)
      const content = row && decodePiece(row).content
      if (content === undefined) return
      tx.delete(key)
      await dropReference(tx, content)
    })
  }
  return keys.length
}

/** Nobody reads yet, so nothing needs to wait for readers (C12). */
async function dismantleAll(store: OrderedStore, reclaimer: Pick<Reclaimer, 'dismantle'>): Promise<void> {
  for (;;) {
    await store.flush()
    const { value } = await reclaimer.dismantle(store.durableRevision())
    if (value.steps > 0) continue
    const left = await store.read((view) => view.scan(prefixRange(RECLAIM), 1))
    // What is left waits for another builder; the first look only notes what there is.
    if (left.length === 0 || (await reclaimer.dismantle(store.durableRevision())).value.steps === 0) return
  }
}
