/** The attached buckets of this process, as the parts of `attach` see them; kept by attachments.ts. */
import type { AttachmentRecord, ExternalBucket, ExternalCapabilities } from './ports.ts'

export interface Attached {
  readonly record: AttachmentRecord
  readonly external: ExternalBucket
  /** Undefined until the store could be asked. */
  readonly capabilities: ExternalCapabilities | undefined
}

export interface AttachedBuckets {
  /** Whether there are any: all that other buckets pay. */
  readonly isEmpty: boolean
  of(bucket: string): Attached | undefined
  ofId(bucketId: number): Attached | undefined
  all(): readonly Attached[]
}
