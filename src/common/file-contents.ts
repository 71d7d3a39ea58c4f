/**
 * The content of a file of the mount, as the store and metadata speak of it: what a publish changes, what a copy by reference takes
 * along, what compaction has in mind, and where bytes lie.
 */
import type { ExternalBody } from './external.ts'
import type { ContentId, InodeId, SegmentId } from './ids.ts'
import type { AckLevel, StoredRun } from './model.ts'
import type { FileNode, FileTime } from './file-model.ts'

/** `[offset, offset + length)` of a file becomes these bytes, or a hole. */
export interface FileEdit {
  readonly offset: number
  readonly length: number
  readonly run: StoredRun | undefined
  /** Where in the run these bytes begin; absent: at its start. Several edits of one publish may name parts of one run, which is one content. */
  readonly runOffset?: number | undefined
}

export interface PublishFileRequest {
  readonly inode: InodeId
  /**
   * In order; none overlaps another, and what lies beyond `size` is ignored. If the file's content lies inline, they replace all of it
   * that `size` leaves. Ignored when `inline` is given.
   */
  readonly edits: readonly FileEdit[]
  /** The whole content, when it is small enough to lie in the inode. */
  readonly inline: Uint8Array | undefined
  /** Afterwards: what lies behind it is dropped, what is missing before it is a hole. */
  readonly size: number
  /** Undefined leaves `modified` as it is (an allocation beyond the end changes it too: then it is given). */
  readonly modified: FileTime | undefined
  readonly ack: AckLevel
}

/** `[target.offset, target.offset + length)` of one file becomes the published bytes of another, or of itself, by reference. */
export interface CloneRangeRequest {
  readonly source: { readonly inode: InodeId; readonly offset: number }
  readonly target: { readonly inode: InodeId; readonly offset: number }
  readonly length: number
  readonly modified: FileTime
  readonly ack: AckLevel
}

export interface ClonedRange {
  readonly node: FileNode
  /** Less than was asked for at the end of the source (0 there), and where it lies in very many pieces. */
  readonly length: number
  /** What the target refers to now. */
  readonly segments: readonly SegmentId[]
}

/** A piece of a file, down to where it lies; without a segment a hole. Only metadata minds the rest. */
export interface CompactionPiece {
  readonly content: ContentId | undefined
  readonly contentOffset: number
  readonly offset: number
  readonly length: number
  readonly segment: SegmentId | undefined
  readonly segmentOffset: number
  readonly isNested: boolean
}

/** What is to be done first with a file that lies in too many pieces (C30). */
export interface CompactionPlan {
  /** `rewrite`: the bytes are to become one run. `refer`: the pieces are to be referred to anew. */
  readonly what: 'rewrite' | 'refer' | 'nothing'
  readonly pieces: readonly CompactionPiece[]
  /** How safe the bytes are to be. */
  readonly ack: AckLevel
  /** Where the next plan begins. */
  readonly to: number
  /** Stays the same while the file is changed in place. */
  readonly rows: ContentId
}

/** Where bytes of a file lie; what lies between two of them is a hole. */
export interface FileExtents {
  readonly inline: Uint8Array | undefined
  /** In order. */
  readonly extents: readonly {
    readonly offset: number
    readonly length: number
    readonly segment: SegmentId
    readonly segmentOffset: number
  }[]
  readonly size: number
  /** What the segment is, of a body that is an external object. */
  readonly external?: { readonly bucketId: number; readonly body: ExternalBody } | undefined
}
