/**
 * Where readers of directories are. An offset in a listing is a position: 0 is the start, 1 behind `.`, 2 behind `..`, and then one
 * for each name as it was listed by this handle. A cursor holds one page of entries and, of the pages before it, only where each
 * began, so that a directory of a million entries takes a few thousand names of memory: who seeks back gets that page anew.
 */
import type { ByteString, InodeId } from '../../common/ids.ts'
import type { Files } from '../../store/doors.ts'
import type { FileEntry, HandleId } from '../../common/file-model.ts'
import { FuseError } from './protocol/errno.ts'

const PAGE_ENTRIES = 512
/** Between the remembered starts of pages, which may be as small as a reply. */
const START_DISTANCE_MIN = 512
/** `.` and `..` stand before the first name. */
export const FIRST_NAME_POSITION = 2

interface PageStart {
  readonly position: number
  readonly after: ByteString | undefined
}

interface Page {
  readonly start: PageStart
  readonly entries: readonly FileEntry[]
  readonly more: boolean
}

/** What a listing goes on with: entries from a position on. */
export interface Listed {
  readonly entries: readonly FileEntry[]
  /** Of the first of them. */
  readonly position: number
}

export class DirectoryCursor {
  readonly inode: InodeId
  readonly #files: Pick<Files, 'entries'>
  readonly #starts: PageStart[] = [{ position: FIRST_NAME_POSITION, after: undefined }]
  #page: Page | undefined

  constructor(files: Pick<Files, 'entries'>, inode: InodeId) {
    this.inode = inode
    this.#files = files
  }

  /** No entries at the end of the directory, and only there. A position that was never given out is the end. */
  async from(position: number): Promise<Listed> {
    const page = await this.#pageAt(position)
    return { entries: page.entries.slice(position - page.start.position), position }
  }

  /**
   * The same, at most `limit`, read now: attributes that go to the kernel with a name must not be older than the request, or
   * a file that was removed meanwhile would come back.
   */
  async freshFrom(position: number, limit: number): Promise<Listed> {
    const before = await this.#pageAt(position)
    const last = before.entries[position - before.start.position - 1]
    const after = last === undefined ? before.start.after : listedName(last)
    const page = await this.#read({ position: Math.min(position, endOf(before)), after }, limit)
    return { entries: page.entries, position }
  }

  async #pageAt(position: number): Promise<Page> {
    // The start of the directory is read anew, as rewinddir(3) demands.
    if (position === FIRST_NAME_POSITION) this.#rewind()
    let page = await this.#pageFor(position)
    while (position >= endOf(page) && page.more) page = await this.#read(this.#nextStart(page))
    return page
  }

  #rewind(): void {
    this.#starts.length = 1
    this.#page = undefined
  }

  async #pageFor(position: number): Promise<Page> {
    const page = this.#page
    if (page !== undefined && position >= page.start.position && position <= endOf(page)) return page
    const start = this.#starts.findLast((each) => each.position <= position) ?? this.#starts[0]
    if (start === undefined) throw new FuseError('EINVAL', `position ${position} of a directory`)
    return this.#read(start)
  }

  #nextStart(page: Page): PageStart {
    const last = page.entries.at(-1)
    const start = { position: endOf(page), after: last === undefined ? page.start.after : listedName(last) }
    return start
  }

  async #read(start: PageStart, limit = PAGE_ENTRIES): Promise<Page> {
    if (start.position >= (this.#starts.at(-1)?.position ?? 0) + START_DISTANCE_MIN) this.#starts.push(start)
    const { entries, more } = await this.#files.entries(this.inode, start.after, limit)
    const page = { start, entries, more: more && entries.length > 0 }
    this.#page = page
    return page
  }
}

function endOf(page: Page): number {
  return page.start.position + page.entries.length
}

/** Listings go by what S3 calls a name: that of a directory ends in a slash. */
function listedName({ name, node }: FileEntry): ByteString {
  return (node.kind === 'directory' ? `${name}/` : name) as ByteString
}

/** Open directories, by the store's handle. */
export class DirectoryCursors {
  readonly #files: Pick<Files, 'entries'>
  readonly #cursors = new Map<HandleId, DirectoryCursor>()

  constructor(files: Pick<Files, 'entries'>) {
    this.#files = files
  }

  open(handle: HandleId, inode: InodeId): void {
    this.#cursors.set(handle, new DirectoryCursor(this.#files, inode))
  }

  /** @throws FuseError EBADF */
  get(handle: HandleId): DirectoryCursor {
    const cursor = this.#cursors.get(handle)
    if (cursor === undefined) throw new FuseError('EBADF', `directory handle ${handle}`)
    return cursor
  }

  close(handle: HandleId): void {
    this.#cursors.delete(handle)
  }

  handles(): HandleId[] {
    return [...this.#cursors.keys()]
  }
}
