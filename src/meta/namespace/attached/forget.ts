/**
 * Forgetting an attached bucket, in bounded steps; nothing outside changes. Whoever asks has made sure that nobody writes to it any more, and
 * that what was to be carried out has been, or is given up.
 *
 *   1  coverage, dirty keys, renames: from then on nothing that goes here is taken for a deletion, and no range for known
 *   2  what the bucket holds, from the deepest directory up
 *   3  the bucket and its attachment, in one transaction
 *
 * So a crash in between leaves an attached bucket of which less is known; it lists anew, or is forgotten by the next call.
 */
import type { AttachmentRecord } from '../../../common/external.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'
import type { Row, Transaction } from '../../ports.ts'
import { dropBucket } from '../buckets.ts'
import { endStep, type Commit, type Step } from '../context.ts'
import { bucketKey, entriesPrefix, entryKey, formerPlaceKey, inodeKey, prefixRange } from '../keys.ts'
import { decodeBucket, decodeEntry, encodePlace } from '../records-objects.ts'
import { directoryInode } from '../tree.ts'
import { discardCurrent } from '../versions.ts'
import { notAttached } from './attach.ts'
import { mirrorStep, type MirrorContext } from './mirror-context.ts'
import { attachmentKey, coveragePrefix, dirtyPrefix, movesPrefix, unlistedKey } from './rows.ts'
import { nameOf } from './merge-frames.ts'

const OPERATIONS_MAX = 1024
const OPERATIONS_RESERVED = 16
const OPERATIONS_PER_NAME = 6

/**
 * False when it is gone: also when another one has its name by now, which is none of this one's business.
 * @throws InvalidRequest when it is not attached
 */
export async function forget(
  context: MirrorContext,
  { bucketId, bucket: name }: Pick<AttachmentRecord, 'bucketId' | 'bucket'>,
): Promise<Commit<boolean>> {
  const most = Math.min(context.store.limits.operationsMax, OPERATIONS_MAX) - OPERATIONS_RESERVED
  return context.store.transact(async (tx) => {
    const row = await tx.get(bucketKey(name))
    if (!row) return false
    const bucket = decodeBucket(row)
    if (bucket.id !== bucketId) return false
    if (!(await tx.get(attachmentKey(bucketId)))) throw notAttached(name)
    for (const prefix of [coveragePrefix(bucket.id), dirtyPrefix(bucket.id), movesPrefix(bucket.id)]) {
      if (await dropRows(tx, prefix, most)) return true
    }
    const step = mirrorStep(context, tx, { bucket, ids: { first: 0, count: 0 } })
    const isEmpty = await dropNames(step, most)
    endStep(step)
    if (!isEmpty) return true
    tx.delete(attachmentKey(bucket.id))
    // Not before: until then its changes are looked at, and refused (traces.ts).
    context.tracked.remove(bucket.id)
    dropBucket(tx, bucket)
    return false
  })
}

/** Whether there were any. */
async function dropRows(tx: Transaction, prefix: string, most: number): Promise<boolean> {
  const rows = await tx.scan(prefixRange(prefix), most)
  for (const { key } of rows) tx.delete(key)
  return rows.length > 0
}

/** A directory that is being emptied. */
interface Level {
  readonly parent: InodeId
  readonly name: string
  readonly inode: InodeId
  /** Read ahead, and from where on more are read: never over what has been deleted again, which would take as long as all of it. */
  rows: Row[]
  from: ByteString
}

const ROWS_AHEAD = 64

function levelOf(place: Pick<Level, 'parent' | 'name' | 'inode'>): Level {
  return { ...place, rows: [], from: prefixRange(entriesPrefix(place.inode)).start }
}

async function nextRow(tx: Transaction, level: Level): Promise<Row | undefined> {
  if (level.rows.length === 0) {
    const { end } = prefixRange(entriesPrefix(level.inode))
    level.rows = await tx.scan({ start: level.from, end }, ROWS_AHEAD)
  }
  const row = level.rows.shift()
  if (row) level.from = `${row.key}\0` as ByteString
  return row
}

/** Whether nothing is left. */
async function dropNames(step: Step, most: number): Promise<boolean> {
  const { tx, bucket } = step
  const levels = [levelOf({ parent: 0, name: bucket.name, inode: bucket.root })]
  for (let left = Math.floor(most / OPERATIONS_PER_NAME); left > 0; left--) {
    const level = levels.at(-1)
    if (!level) return true
    const row = await nextRow(tx, level)
    const name = row && nameOf(row)
    if (!row || name === undefined) {
      levels.pop()
      if (levels.length === 0) return true
      dropDirectory(tx, level)
    } else if (name.endsWith('/')) {
      levels.push(levelOf({ parent: level.inode, name, inode: directoryInode(row.value) }))
    } else {
      const entry = decodeEntry(row.value)
      tx.delete(row.key)
      const place = { parent: level.inode, name, directories: [], isNew: false }
      if (entry.kind === 'object') await discardCurrent(step, place, entry)
    }
  }
  return false
}

function dropDirectory(tx: Transaction, { parent, name, inode }: Level): void {
  tx.delete(entryKey(parent, name))
  tx.delete(inodeKey(inode))
  tx.delete(unlistedKey(inode))
  tx.put(formerPlaceKey(inode), encodePlace({ parent, name }))
}
