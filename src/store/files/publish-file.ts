/**
 * Publishing: one metadata transaction that makes everything written to a file so far visible to all doors.
 *
 *   take a generation -> its bytes to the journal -> safe as asked -> commit -> durable as asked -> let the generation go
 *                                     \------- any of these fails: the generation is put back, and nothing was lost,
 *                                              but for what lies in a segment that is broken: that is told once
 *
 * `visible` (close, age, pressure) promises what a write with ack `memory` does: the journal is told that the commit will name
 * unsynced bytes, so that it never becomes durable before them (C15). `synced` (fsync) promises the bucket's level (C20). A sync
 * that finds nothing to publish waits until all that is visible is durable: by C15 that vouches for the bytes of every publish before it.
 *
 * Small files lie whole in the inode: then no byte goes to the journal at all. A file that outgrows that, or whose bucket wants
 * its bytes in the remote store (`persisted`), takes what lay inline along as one more edit.
 */
import { TidegateError, isTidegateError } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { AckLevel } from '../../common/model.ts'
import { isAboveJournal } from '../acknowledgement.ts'
import { DirtySource, type UnpublishedBody } from './dirty-bytes.ts'
import type { DirtyMemory } from './dirty-memory.ts'
import type { FileEdit } from '../../common/file-contents.ts'
import type { Commit } from '../ports.ts'
import type { FilesParts } from './file-parts.ts'
import type { DirtyJournal } from './journal-dirty.ts'
import type { Generation, OpenFile } from './open-file.ts'
import type { Overlay, OverlayEntry } from './overlay.ts'

export type PublishGoal = 'visible' | 'synced'

export interface PublisherParts extends Pick<
  FilesParts,
  'metadata' | 'acknowledgement' | 'limits' | 'fileLimits' | 'clock' | 'onFailure'
> {
  readonly dirtyMemory: DirtyMemory
  readonly dirtyJournal: DirtyJournal
  /** The memory of a publish that failed can be journaled now. */
  readonly onPutBack: () => void
  /** A commit of the file can no longer be undone; perhaps nobody needs the file any more. */
  readonly onSure: (file: OpenFile) => void
  /** Older bytes show instead of what was written. */
  readonly onReverted: (file: OpenFile) => void
}

export class FilePublisher {
  readonly #parts: PublisherParts

  constructor(parts: PublisherParts) {
    this.#parts = parts
  }

  /** Resolves when all that was written before the call has reached the goal. @throws what kept it from that */
  async publish(file: OpenFile, goal: PublishGoal): Promise<void> {
    const level = await file.exclusive(() => this.#publishNow(file, goal))
    if (goal === 'synced') await this.#persisted(file, level)
  }

  async #publishNow(file: OpenFile, goal: PublishGoal): Promise<AckLevel> {
    const { metadata, clock } = this.#parts
    file.restoreUndone(clock.monotonicMs())
    if (!file.dirty && goal === 'visible') return 'memory'
    const level = await this.level(file)
    if (file.dirty) await this.#publishGeneration(file, goal, level)
    // Whatever was done to the file before, its name and its mode among it, by whichever handle.
    else if (level !== 'memory') await metadata.flush()
    return level
  }

  /** Level of the bucket it is in, as of now. */
  async level(file: OpenFile): Promise<AckLevel> {
    const { metadata, acknowledgement } = this.#parts
    if (file.bucket === undefined || file.maybeUnlinked) {
      const place = await metadata.keyOf(file.inode)
      // Nobody can find it any more, not even its bucket may be there: all that it needs is to stay until its last handle is closed.
      if (!place) return 'memory'
      file.bucket = place.bucket
    }
    return acknowledgement.checked((await metadata.bucket(file.bucket)).ack)
  }

