/**
 * One open file, shared by all its handles: what was written and is not published, in two layers over what is.
 *
 *   overlay      what was written since the last publish began; writes go here
 *   publishing   the generation that is being published; nothing changes in it. Put back under the overlay when that fails
 *   published    what metadata has (published-extents.ts)
 *
 * What was published by a commit that is not durable yet is kept aside (`#unsure`): when the commit is undone, it is put back under what
 * was written since, as if it had never been published.
 *
 * `size` is that of the file as its writers see it. Every method here is synchronous: what awaits is in write-file.ts, publish-file.ts and
 * read-file.ts.
 */
import { assert } from '../../common/assert.ts'
import type { InodeId, SegmentId } from '../../common/ids.ts'
import type { FileNode, FileTime, HandleId } from '../../common/file-model.ts'
import { BUFFER_BYTES_MAX, type DirtyMemory, type MemoryAccount } from './dirty-memory.ts'
import { DirtySource } from './dirty-bytes.ts'
import { Overlay, type OverlayEntry } from './overlay.ts'
import type { PublishedExtents } from './published-extents.ts'
import { ReadAhead } from './read-ahead.ts'

/** An open descriptor, or an open directory (without a file). */
export interface Handle {
  readonly id: HandleId
  readonly file: OpenFile | undefined
  readonly write: boolean
  readonly readAhead: ReadAhead
  wrote: boolean
  /** Of what it wrote some is lost for good; told by its next sync, once (C20). */
  lost: unknown
}

export function newHandle(id: HandleId, file: OpenFile | undefined, write: boolean): Handle {
  return { id, file, write, readAhead: new ReadAhead(), wrote: false, lost: undefined }
}

/** What one publish takes along. */
export interface Generation {
  readonly overlay: Overlay
  readonly size: number
  readonly modified: FileTime | undefined
  readonly sinceMs: number
}

/** A generation whose commit is visible and not durable yet, and the size of what was published before it. */
interface Unsure {
  readonly generation: Generation
  readonly publishedSize: number
}

/** Where a file's bytes go: what the journal writes beside them. */
export interface FilePlace {
  readonly bucket: string
  readonly key: string
}

export class OpenFile {
  readonly inode: InodeId
  readonly published: PublishedExtents
  readonly account: MemoryAccount = { bytes: 0 }
  readonly handles = new Set<Handle>()
  /** Operations that use the file without a handle. */
  guests = 0
  size = 0
  /** How the published content lies, once that is known. */
  lies: 'inline' | 'extents' | undefined
  /** Of what metadata has. */
  publishedSize = 0
  overlay = new Overlay()
  publishing: Generation | undefined
  /** Time of the last change that is not published. */
  modified: FileTime | undefined
  /** When the oldest change that is not published was made, on the monotonic clock. */
  sinceMs: number | undefined
  /** After a publish failed: not tried again by age before. */
  retryMs = 0
  /** Named by commits, and nobody has waited yet until they are in the remote store. */
  readonly unpersisted = new Set<SegmentId>()
  /** All else that it has is known to be in the remote store. */
  isPersistenceKnown = false
  /** It never leaves its bucket (C26). Undefined until somebody asked. */
  bucket: string | undefined
  /** Where it was found last; outlives its names. */
  place: FilePlace | undefined
  /** It may have lost its last name: to be looked at when nobody has it open. */
  maybeUnlinked = false
  /** Grows with each change that is made here. */
  #changes = 0
  /** Size and time of its content as metadata said them last. */
  #known: { readonly size: number; readonly modified: FileTime } | undefined
  readonly #memory: DirtyMemory
  /** Oldest first. */
  #unsure: Unsure[] = []
  #undone = false
  #line: Promise<unknown> = Promise.resolve()
  #journaling: Promise<unknown> = Promise.resolve()

  constructor(inode: InodeId, memory: DirtyMemory, published: PublishedExtents) {
    this.inode = inode
    this.#memory = memory
    this.published = published
  }

  get dirty(): boolean {
    return this.sinceMs !== undefined
  }

  /** Whether a commit of its content may still be undone. */
  get unsure(): boolean {
    return this.#unsure.length > 0
  }

  get used(): boolean {
    return this.handles.size > 0 || this.guests > 0
  }

  /** For `learn`, before metadata is asked. Undefined while what is here is newer than what metadata can say. */
  get point(): number | undefined {
    return this.dirty || this.publishing || this.unsure ? undefined : this.#changes
  }

