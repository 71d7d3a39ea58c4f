/**
 * Walking the tree in descending key order, for scans that go backwards: the exact reverse of walk.ts.
 *
 * The names in a directory sort as the keys below them do (keys.ts), so a walk is again a stack of frames, each read from
 * the end of its range in batches; a directory is entered where its name stands and left for the name before it. Both ends of
 * what is asked for narrow the range of each frame that they lie in, so nothing outside is read and no key is compared.
 *
 * Stores give many ranges at once only in ascending order. So when the walk is about to enter one of several directories, the
 * first few rows of each are fetched in one call: a directory that has no more than those is known whole and is walked from
 * their end. One that has more costs a scan of its own, which its many rows repay.
 */
import { assert, must } from '../../../common/assert.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'
import type { KeyRange, ReadView, Row } from '../../ports.ts'
import { ENTRY_NAME_AT, entriesPrefix, entryKey, prefixRange } from '../keys.ts'
import { decodeEntry, type ObjectEntry } from '../records-objects.ts'
import { directoryInode, isExpired } from '../tree.ts'
import { SCAN_ROWS_MAX } from '../walk.ts'

const LOOK_AHEAD_START = 8
const LOOK_AHEAD_MAX = 256
const LOOK_AHEAD_LEVELS_MAX = 16
/** A directory with this many rows or more is scanned by itself. */
const SMALL_DIRECTORY_ROWS = 16

export interface ReverseWalkStart {
  readonly inode: InodeId
  /** Key of the directory in bytes: empty, or ending in a slash. */
  readonly path: string
  /** Only names in it that start with this. */
  readonly namePrefix: string
  /** Last key to come to. */
  readonly from: string
  /** First key that is too far; undefined: none is. Greater than `from`. */
  readonly below: string | undefined
  /** What has expired by then is not shown. */
  readonly nowMs: number
}

export interface ReverseWalkItem {
  readonly key: string
  readonly entry: ObjectEntry
}

interface Frame {
  readonly path: string
  readonly start: ByteString
  /** Everything from here on was read. */
  end: ByteString
  /** Descending. */
  rows: readonly Row[]
  at: number
  /** No rows come before those in `rows`. */
  last: boolean
}

export class ReverseWalk {
  readonly #view: ReadView
  readonly #from: string
  readonly #nowMs: number
  readonly #frames: Frame[] = []
  /** Descending rows of small directories, all of them. */
  readonly #ahead = new Map<InodeId, readonly Row[]>()
  #lookAhead = LOOK_AHEAD_START
  #wanted: number
  #passedOver = 0

  private constructor(view: ReadView, start: ReverseWalkStart, wanted: number) {
    this.#view = view
    this.#from = start.from
    this.#nowMs = start.nowMs
    this.#wanted = wanted
  }

  /** @param wanted items that the caller will take at most */
  static async begin(view: ReadView, start: ReverseWalkStart, wanted: number): Promise<ReverseWalk> {
    const walk = new ReverseWalk(view, start, wanted)
    await walk.#descend(start)
    return walk
  }

