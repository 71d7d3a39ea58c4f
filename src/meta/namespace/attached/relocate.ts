/**
 * What lies outside at one key was copied to another one over there, for those who were renamed from it and still need it (attach/carry-out-room.ts): so that
 * the first key can be overwritten. Bodies and leaves that lie in the former object lie in the copy from now on, whose dirty row says that they need it.
 */
import { utf8Bytes, type InodeId } from '../../../common/ids.ts'
import type { ExternalBody } from '../../../common/external.ts'
import type { Transaction } from '../../ports.ts'
import { bodyRanges, knownContent } from '../contents.ts'
import { endStep, revisionMade, type Commit, type Step } from '../context.ts'
import { inodeKey } from '../keys.ts'
import type { LeafContent } from '../records-contents.ts'
import { decodeInode, encodeInode } from '../records-objects.ts'
import { currentEntry, findPlace, settle as settleDirectories } from '../tree.ts'
import { mirrorStep, readAttached, type MirrorContext } from './mirror-context.ts'
import { removeObject } from './mirror-entries.ts'
import { decodeDirty, decodeExternalSegment, dirtyKey, encodeDirty, externalSegmentKey } from './rows.ts'
import { moveLeaf } from './settle.ts'

export interface RelocateRequest {
  readonly bucketId: number
  readonly from: Pick<ExternalBody, 'key' | 'etag' | 'size'>
  readonly to: { readonly key: string; readonly etag: string }
}

/** Resolves with whether anybody needed it. */
export async function relocate(context: MirrorContext, request: RelocateRequest): Promise<Commit<boolean>> {
  const { bucketId, from, to } = request
  const committed = await context.store.transact(async (tx) => {
    const rowKey = dirtyKey(bucketId, utf8Bytes(from.key))
    const row = await tx.get(rowKey)
    const attached = row && (await readAttached(tx, bucketId))
    if (!attached) return false
    const dirty = decodeDirty(rowKey, row)
    const step = mirrorStep(context, tx, { bucket: attached.bucket, ids: { first: 0, count: 0 } })
    const relocated: InodeId[] = []
    for (const inode of dirty.neededBy) if (await relocateInode(tx, inode, request)) relocated.push(inode)
    const neededBy = dirty.neededBy.filter((inode) => !relocated.includes(inode))
    tx.put(rowKey, encodeDirty({ ...dirty, neededBy }))
    await hide(step, to.key)
    const base = { kind: 'etag', etag: to.etag, size: from.size } as const
    const made = { key: to.key, base, sinceMs: step.nowMs, revision: revisionMade(step), neededBy: relocated }
    tx.put(dirtyKey(bucketId, utf8Bytes(to.key)), encodeDirty({ ...made, conflict: undefined }))
    endStep(step)
    return relocated.length > 0
  })
  context.tracked.tell([{ bucketId, key: to.key }])
  return committed
}

/** False when it needs nothing of it. */
async function relocateInode(tx: Transaction, id: InodeId, { bucketId, from, to }: RelocateRequest): Promise<boolean> {
  const row = await tx.get(inodeKey(id))
  const inode = row && decodeInode(row)
  if (inode?.kind !== 'object') return false
  const { body } = inode
  if (body.kind === 'external') {
    if (body.external.key !== from.key || body.external.etag !== from.etag) return false
    tx.rewrite(
      inodeKey(id),
      encodeInode({ ...inode, body: { kind: 'external', external: { ...body.external, ...to } } }),
    )
    return true
  }
  if (body.kind !== 'content') return false
  const leaves = await leavesIn(tx, body.content, { bucketId, from })
  const outside = { ...to, size: from.size }
  for (const [content, leaf] of leaves) await moveLeaf(tx, { content, leaf }, { bucketId, outside })
  return leaves.size > 0
}

/** Leaves of a content that lie in the object. */
async function leavesIn(
  tx: Transaction,
  content: number,
  { bucketId, from }: Pick<RelocateRequest, 'bucketId' | 'from'>,
): Promise<ReadonlyMap<number, LeafContent>> {
  const record = await knownContent(tx, content)
  const wanted = { from: 0, to: record.length, base: 0 }
  const leaves = new Map<number, LeafContent>()
  for (const range of await bodyRanges(tx, { content, record, wanted }, Infinity)) {
    const { leaf } = range
    const row = leaf && (await tx.get(externalSegmentKey(leaf.segment)))
    const known = row && decodeExternalSegment(row)
    const lies = known?.bucketId === bucketId && known.key === from.key && known.etag === from.etag
    if (leaf && lies) leaves.set(range.content, leaf)
  }
  return leaves
}

/** A listing may have brought the copy here before this came about. */
async function hide(step: Step, key: string): Promise<void> {
  const place = await findPlace(step.tx, step.bucket, utf8Bytes(key))
  const current = place && (await currentEntry(step.tx, place))
  if (!place || !current) return
  await removeObject(step, place, current)
  await settleDirectories(step, place)
}
