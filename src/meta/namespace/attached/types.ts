/** What the mirror of an attached bucket takes and tells; the shapes of attach/ports.ts, which says what they mean. */
import type { AttachmentRecord } from '../../../common/external.ts'
import type { Revision } from '../../../common/ids.ts'
import type { AckLevel, ObjectAttributes } from '../../../common/model.ts'

export interface SeenObject {
  readonly key: string
  readonly size: number
  readonly etag: string
  readonly modifiedMs: number
  readonly storageClass: string
}

export interface DescribedObject extends SeenObject {
  readonly attributes: ObjectAttributes
  readonly partsCount: number | undefined
}

export type Scope = { readonly kind: 'deep' } | { readonly kind: 'shallow'; readonly directory: string }

export interface SeenPage {
  readonly bucketId: number
  readonly scope: Scope
  readonly prefix: string
  readonly after: string
  readonly through: string | undefined
  readonly objects: readonly SeenObject[]
  readonly prefixes: readonly string[]
  readonly askedAt: Revision
  readonly askedAtMs: number
}

export interface SeenOne {
  readonly bucketId: number
  readonly key: string
  readonly found: DescribedObject | undefined
  readonly askedAt: Revision
}

/** What became of it; `MergedOne` of attach/ports.ts says what they mean. */
export type MergedOne = 'changed' | 'same' | 'kept' | 'late'

export interface AttachRequest {
  readonly bucket: string
  readonly owner: string
  readonly region: string
  readonly ack: AckLevel
  readonly attachment: Omit<AttachmentRecord, 'bucketId' | 'bucket'>
}

export interface DirtyChange {
  readonly bucketId: number
  readonly key: string
}

export interface DirectoryMove {
  readonly id: number
  readonly from: string
  readonly to: string
  readonly startedMs: number
  readonly keys: number
}