  async next(): Promise<ReverseWalkItem | undefined> {
    for (;;) {
      const frame = this.#frames.at(-1)
      if (!frame) return undefined
      const row = frame.rows[frame.at]
      if (!row) {
        if (frame.last) this.#frames.pop()
        else await this.#fill(frame)
        continue
      }
      const key = frame.path + row.key.slice(ENTRY_NAME_AT)
      const entry = decodeEntry(row.value)
      assert(entry.kind === 'object' || entry.kind === 'directory', 'D holds live objects and directories')
      if (entry.kind === 'directory') {
        await this.#enterDirectory(frame, key, entry.inode)
        continue
      }
      frame.at++
      if (isExpired(entry, this.#nowMs)) {
        this.#passedOver++
        continue
      }
      this.#wanted--
      return { key, entry }
    }
  }

  /** Pushes the frames that `below` lies in, each ending where it does. */
  async #descend(start: ReverseWalkStart): Promise<void> {
    const { below } = start
    let frame = frameOf(start, this.#from)
    for (let { inode } = start; ;) {
      this.#frames.push(frame)
      // Undefined, or beyond all that is here.
      if (!below?.startsWith(frame.path)) return
      const name = firstName(below.slice(frame.path.length))
      const end = entryKey(inode, name)
      if (end < frame.end) frame.end = end
      // The directory's own key comes before all that is in it.
      if (!name.endsWith('/') || frame.path.length + name.length === below.length) return
      const row = await this.#view.get(end)
      if (!row) return
      inode = directoryInode(row)
      frame = frameOf({ inode, path: frame.path + name, namePrefix: '' }, this.#from)
    }
  }

  async #enterDirectory(frame: Frame, path: string, inode: InodeId): Promise<void> {
    if (!this.#ahead.has(inode)) await this.#fetchAhead(frame)
    const known = this.#ahead.get(inode)
    this.#ahead.delete(inode)
    frame.at++
    const below = frameOf({ inode, path, namePrefix: '' }, this.#from)
    if (known) {
      below.rows = known.filter((row) => row.key >= below.start)
      below.last = true
    }
    this.#frames.push(below)
  }

  /** Fetches the directory that a frame stands at, those that come before it, and what is in them, as far as they are small. */
  async #fetchAhead(frame: Frame): Promise<void> {
    this.#ahead.clear()
    let directories = directoriesFrom(frame.rows, frame.at, this.#lookAhead)
    if (directories.length < 2) return
    let rowsLeft = Math.max(this.#wanted, 1) * 2
    let small = 0
    for (let level = 0; level < LOOK_AHEAD_LEVELS_MAX && directories.length > 0 && rowsLeft > 0; level++) {
      const limitEach = Math.min(Math.max(2, Math.ceil(rowsLeft / directories.length)), SMALL_DIRECTORY_ROWS)
      const found = await this.#view.scanMany(
        directories.map((inode) => prefixRange(entriesPrefix(inode))),
        limitEach,
      )
      const deeper: InodeId[] = []
      for (const [index, rows] of found.entries()) {
        rowsLeft -= rows.length
        if (rows.length === limitEach) continue
        small++
        const descending = rows.toReversed()
        this.#ahead.set(must(directories[index], 'directory'), descending)
        deeper.push(...directoriesFrom(descending, 0, this.#lookAhead - deeper.length))
      }
      directories = deeper
    }
    this.#lookAhead = small > 0 ? Math.min(this.#lookAhead * 4, LOOK_AHEAD_MAX) : LOOK_AHEAD_START
  }

  async #fill(frame: Frame): Promise<void> {
    // Where many have expired, more are likely to follow.
    const limit = Math.min(Math.max(this.#wanted, 1) + 1 + this.#passedOver, SCAN_ROWS_MAX)
    const range: KeyRange = { start: frame.start, end: frame.end }
    frame.rows = range.start < range.end ? await this.#view.scan(range, limit, true) : []
    frame.at = 0
    frame.last = frame.rows.length < limit
    frame.end = frame.rows.at(-1)?.key ?? frame.start
  }
}

/** A frame of all names with the prefix that hold something from `from` on. */
function frameOf(directory: { inode: InodeId; path: string; namePrefix: string }, from: string): Frame {
  const { inode, path, namePrefix } = directory
  const { start, end } = prefixRange(entriesPrefix(inode) + namePrefix)
  const firstKey = from.startsWith(path) ? entryKey(inode, firstName(from.slice(path.length))) : start
  return { path, start: firstKey > start ? firstKey : start, end, rows: [], at: 0, last: false }
}

/** The name that a key has in the directory that it is relative to; with its slash if it is that of a directory. */
function firstName(rest: string): string {
  const slash = rest.indexOf('/')
  return slash < 0 ? rest : rest.slice(0, slash + 1)
}

/** Up to `count` directories among the rows from `at` on. */
function directoriesFrom(rows: readonly Row[], at: number, count: number): InodeId[] {
  const inodes: InodeId[] = []
  for (let i = at; i < rows.length && inodes.length < count; i++) {
    const row = must(rows[i], 'row')
    // A marker object has no name, and then the slash may be a byte of its parent.
    if (row.key.length > ENTRY_NAME_AT && row.key.endsWith('/')) inodes.push(directoryInode(row.value))
  }
  return inodes
}
