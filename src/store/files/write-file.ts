/**
 * Writing: bytes are copied into the file's overlay, in memory that all files share. Long before a file's share is full its bytes are
 * on their way to the journal; a writer who finds no memory waits for that, at most the admission time (C19). So writers are as
 * fast as the journal and memory stays bounded, however much is written.
 */
import { TidegateError, isTidegateError } from '../../common/errors.ts'
import type { FileTime } from '../../common/file-model.ts'
import { DirtyMemory } from './dirty-memory.ts'
import type { FilesParts } from './file-parts.ts'
import type { DirtyJournal } from './journal-dirty.ts'
import type { OpenFile } from './open-file.ts'

export interface WriterParts extends Pick<FilesParts, 'persisting' | 'fileLimits' | 'clock' | 'onFailure'> {
  readonly dirtyMemory: DirtyMemory
  readonly dirtyJournal: DirtyJournal
  /** Files that hold memory, the one that has done so for longest first. */
  readonly holders: Set<OpenFile>
}

const RETRY_PAUSE_MS = 100

export class FileWriter {
  readonly #parts: WriterParts
  /** Files whose bytes are on their way to the journal for the memory they hold. */
  readonly #carrying = new Set<OpenFile>()

  constructor(parts: WriterParts) {
    this.#parts = parts
  }

  /** `write` when there is room for the bytes; false: nothing was written, and `write` waits. @throws EntityTooLarge */
  writeNow(file: OpenFile, offset: number | 'end', bytes: Uint8Array): boolean {
    const { persisting, dirtyMemory } = this.#parts
    this.#check(file, offset, bytes)
    if (bytes.length === 0) return true
    const needed = DirtyMemory.neededBytes(bytes.length)
    if (!dirtyMemory.tryReserve(file.account, needed)) return false
    if (!persisting.acceptNow(bytes.length)) {
      dirtyMemory.unreserve(file.account, needed)
      dirtyMemory.serve()
      return false
    }
    this.#writeReserved(file, { offset, bytes, needed })
    return true
  }

  /** @throws StorageFull, SlowDown, EntityTooLarge */
  async write(file: OpenFile, offset: number | 'end', bytes: Uint8Array): Promise<void> {
    const { persisting, dirtyMemory } = this.#parts
    this.#check(file, offset, bytes)
    if (bytes.length === 0) return
    await persisting.accept(bytes.length)
    const needed = DirtyMemory.neededBytes(bytes.length)
    if (!dirtyMemory.tryReserve(file.account, needed)) await this.#waitForMemory(file, needed)
    this.#writeReserved(file, { offset, bytes, needed })
  }

  #check(file: OpenFile, offset: number | 'end', bytes: Uint8Array): void {
    const { writeBytesMax } = this.#parts.fileLimits
    if (bytes.length > writeBytesMax) {
      throw new TidegateError('InvalidArgument', `a write of ${bytes.length} bytes; ${writeBytesMax} at most`)
    }
    this.checkSize(offset === 'end' ? file.size + bytes.length : offset + bytes.length)
  }

  /** In one turn: so appends of several handles do not mix, and the memory is still there. */
  #writeReserved(
    file: OpenFile,
    { offset, bytes, needed }: { offset: number | 'end'; bytes: Uint8Array; needed: number },
  ): void {
    const { fileLimits, dirtyMemory } = this.#parts
    dirtyMemory.unreserve(file.account, needed)
    file.write(offset === 'end' ? file.size : offset, bytes)
    dirtyMemory.serve()
    this.touch(file)
    if (file.account.bytes > 0) this.#parts.holders.add(file)
    if (file.account.bytes >= fileLimits.fileDirtyBytesMax / 2) this.#carry(file)
    else if (dirtyMemory.used >= fileLimits.dirtyBytesMax / 2) this.relieve()
  }

  /** @throws EntityTooLarge */
  checkSize(size: number): void {
    if (size <= this.#parts.fileLimits.fileBytesMax) return
    throw new TidegateError('EntityTooLarge', `a file of ${size} bytes; ${this.#parts.fileLimits.fileBytesMax} at most`)
  }

  /** The file's content or size has changed now. */
  touch(file: OpenFile): void {
    const { clock } = this.#parts
    file.changed(fileTime(clock.nowMs()), clock.monotonicMs())
  }

  async #waitForMemory(file: OpenFile, needed: number): Promise<void> {
    const { dirtyMemory } = this.#parts
    const granted = dirtyMemory.reserve(file.account, needed)
    this.#carry(file)
    this.relieve()
    await granted
  }

  /**
   * Sends the bytes of the file that has held memory for longest to the journal, unless some are on their way. What a publish under
   * way holds is not here: it comes free with that.
   */
  relieve(): void {
    if (this.#carrying.size > 0) return
    for (const file of this.#parts.holders) {
      if (file.hasUnjournaled) return this.#carry(file)
      if (file.account.bytes === 0) this.#parts.holders.delete(file)
    }
  }

  #carry(file: OpenFile): void {
    if (this.#carrying.has(file)) return
    this.#carrying.add(file)
    void this.#carryWhileNeeded(file).finally(() => {
      this.#carrying.delete(file)
      if (file.account.bytes === 0) this.#parts.holders.delete(file)
      if (this.#parts.dirtyMemory.waiting > 0) this.relieve()
    })
  }

  /** Never rejects. Goes on while somebody waits, which the admission time bounds. */
  async #carryWhileNeeded(file: OpenFile): Promise<void> {
    const { dirtyJournal, dirtyMemory, clock, onFailure } = this.#parts
    do {
      try {
        await dirtyJournal.carry(file, file.overlay)
      } catch (cause) {
        onFailure({ inode: file.inode, doing: 'journal', cause })
        // A full disk will not be less full when they have waited.
        if (isTidegateError(cause, 'StorageFull')) return dirtyMemory.refuseAll(cause)
        await clock.sleep(RETRY_PAUSE_MS)
      }
    } while (dirtyMemory.waits(file.account) && file.hasUnjournaled)
  }
}

export function fileTime(nowMs: number): FileTime {
  const seconds = Math.floor(nowMs / 1000)
  return { seconds, nanoseconds: Math.floor((nowMs - seconds * 1000) * 1e6) }
}