  async #publishGeneration(file: OpenFile, goal: PublishGoal, level: AckLevel): Promise<void> {
    const { metadata, clock, fileLimits, onPutBack, onReverted } = this.#parts
    const generation = file.beginPublish()
    try {
      const inline = await this.#inlineContent(file, generation)
      const safeAs = goal === 'synced' ? level : 'memory'
      const edits = inline ? [] : await this.#journaledEdits(file, generation, safeAs)
      const { size, modified } = generation
      const commit = await metadata.publishFile({ inode: file.inode, edits, inline, size, modified, ack: level })
      if (goal === 'synced') await this.#durable(level, commit)
      const isRaisedLater = level === 'persisted' || (level === 'replicated' && safeAs !== level)
      if (isRaisedLater) for (const { run } of edits) if (run) file.unpersisted.add(run.segment)
      file.lies = inline ? 'inline' : 'extents'
      file.publishDone(generation, commit.durable, this.settler(file))
    } catch (error) {
      file.publishFailed(generation)
      if (file.giveUpLost(error)) onReverted(file)
      file.retryMs = clock.monotonicMs() + fileLimits.publishAgeMsMax
      onPutBack()
      throw error
    }
  }

  /** What is called when a commit of the file is durable, or undone: then it is put back as soon as no publish is under way. */
  settler(file: OpenFile): (undone?: unknown) => void {
    const { clock, onFailure, onSure } = this.#parts
    return (undone) => {
      if (undone === undefined) return onSure(file)
      onFailure({ inode: file.inode, doing: 'durable', cause: undone })
      void file.exclusive(() => Promise.resolve(file.restoreUndone(clock.monotonicMs())))
    }
  }

  /** The whole content, if it is small and none of it lies in a segment. */
  async #inlineContent(file: OpenFile, generation: Generation): Promise<Uint8Array | undefined> {
    const { size, overlay } = generation
    if (size === 0) return new Uint8Array(0)
    const published = await this.#publishedInline(file)
    const small = size <= this.#parts.limits.inlineBytesMax
    if (small && (published || file.publishedSize === 0 || covers(overlay, size))) {
      const content = composeInline(overlay, size, published)
      if (content) return content
    }
    if (published) this.#takeAlong(file, generation, published)
    return undefined
  }

  async #publishedInline(file: OpenFile): Promise<Uint8Array | undefined> {
    if (file.publishedSize === 0 || file.lies === 'extents') return undefined
    const window = await file.published.acquire(0)
    try {
      const { inline } = window.extents
      file.lies = inline ? 'inline' : 'extents'
      return inline
    } finally {
      file.published.letGo(window)
    }
  }

  /** What lay inline and is not overwritten becomes bytes of this generation. */
  #takeAlong(file: OpenFile, generation: Generation, published: Uint8Array): void {
    const length = Math.min(published.length, generation.size)
    for (const { offset, length: bytes, entry } of generation.overlay.pieces(0, length)) {
      if (entry) continue
      // At most `inlineBytesMax`, so beyond the bound on memory by that at most.
      const source = new DirtySource(this.#parts.dirtyMemory, file.account, { bytes, wanted: bytes })
      source.write(0, published.subarray(offset, offset + bytes))
      generation.overlay.put({ offset, length: bytes, source, sourceOffset: 0 })
    }
  }

  async #journaledEdits(file: OpenFile, generation: Generation, safeAs: AckLevel): Promise<FileEdit[]> {
    const { dirtyJournal, acknowledgement } = this.#parts
    await dirtyJournal.carry(file, generation.overlay, { copied: safeAs === 'replicated' })
    const bodies = new Set<UnpublishedBody>()
    const edits: FileEdit[] = []
    for (const entry of generation.overlay.entries) {
      const edit = editOf(entry, generation.size, file.publishedSize)
      if (!edit) continue
      if (entry.source?.place) bodies.add(entry.source.place.body)
      const joined = joinEdits(edits.at(-1), edit)
      if (joined) edits[edits.length - 1] = joined
      else edits.push(edit)
    }
    for (const { journaled } of bodies) {
      // Named in a commit, they would take all down that is committed with it.
      if (journaled.isLost()) throw new TidegateError('Unavailable', `the journal lost bytes of inode ${file.inode}`)
    }
    await Promise.all([...bodies].map((body) => acknowledgement.beforeCommit(safeAs, body.journaled)))
    return edits
  }

  /** Commits of files gather company before they are synced, unless somebody asks. */
  async #durable(level: AckLevel, commit: Commit<unknown>): Promise<void> {
    const { metadata, acknowledgement } = this.#parts
    if (level !== 'memory') metadata.flush().catch(() => undefined)
    await acknowledgement.durable(level, commit)
  }

  async #persisted(file: OpenFile, level: AckLevel): Promise<void> {
    if (!isAboveJournal(level)) return
    // What was published before it was opened now: nobody may have waited for that.
    const earlier = file.isPersistenceKnown ? [] : await this.#segmentsOf(file)
    const segments = [...new Set([...file.unpersisted, ...earlier])]
    await this.#parts.acknowledgement.raised(level, segments)
    for (const segment of segments) file.unpersisted.delete(segment)
    file.isPersistenceKnown = true
    if (level !== 'persisted') return
    const { metadata, acknowledgement } = this.#parts
    const place = await metadata.keyOf(file.inode)
    // Whatever was done to it by now, its mode and the name it has among it; unlinked, it is nobody's to find again.
    if (place) await acknowledgement.named(level, { ...place, inode: file.inode, revision: metadata.revision() })
  }

  async #segmentsOf(file: OpenFile): Promise<SegmentId[]> {
    const segments = new Set<SegmentId>()
    for (let offset = 0; offset < file.publishedSize;) {
      const window = await file.published.acquire(offset)
      for (const { segment } of window.extents.extents) segments.add(segment)
      offset = window.to
      file.published.letGo(window)
    }
    return [...segments]
  }
}

/** Whether trying again cannot help: the inode is gone. */
export function isFinal(error: unknown): boolean {
  return isTidegateError(error, 'StaleFile')
}

function covers(overlay: Overlay, size: number): boolean {
  return overlay.pieces(0, size).every(({ entry }) => entry !== undefined)
}

/** Undefined when some of it lies in the journal already. */
function composeInline(overlay: Overlay, size: number, published: Uint8Array | undefined): Uint8Array | undefined {
  const content = new Uint8Array(size)
  for (const { offset, length, entry } of overlay.pieces(0, size)) {
    if (!entry) {
      if (published) content.set(published.subarray(offset, offset + length), offset)
    } else if (entry.source) {
      if (!entry.source.inMemory) return undefined
      content.set(entry.source.bytes(entry.sourceOffset + offset - entry.offset, length), offset)
    }
  }
  return content
}

/** Holes only where there was something: what is missing is a hole anyway. */
function editOf(entry: OverlayEntry, size: number, publishedSize: number): FileEdit | undefined {
  const { offset, source, sourceOffset } = entry
  const end = Math.min(offset + entry.length, source ? size : Math.min(size, publishedSize))
  const length = end - offset
  if (length <= 0) return undefined
  const place = source?.place
  if (!place) return { offset, length, run: undefined }
  return { offset, length, run: place.body.journaled.run, runOffset: place.offset + sourceOffset }
}

function joinEdits(before: FileEdit | undefined, edit: FileEdit): FileEdit | undefined {
  if (!before || before.offset + before.length !== edit.offset || before.run !== edit.run) return undefined
  if (edit.run && (before.runOffset ?? 0) + before.length !== edit.runOffset) return undefined
  return { ...before, length: before.length + edit.length }
}
