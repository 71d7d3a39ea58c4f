/**
 * Files that the mount has open: which may be written, and whether a write must take set-uid and set-gid off the mode.
 *
 * The kernel says so with every write of somebody without CAP_FSETID, since it does not know the mode for certain. Hardly any
 * file has those bits, so a handle remembers having seen none, until somebody changes a mode.
 */
import type { InodeId } from '../../common/ids.ts'
import type { HandleId } from '../../common/file-model.ts'

interface OpenFile {
  readonly inode: InodeId
  readonly write: boolean
  /** Value of the count of mode changes when the file was seen to have neither bit. */
  plainAt: number
}

export class OpenFiles {
  readonly #files = new Map<HandleId, OpenFile>()
  readonly #writers = new Map<InodeId, number>()
  #modeChanges = 0

  get count(): number {
    return this.#files.size
  }

  opened(handle: HandleId, inode: InodeId, write: boolean): void {
    this.#files.set(handle, { inode, write, plainAt: -1 })
    if (write) this.#writers.set(inode, (this.#writers.get(inode) ?? 0) + 1)
  }

  closed(handle: HandleId): void {
    const file = this.#files.get(handle)
    this.#files.delete(handle)
    if (file === undefined || !file.write) return
    const writers = (this.#writers.get(file.inode) ?? 0) - 1
    if (writers > 0) this.#writers.set(file.inode, writers)
    else this.#writers.delete(file.inode)
  }

  handles(): HandleId[] {
    return [...this.#files.keys()]
  }

  isWritten(inode: InodeId): boolean {
    return this.#writers.has(inode)
  }

  modeChanged(): void {
    this.#modeChanges += 1
  }

  isPlain(handle: HandleId): boolean {
    return this.#files.get(handle)?.plainAt === this.#modeChanges
  }

  seenPlain(handle: HandleId): void {
    const file = this.#files.get(handle)
    if (file !== undefined) file.plainAt = this.#modeChanges
  }
}
