/** What the mirror's operations work with. */
import { must } from '../../../common/assert.ts'
import type { InodeId } from '../../../common/ids.ts'
import type { BucketRecord } from '../../../common/model.ts'
import type { ReadView, Transaction } from '../../ports.ts'
import { leaseInodes, readBucket, type IdLease, type NamespaceContext, type Step } from '../context.ts'
import type { RecentChanges } from './recent-changes.ts'
import { attachmentKey, decodeAttachment } from './rows.ts'
import type { DirtyChange } from './types.ts'
import type { AttachmentRecord } from '../../../common/external.ts'

/** The attached buckets, as the store that leaves traces knows them: changed at once, while the rows are. */
export interface TrackedBuckets {
  add(bucketId: number): void
  remove(bucketId: number): void
  /** To who listens (`onDirty`), after the commit that made keys dirty. */
  tell(changes: readonly DirtyChange[]): void
}

export interface MirrorContext extends NamespaceContext {
  /** The ordered store itself: what is written through it is no change of ours, and leaves no traces. */
  readonly store: NamespaceContext['store']
  readonly tracked: TrackedBuckets
  readonly recent: RecentChanges
  readonly ids: IdPool
}

const LEASED_AT_ONCE = 2048
const SPARE_MAX = 8

/**
 * Inode ids for transactions that do not know how many they need. What is left of a lease serves the next one, so that a merge
 * that changes nothing takes none away.
 */
export class IdPool {
  readonly #context: NamespaceContext
  #spare: IdLease[] = []

  constructor(context: NamespaceContext) {
    this.#context = context
  }

  async take(count: number): Promise<{ first: InodeId; count: number }> {
    const at = this.#spare.findIndex((lease) => lease.end - lease.next >= count)
    const [lease] = at < 0 ? [] : this.#spare.splice(at, 1)
    if (lease) return { first: lease.next, count: lease.end - lease.next }
    return leaseInodes(this.#context, Math.max(count, LEASED_AT_ONCE))
  }

  /** What the transaction left of it. */
  giveBack(lease: IdLease): void {
    if (lease.next < lease.end && this.#spare.length < SPARE_MAX) this.#spare.push({ ...lease })
  }
}

/** A bucket by its id; undefined when it is not attached (any more). */
export async function readAttached(
  view: ReadView,
  bucketId: number,
): Promise<{ readonly attachment: AttachmentRecord; readonly bucket: BucketRecord } | undefined> {
  const key = attachmentKey(bucketId)
  const row = await view.get(key)
  if (!row) return undefined
  const attachment = decodeAttachment(key, row)
  const bucket = await readBucket(view, attachment.bucket)
  return must(bucket.id === bucketId ? { attachment, bucket } : undefined, 'an attachment is of the bucket of its name')
}

export function mirrorStep(
  context: MirrorContext,
  tx: Transaction,
  { bucket, ids }: { readonly bucket: BucketRecord; readonly ids: { first: InodeId; count: number } },
): Step {
  return {
    context,
    tx,
    bucket,
    ids: { next: ids.first, end: ids.first + ids.count },
    nowMs: context.clock.nowMs(),
    keepInode: context.keepInode,
    objectsDelta: 0,
    bytesDelta: 0,
  }
}
