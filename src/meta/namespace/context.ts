/** What every operation of the namespace works with, and the scratch state of one transaction. */
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ContentId, InodeId, Revision } from '../../common/ids.ts'
import type { Limits } from '../../common/limits.ts'
import type { BucketRecord, ObjectVersion } from '../../common/model.ts'
import type { Committed, OrderedStore, ReadView, Transaction } from '../ports.ts'
import type { DecodedCache } from './decoded-cache.ts'
import type { BucketDefaults, FileDefaults } from './files/types.ts'
import type { IdSequence } from './id-sequence.ts'
import { bucketKey, usageKey } from './keys.ts'
import { canNameBucket } from './names.ts'
import { decodeBucket, REVISION_OF_ITS_COMMIT } from './records-objects.ts'

export interface NamespaceContext {
  readonly store: OrderedStore
  /** For changes that nobody has asked for: they are made in a bucket that is being detached, too (attached/traces.ts). */
  readonly unasked: OrderedStore
  /** The store itself, where changes of attached buckets leave no traces (attached/traces.ts). */
  readonly untraced: OrderedStore
  readonly clock: Clock
  readonly limits: Limits
  /** Names this process in composites under construction, orphans and times of directories. */
  readonly node: string
  /** Its number among the nodes that share the namespace, from 1; 0: it is shared with nobody. */
  readonly nodeNumber: number
  readonly inodes: IdSequence
  readonly contents: IdSequence
  readonly cache: DecodedCache
  /** Composites that this process is building: the reclaimer leaves them alone. */
  readonly building: Set<ContentId>
  readonly fillRandom: (bytes: Uint8Array) => void
  /** How the mount shows what S3 or KV made. */
  readonly files: FileDefaults
  readonly newBuckets: BucketDefaults
  /** Whether somebody has the inode open, so that it must outlive its last name. Set once, at the start (files.ts). */
  keepInode: (inode: InodeId) => boolean
  /** What was dropped after that may still be wanted on this node. Set once, at the start (files.ts). */
  heldBack: () => Revision
}

/** Its name where nothing else is said: of the one process of an embedded store. */
export const THIS_NODE = 'local'

/** What a node is called in rows that are its own. */
export function nodeName(number: number): string {
  return number === 0 ? THIS_NODE : `node${number}`
}

/** In whose name usage is counted: a store that is shared keeps the nodes' parts of a counter apart by itself. */
export const COUNTED_BY = 'local'

export type Commit<T> = Committed<T>

/** An operation of its own file, with the context passed in. */
export type Bound<Operation> = Operation extends (context: NamespaceContext, ...rest: infer Rest) => infer Result
  ? (...rest: Rest) => Result
  : never

/** One run of a transaction in one bucket. Made afresh for every run, so a retry starts from nothing. */
export interface Step {
  readonly context: NamespaceContext
  readonly tx: Transaction
  readonly bucket: BucketRecord
  /** Inode ids taken before the transaction began; a retry uses the same ones. */
  readonly ids: IdLease
  readonly nowMs: number
  /** As the context's, unless the caller of this operation says otherwise. */
  keepInode: (inode: InodeId) => boolean
  objectsDelta: number
  bytesDelta: number
}

/** A run of consecutive ids. */
export interface IdLease {
  next: number
  readonly end: number
}

export async function leaseInodes(
  context: NamespaceContext,
  count: number,
): Promise<{ first: InodeId; count: number }> {
  return { first: context.inodes.tryTake(count) ?? (await context.inodes.take(count)), count }
}

/** @throws NoSuchBucket */
export async function beginStep(
  context: NamespaceContext,
  tx: Transaction,
  bucketName: string,
  ids: { first: InodeId; count: number } = { first: 0, count: 0 },
): Promise<Step> {
  return {
    context,
    tx,
    bucket: await readBucket(tx, bucketName),
    ids: { next: ids.first, end: ids.first + ids.count },
    nowMs: context.clock.nowMs(),
    keepInode: context.keepInode,
    objectsDelta: 0,
    bytesDelta: 0,
  }
}

/** What `revision` says of a version made in this step (records-objects.ts, ObjectInode). */
export function revisionMade({ context, tx }: Pick<Step, 'context' | 'tx'>): Revision {
  return context.store.isShared ? REVISION_OF_ITS_COMMIT : tx.revision + 1
}

/** Fills in the revision where what a transaction made could not say it before its commit. */
export async function withRevision<T>(
  context: NamespaceContext,
  committed: Promise<Commit<T>>,
  fill: (value: T, revision: Revision) => T,
): Promise<Commit<T>> {
  const commit = await committed
  const { value, revision, durable } = commit
  return context.store.isShared ? { value: fill(value, revision), revision, durable } : commit
}

export function versionMade(version: ObjectVersion, revision: Revision): ObjectVersion {
  return version.revision === REVISION_OF_ITS_COMMIT ? { ...version, revision } : version
}

/** Writes what the step summed up. Last call of every step that may have made or dropped a version. */
export function endStep(step: Step): void {
  if (step.objectsDelta === 0 && step.bytesDelta === 0) return
  step.tx.add(usageKey(step.bucket.id, COUNTED_BY), [step.objectsDelta, step.bytesDelta])
}

/** @throws NoSuchBucket */
export async function readBucket(view: ReadView, name: string): Promise<BucketRecord> {
  const row = canNameBucket(name) ? await view.get(bucketKey(name)) : undefined
  if (!row) throw noSuchBucket(name)
  const known = decodedBuckets.get(row)
  if (known !== undefined) return known
  const bucket = decodeBucket(row)
  decodedBuckets.set(row, bucket)
  return bucket
}

/** Every transaction reads the row of its bucket, and mostly gets the same bytes, which nobody changes. */
const decodedBuckets = new WeakMap<Uint8Array, BucketRecord>()

export function noSuchBucket(name: string): TidegateError {
  return new TidegateError('NoSuchBucket', `no bucket ${JSON.stringify(name)}`, { details: { bucket: name } })
}

/** A result that needed no commit: what it says is already durable, or will be with what it was read from. */
export function nothingWritten<T>(context: NamespaceContext, value: T): Commit<T> {
  const durable = context.store.flush()
  durable.catch(() => {}) // safe to ignore, as of any commit
  return { value, revision: context.store.revision(), durable }
}
