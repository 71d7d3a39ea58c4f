/**
 * Reference counts of contents (C11). An object version, an upload's part and a piece of a composite each hold one
 * reference. The last one to go turns the content's K row into a G row in the same transaction; the reclaimer takes that apart later.
 */
import { assert, must } from '../../common/assert.ts'
import type { ContentId } from '../../common/ids.ts'
import type { AckLevel, StoredRun } from '../../common/model.ts'
import type { ReadView, Transaction } from '../ports.ts'
import { contentKey, droppedContentKey, segmentLiveKey } from './keys.ts'
import { decodeContent, decodeDropped, encodeContent, encodeDropped, type Content } from './records-contents.ts'

/** Records a body that the journal has written, with its first reference. Reads nothing. */
export function addRun(tx: Transaction, run: StoredRun, ack: AckLevel): void {
  const { content, segment, segmentOffset, length } = run
  tx.put(contentKey(content), encodeContent({ kind: 'leaf', references: 1, ack, segment, segmentOffset, length }))
  tx.add(segmentLiveKey(segment), [length])
}

/**
 * `addRun` for a run of which pieces are published one after another: it may be recorded already, and may even have been
 * dropped since. It has one reference more than before.
 */
export async function addRunOrReference(tx: Transaction, run: StoredRun, ack: AckLevel): Promise<void> {
  if (!(await refersAgain(tx, run.content))) addRun(tx, run, ack)
}

/** A content that may have lost its last reference has one more. False: it has been taken apart, or never was. */
export async function refersAgain(tx: Transaction, content: ContentId): Promise<boolean> {
  if (await tx.get(contentKey(content))) {
    await addReference(tx, content)
    return true
  }
  const droppedKey = droppedContentKey(content)
  const dropped = await tx.get(droppedKey)
  if (!dropped) return false
  tx.delete(droppedKey)
  tx.put(contentKey(content), encodeContent({ ...decodeDropped(dropped).content, references: 1 }))
  return true
}

/** The content is referred to by the transaction's other reads, so it exists. */
export async function addReference(tx: Transaction, content: ContentId, count = 1): Promise<Content> {
  const key = contentKey(content)
  const record = decodeContent(must(await tx.get(key), `content ${content}`))
  tx.put(key, encodeContent({ ...record, references: record.references + count }))
  return record
}

export async function dropReference(tx: Transaction, content: ContentId, count = 1): Promise<void> {
  const key = contentKey(content)
  const record = decodeContent(must(await tx.get(key), `content ${content}`))
  const references = record.references - count
  assert(references >= 0, `references of content ${content}`)
  if (references > 0) {
    tx.put(key, encodeContent({ ...record, references }))
    return
  }
  tx.delete(key)
  tx.put(droppedContentKey(content), encodeDropped({ builder: undefined, content: { ...record, references } }))
}

/** A content's record, also while it waits for the reclaimer: a reader that opened it before may still need it (C12). */
export async function readContent(view: ReadView, content: ContentId): Promise<Content | undefined> {
  const row = await view.get(contentKey(content))
  if (row) return decodeContent(row)
  const dropped = await view.get(droppedContentKey(content))
  return dropped && decodeDropped(dropped).content
}