  /**
   * What metadata says of it, asked at that point: another node may have changed it. Who opens it then sees that (close-to-open), also where it
   * was open here before.
   */
  learn(node: FileNode, point: number | undefined): void {
    if (point === undefined || this.point !== point || node.kind !== 'file') return
    const { size, modified } = node
    const isKnown = this.#known?.size === size && isSameTime(this.#known.modified, modified)
    this.#known = { size, modified }
    if (isKnown && this.publishedSize === size) return
    this.size = size
    this.publishedSize = size
    this.lies = undefined
    this.isPersistenceKnown = false
    this.published.invalidate()
  }

  /** Publishes and what must not fall into one, one after the other. */
  exclusive<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#line.then(work)
    this.#line = turn.catch(() => undefined)
    return turn
  }

  /** Journaling of its sources, one batch after the other. */
  journalNext<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#journaling.then(work)
    this.#journaling = turn.catch(() => undefined)
    return turn
  }

  /** The node as metadata knows it, with what is not published. */
  shown(node: FileNode): FileNode {
    const time = this.modified ?? this.publishing?.modified
    if (node.kind !== 'file') return node
    if (!time && node.size === this.size) return node
    let unpublishedBytes = 0
    for (const overlay of [this.publishing?.overlay, this.overlay]) {
      for (const entry of overlay?.entries ?? []) if (entry.source) unpublishedBytes += entry.length
    }
    const storedBytes = Math.min(this.size, node.storedBytes + unpublishedBytes)
    return { ...node, size: this.size, storedBytes, modified: time ?? node.modified, changed: time ?? node.changed }
  }

  /** Copies; the caller has reserved `DirtyMemory.neededBytes(bytes.length)` and given that back in this turn. */
  write(offset: number, bytes: Uint8Array): void {
    let from = 0
    while (from < bytes.length) {
      const at = offset + from
      const rest = bytes.subarray(from)
      from += this.#overwrite(at, rest) || this.#extend(at, rest) || this.#add(at, rest)
    }
    this.size = Math.max(this.size, offset + bytes.length)
  }

  /** Into the entry that is there. Only at the start of a write or as its whole: pieces between are covered by one new source. */
  #overwrite(offset: number, bytes: Uint8Array): number {
    const entry = this.overlay.entryAt(offset)
    if (!entry?.source?.mutable) return 0
    const length = Math.min(bytes.length, entry.offset + entry.length - offset)
    entry.source.write(entry.sourceOffset + offset - entry.offset, bytes.subarray(0, length))
    return length
  }

  /** Behind the entry that ends here, while its source has room. */
  #extend(offset: number, bytes: Uint8Array): number {
    const before = this.overlay.entryBefore(offset)
    const source = before?.source
    if (!before || !source?.mutable || before.sourceOffset + before.length !== source.used) return 0
    const length = Math.min(bytes.length, source.capacity - source.used)
    if (length === 0) return 0
    this.#put(offset, source, bytes.subarray(0, length))
    return length
  }

  #add(offset: number, bytes: Uint8Array): number {
    const before = this.overlay.entryBefore(offset)
    // A writer that goes on in order is given more room each time.
    const wanted = before ? Math.max(bytes.length, 2 * (before.source?.capacity || BUFFER_BYTES_MAX)) : bytes.length
    const source = new DirtySource(this.#memory, this.account, { bytes: bytes.length, wanted })
    const length = Math.min(bytes.length, source.capacity)
    this.#put(offset, source, bytes.subarray(0, length))
    return length
  }

  #put(offset: number, source: DirtySource, bytes: Uint8Array): void {
    const sourceOffset = source.used
    source.write(sourceOffset, bytes)
    this.overlay.put({ offset, length: bytes.length, source, sourceOffset })
  }

  hole(from: number, to: number): void {
    this.overlay.put({ offset: from, length: to - from, source: undefined, sourceOffset: 0 })
  }

  resize(size: number): void {
    if (size < this.size) this.hole(size, this.size)
    this.size = size
  }

  changed(modified: FileTime | undefined, nowMs: number): void {
    this.#changes++
    if (modified) this.modified = modified
    this.sinceMs ??= nowMs
  }

  /** Takes what is not published for a publish; what is written from now on is of the next one. */
  beginPublish(): Generation {
    assert(!this.publishing && this.sinceMs !== undefined, 'one publish at a time, of something')
    const { overlay, size, modified, sinceMs } = this
    this.publishing = { overlay, size, modified, sinceMs }
    this.overlay = new Overlay()
    this.modified = undefined
    this.sinceMs = undefined
    return this.publishing
  }

  /** It is visible. `settled` is called when its commit is durable, or undone (with the reason). */
  publishDone(generation: Generation, durable: Promise<void>, settled: (undone?: unknown) => void): void {
    assert(this.publishing === generation, 'the generation that was begun')
    this.publishing = undefined
    this.#changes++
    this.#awaitDurable({ generation, publishedSize: this.publishedSize }, durable, settled)
    this.publishedSize = generation.size
    this.published.invalidate()
  }

  #awaitDurable(unsure: Unsure, durable: Promise<void>, settled: (undone?: unknown) => void): void {
    this.#unsure.push(unsure)
    durable.then(
      () => {
        const at = this.#unsure.indexOf(unsure)
        // Put back meanwhile, after an older one was undone.
        if (at < 0) return
        this.#unsure.splice(at, 1)
        unsure.generation.overlay.clear()
        settled()
      },
      (reason: unknown) => {
        this.#undone = true
        settled(reason)
      },
    )
  }

  /** Puts back what was undone, and all that was published since. To be called when no publish is under way. */
  restoreUndone(nowMs: number): void {
    if (!this.#undone) return
    assert(!this.publishing, 'no publish is under way')
    this.#undone = false
    const restored = this.#unsure
    this.#unsure = []
    for (const { generation } of restored.toReversed()) {
      for (const entry of generation.overlay.entries) this.overlay.putUnder(entry)
      generation.overlay.clear()
      this.modified ??= generation.modified
    }
    this.publishedSize = restored[0]?.publishedSize ?? this.publishedSize
    this.lies = undefined
    this.sinceMs ??= nowMs
    this.published.invalidate()
  }

  /** A range of another file has been published in this one, up to `end`. */
  cloned(end: number, durable: Promise<void>, settled: (undone?: unknown) => void): void {
    // By reference: if it is undone, there is nothing to put back.
    const generation = { overlay: new Overlay(), size: end, modified: undefined, sinceMs: 0 }
    this.#changes++
    this.#awaitDurable({ generation, publishedSize: this.publishedSize }, durable, settled)
    this.publishedSize = Math.max(this.publishedSize, end)
    this.size = Math.max(this.size, end)
    this.lies = 'extents'
    this.published.invalidate()
  }

  /** It could not be published: it lies under what was written meanwhile again. */
  publishFailed(generation: Generation): void {
    assert(this.publishing === generation, 'the generation that was begun')
    this.publishing = undefined
    for (const entry of generation.overlay.entries) this.overlay.putUnder(entry)
    generation.overlay.clear()
    this.modified ??= generation.modified
    this.sinceMs = generation.sinceMs
    this.published.invalidate()
  }

  /** Whether it holds memory that could be journaled now. */
  get hasUnjournaled(): boolean {
    return this.account.bytes > 0 && this.overlay.entries.some(({ source }) => source?.mutable)
  }

  /** Every source in memory that nobody is journaling yet, with the first entry that shows it. */
  unjournaled(overlay: Overlay): { source: DirtySource; entry: OverlayEntry }[] {
    const seen = new Set<DirtySource>()
    const found: { source: DirtySource; entry: OverlayEntry }[] = []
    for (const entry of overlay.entries) {
      const { source } = entry
      if (!source?.mutable || seen.has(source)) continue
      seen.add(source)
      found.push({ source, entry })
    }
    return found
  }

  /** What is not published is given up: nothing refers to the file any more. */
  discard(): void {
    assert(!this.publishing, 'no publish is under way')
    this.overlay.clear()
    for (const { generation } of this.#unsure.splice(0)) generation.overlay.clear()
    this.sinceMs = undefined
    this.modified = undefined
    this.published.invalidate()
  }

  /** What lies in bodies that are lost is given up: there the file reads as it was published. Its other bytes can be published then. */
  giveUpLost(reason: unknown): boolean {
    const isAny = this.overlay.remove(({ source }) => source?.place?.body.journaled.isLost() === true)
    if (isAny) this.lose(reason)
    return isAny
  }

  /** Something written is lost for good: each handle that wrote is told once. */
  lose(reason: unknown): void {
    for (const handle of this.handles) if (handle.wrote) handle.lost = reason
  }
}

function isSameTime(one: FileTime, other: FileTime): boolean {
  return one.seconds === other.seconds && one.nanoseconds === other.nanoseconds
}
