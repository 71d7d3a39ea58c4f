/**
 * Where the published bytes of one open file lie, as windows that are kept for a while. Each window holds a reader, begun before
 * it was looked up, so that what it names is not reclaimed (C12); after `WINDOW_AGE_MS_MAX` it is looked up anew, so that a
 * file read for hours does not keep what others dropped hours ago.
 */
import type { Clock } from '../../common/clock.ts'
import type { InodeId, Revision } from '../../common/ids.ts'
import type { FileExtents } from '../../common/file-contents.ts'
import type { MetadataFiles } from '../file-ports.ts'
import type { MetadataService } from '../ports.ts'
import type { ReaderId } from '../types.ts'

/** Who holds the horizon of reclaim back: the store's Readers. */
export interface HorizonHolders {
  begin(revision: Revision): ReaderId
  close(reader: ReaderId): void
}

export interface PublishedParts {
  readonly metadata: Pick<MetadataFiles, 'fileExtents' | 'isShared'> & Pick<MetadataService, 'revision'>
  readonly readers: HorizonHolders
  readonly clock: Clock
}

export interface ExtentWindow {
  readonly from: number
  readonly to: number
  readonly extents: FileExtents
  readonly reader: ReaderId
  readonly atMs: number
  users: number
  dropped: boolean
}

export type FileExtent = FileExtents['extents'][number]

const WINDOW_BYTES_MAX = 256 * 1024 * 1024
const WINDOW_BYTES_MIN = 4 * 1024 * 1024
/** A file in more pieces than this gets smaller windows. */
const WINDOW_EXTENTS_MAX = 4096
const WINDOWS_MAX = 16
const WINDOW_AGE_MS_MAX = 2_000

export class PublishedExtents {
  readonly #parts: PublishedParts
  readonly #inode: InodeId
  readonly #windows = new Map<number, ExtentWindow>()
  #windowBytes = WINDOW_BYTES_MAX
  /** Grows with each invalidation: what was asked for before is not kept. */
  #version = 0

  constructor(parts: PublishedParts, inode: InodeId) {
    this.#parts = parts
    this.#inode = inode
  }

  /** The window that holds the offset, if it is at hand. */
  cached(offset: number): ExtentWindow | undefined {
    const window = this.#windows.get(Math.floor(offset / this.#windowBytes))
    if (!window) return undefined
    if (this.#parts.clock.monotonicMs() - window.atMs <= WINDOW_AGE_MS_MAX) return window
    this.#drop(window)
    return undefined
  }

  /** Held until `letGo`. */
  async acquire(offset: number): Promise<ExtentWindow> {
    const window = this.cached(offset)
    if (!window) return await this.#lookUp(offset)
    window.users++
    return window
  }

  letGo(window: ExtentWindow): void {
    window.users--
    if (window.dropped && window.users === 0) this.#parts.readers.close(window.reader)
  }

  /** What is known of the content may not be so any more. */
  invalidate(): void {
    this.#version++
    for (const window of this.#windows.values()) this.#drop(window)
  }

  /** Lets old windows go that nobody asks for. */
  sweep(): void {
    const nowMs = this.#parts.clock.monotonicMs()
    for (const window of this.#windows.values()) if (nowMs - window.atMs > WINDOW_AGE_MS_MAX) this.#drop(window)
  }

  async #lookUp(offset: number): Promise<ExtentWindow> {
    const { metadata, readers, clock } = this.#parts
    const version = this.#version
    const windowBytes = this.#windowBytes
    const from = Math.floor(offset / windowBytes) * windowBytes
    const reader = readers.begin(metadata.revision())
    const atMs = clock.monotonicMs()
    let extents: FileExtents
    try {
      extents = await metadata.fileExtents(this.#inode, from, windowBytes)
    } catch (error) {
      readers.close(reader)
      throw error
    }
    const window = { from, to: from + windowBytes, extents, reader, atMs, users: 1, dropped: false }
    if (version === this.#version && windowBytes === this.#windowBytes) this.#keep(window)
    else window.dropped = true
    return window
  }

  #keep(window: ExtentWindow): void {
    const index = window.from / this.#windowBytes
    const twin = this.#windows.get(index)
    if (twin) this.#drop(twin)
    this.#windows.set(index, window)
    if (this.#windows.size > WINDOWS_MAX) {
      for (const oldest of this.#windows.values()) {
        this.#drop(oldest)
        break
      }
    }
    if (window.extents.extents.length > WINDOW_EXTENTS_MAX && this.#windowBytes > WINDOW_BYTES_MIN) {
      this.invalidate()
      this.#windowBytes /= 4
    }
  }

  #drop(window: ExtentWindow): void {
    for (const [index, kept] of this.#windows) if (kept === window) this.#windows.delete(index)
    window.dropped = true
    if (window.users === 0) this.#parts.readers.close(window.reader)
  }
}

/** The extent that holds the offset, or the first one behind it. */
export function extentFrom(extents: readonly FileExtent[], offset: number): FileExtent | undefined {
  let low = 0
  let high = extents.length
  while (low < high) {
    const middle = (low + high) >> 1
    const { offset: start, length } = extents[middle] as FileExtent
    if (start + length > offset) high = middle
    else low = middle + 1
  }
  return extents[low]
}
