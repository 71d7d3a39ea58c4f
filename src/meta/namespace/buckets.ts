/** Buckets: making, naming, emptying out. */
import { TidegateError, isTidegateError } from '../../common/errors.ts'
import { utf8Bytes, type ByteString } from '../../common/ids.ts'
import type { AckLevel, BucketRecord, Versioning } from '../../common/model.ts'
import type { Transaction } from '../ports.ts'
import { leaseInodes, readBucket, type Commit, type NamespaceContext } from './context.ts'
import { expire } from './expire.ts'
import type { PosixPart } from './files/posix-part.ts'
import {
  BUCKETS,
  BUCKET_COUNT_KEY,
  bucketKey,
  deletedBucketKey,
  entriesPrefix,
  formerPlaceKey,
  inodeKey,
  prefixEnd,
  prefixRange,
  versionsPrefix,
} from './keys.ts'
import { validateBucketName } from './names.ts'
import { decodeBucket, encodeBucket, encodeInode, encodePlace } from './records-objects.ts'

const BUCKETS_MAX = 10_000
/** A backlog of some hundred thousand keys. */
const EXPIRY_STEPS_MAX = 4096
const NO_PAYLOAD = new Uint8Array(0)

export interface NewBucket {
  readonly name: string
  readonly owner: string
  readonly region: string
  readonly ack: AckLevel
  readonly posix?: PosixPart | undefined
}

export async function createBucket(context: NamespaceContext, request: NewBucket): Promise<Commit<BucketRecord>> {
  validateBucketName(request.name)
  // A bucket's id is the id of its root: one sequence, never reused.
  const { first: id } = await leaseInodes(context, 1)
  return context.store.transact((tx) => putBucket(context, tx, { ...request, id }))
}

/** The rows of a new bucket. @throws BucketAlreadyExists, BucketAlreadyOwnedByYou, TooManyBuckets */
export async function putBucket(
  context: NamespaceContext,
  tx: Transaction,
  request: NewBucket & { readonly id: number; readonly isAttached?: boolean },
): Promise<BucketRecord> {
  const { id, name, owner, region, ack, posix, isAttached } = request
  const existing = await tx.get(bucketKey(name))
  if (existing) {
    const code = decodeBucket(existing).owner === owner ? 'BucketAlreadyOwnedByYou' : 'BucketAlreadyExists'
    throw new TidegateError(code, `bucket ${JSON.stringify(name)} exists`, { details: { bucket: name } })
  }
  const [count = 0] = await tx.counters(BUCKET_COUNT_KEY, 1)
  if (count >= BUCKETS_MAX) throw new TidegateError('TooManyBuckets', `there are ${count} buckets`)
  const createdMs = context.clock.nowMs()
  const bucket: BucketRecord = { name, owner, region, ack, id, root: id, createdMs, versioning: 'off', isAttached }
  tx.put(bucketKey(name), encodeBucket(bucket))
  tx.put(inodeKey(id), encodeInode({ kind: 'directory', parent: 0, name, createdMs, posix }))
  tx.add(BUCKET_COUNT_KEY, [1])
  return bucket
}

/** Of what cannot be done in the mirror of an external bucket (C32). */
export function attachedBucket(name: string, why: string): TidegateError {
  return new TidegateError('InvalidBucketState', `attached bucket ${JSON.stringify(name)} ${why}`, {
    details: { bucket: name },
  })
}

/** Ascending by name, after `after`. */
export function listBuckets(
  context: NamespaceContext,
  request: { prefix: string; after: string; limit: number },
): Promise<BucketRecord[]> {
  const prefix = utf8Bytes(request.prefix)
  const after = utf8Bytes(request.after)
  const { limit } = request
  const start = (after >= prefix && after !== '' ? `${BUCKETS}${after}\0` : BUCKETS + prefix) as ByteString
  const end = prefixEnd(BUCKETS + prefix)
  if (start >= end || limit <= 0) return Promise.resolve([])
  return context.store.read(async (view) => {
    const rows = await view.scan({ start, end }, limit)
    return rows.map((row) => decodeBucket(row.value))
  })
}

/** @throws BucketNotEmpty while anything is listed in it, versions included. Uploads in progress are aborted by the reclaimer. */
export async function deleteBucket(context: NamespaceContext, name: string): Promise<Commit<void>> {
  try {
    return await deleteEmpty(context, name)
  } catch (error) {
    if (!isTidegateError(error, 'BucketNotEmpty') || !(await expireAll(context))) throw error
    return deleteEmpty(context, name)
  }
}

/** What has expired is not listed, so it must not hold a bucket: it goes now, not when the expirer comes. */
async function expireAll(context: NamespaceContext): Promise<boolean> {
  let steps = 0
  while (steps < EXPIRY_STEPS_MAX && (await expire(context)).value.expired > 0) steps++
  return steps > 0
}

function deleteEmpty(context: NamespaceContext, name: string): Promise<Commit<void>> {
  return context.store.transact(async (tx) => {
    const bucket = await readBucket(tx, name)
    if (bucket.isAttached) throw attachedBucket(name, 'is detached, not deleted')
    const [objects, versions] = await tx.scanMany(
      [prefixRange(entriesPrefix(bucket.root)), prefixRange(versionsPrefix(bucket.root))],
      1,
    )
    if (objects?.length || versions?.length) {
      throw new TidegateError('BucketNotEmpty', `bucket ${JSON.stringify(name)} is not empty`, {
        details: { bucket: name },
      })
    }
    dropBucket(tx, bucket)
  })
}

/** The rows of a bucket that holds nothing any more. */
export function dropBucket(tx: Transaction, { id, root, name }: BucketRecord): void {
  tx.delete(bucketKey(name))
  tx.delete(inodeKey(root))
  tx.put(deletedBucketKey(id), NO_PAYLOAD)
  // Who watches a bucket of this name, made again meanwhile, must still be told what went before it (changes.ts).
  tx.put(formerPlaceKey(root), encodePlace({ parent: 0, name }))
  tx.add(BUCKET_COUNT_KEY, [-1])
}

export async function setVersioning(
  context: NamespaceContext,
  name: string,
  versioning: Exclude<Versioning, 'off'>,
): Promise<Commit<void>> {
  return context.store.transact(async (tx) => {
    const bucket = await readBucket(tx, name)
    if (bucket.isAttached) throw attachedBucket(name, 'keeps no versions')
    if (bucket.versioning !== versioning) tx.put(bucketKey(name), encodeBucket({ ...bucket, versioning }))
  })
}
