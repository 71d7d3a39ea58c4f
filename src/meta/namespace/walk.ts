/**
 * Walking the tree in key order, for listings.
 *
 * A walk is a stack of frames, one for each directory on the way down; each reads its directory's rows in batches, by range
 * scans. `seek` goes forward to a key without reading what lies between: frames that the key does not lie in are left, the
 * others skip, and a directory that the key lies in is entered at the rest of it.
 *
 * A tree of a million directories with one object each would cost a scan an object. So when the walk is about to enter a
 * directory and more directories follow it, their first rows are fetched in one `scanMany`, level below level, with a look-ahead
 * that grows as it proves right. What is fetched ahead is bounded by what the page still needs.
 *
 * Objects that have expired are passed over. A directory that holds nothing else is met until the expirer has removed them.
 */
import { assert, must } from '../../common/assert.ts'
import type { ByteString, InodeId } from '../../common/ids.ts'
import type { ReadView, Row } from '../ports.ts'
import { ENTRY_NAME_AT, entriesPrefix, prefixEnd } from './keys.ts'
import { decodeEntry, type DirectoryEntry, type ObjectEntry } from './records-objects.ts'
import { isExpired } from './tree.ts'

export const SCAN_ROWS_MAX = 1000

const LOOK_AHEAD_START = 8
const LOOK_AHEAD_MAX = 1024
const LOOK_AHEAD_LEVELS_MAX = 16

export interface WalkItem {
  /** Of a directory it ends in a slash. In bytes. */
  readonly key: string
  readonly entry: ObjectEntry | DirectoryEntry
}

interface Frame {
  readonly path: string
  readonly prefix: string
  readonly end: ByteString
  rows: readonly Row[]
  at: number
  /** No rows follow those in `rows`. */
  last: boolean
}

interface Fetched {
  readonly rows: readonly Row[]
  readonly last: boolean
}

export interface WalkStart {
  readonly inode: InodeId
  /** Key of the directory in bytes: empty, or ending in a slash. */
  readonly path: string
  /** Only names in it that start with this. */
  readonly namePrefix: string
  /** First key to consider. */
  readonly from: string
  /** Whether directories are entered, or shown as items themselves. */
  readonly enter: boolean
  /** What has expired by then is not shown. */
  readonly nowMs: number
}

export class ObjectWalk {
  readonly #view: ReadView
  readonly #enter: boolean
  readonly #nowMs: number
  readonly #frames: Frame[] = []
  readonly #ahead = new Map<InodeId, Fetched>()
  #lookAhead = LOOK_AHEAD_START
  #wanted: number
  #passedOver = 0

  /** @param wanted items that the caller will take at most */
  constructor(view: ReadView, start: WalkStart, wanted: number) {
    this.#view = view
    this.#enter = start.enter
    this.#nowMs = start.nowMs
    this.#wanted = wanted
    this.#frames.push(frameOf(start.inode, start.path, start.namePrefix))
  }

  /** Begins a walk. */
  static async begin(view: ReadView, start: WalkStart, wanted: number): Promise<ObjectWalk> {
    const walk = new ObjectWalk(view, start, wanted)
    await walk.seek(start.from)
    return walk
  }

  async next(): Promise<WalkItem | undefined> {
    for (;;) {
      const frame = this.#frames.at(-1)
      if (!frame) return undefined
      if (frame.at >= frame.rows.length) {
        if (frame.last) this.#frames.pop()
        else await this.#fill(frame, nextStart(frame))
        continue
      }
      const row = must(frame.rows[frame.at], 'row')
      const key = frame.path + row.key.slice(ENTRY_NAME_AT)
      const entry = decodeEntry(row.value)
      assert(entry.kind === 'object' || entry.kind === 'directory', 'D holds live objects and directories')
      if (entry.kind === 'directory' && this.#enter) {
        await this.#enterDirectory(frame, key, entry.inode)
        continue
      }
      frame.at++
      if (entry.kind === 'object' && isExpired(entry, this.#nowMs)) {
        this.#passedOver++
        continue
      }
      this.#wanted--
      return { key, entry }
    }
  }

  /** Goes on with the first key at or after `target`, which lies after everything given so far. */
  async seek(target: string): Promise<void> {
    for (;;) {
      const frame = this.#frames.at(-1)
      if (!frame || target <= frame.path) return
      if (!target.startsWith(frame.path)) {
        this.#frames.pop()
        continue
      }
      if (!(await this.#seekIn(frame, target))) return
    }
  }

  /** Moves a frame to the name that the target has in it. True if that is a directory, which it then enters. */
  async #seekIn(frame: Frame, target: string): Promise<boolean> {
    const rest = target.slice(frame.path.length)
    const slash = rest.indexOf('/')
    const name = slash < 0 ? rest : rest.slice(0, slash + 1)
    const wantedKey = frame.prefix.slice(0, ENTRY_NAME_AT) + name
    const lastRow = frame.rows.at(-1)
    if (lastRow && lastRow.key >= wantedKey) {
      while (must(frame.rows[frame.at], 'row').key < wantedKey) frame.at++
    } else if (!frame.last) {
      await this.#fill(frame, wantedKey < frame.prefix ? frame.prefix : wantedKey)
    } else {
      frame.at = frame.rows.length
    }
    const row = frame.rows[frame.at]
    // A target that is the directory itself: the walk enters it from its first row on.
    if (slash < 0 || slash === rest.length - 1 || row?.key !== wantedKey) return false
    frame.at++
    if (!this.#enter) return false
    const entry = decodeEntry(row.value)
    assert(entry.kind === 'directory', 'a name with a slash is a directory')
    this.#frames.push(frameOf(entry.inode, frame.path + name, ''))
    return true
  }

  async #enterDirectory(frame: Frame, path: string, inode: InodeId): Promise<void> {
    let fetched = this.#ahead.get(inode)
    if (!fetched) {
      await this.#fetchAhead(frame)
      fetched = must(this.#ahead.get(inode), 'rows fetched ahead')
    }
    this.#ahead.delete(inode)
    frame.at++
    const below = frameOf(inode, path, '')
    below.rows = fetched.rows
    below.last = fetched.last
    this.#frames.push(below)
  }

  /** Fetches the first rows of the directory that a frame stands at, of the directories that follow, and of those in them. */
  async #fetchAhead(frame: Frame): Promise<void> {
    this.#ahead.clear()
    let directories = directoriesFrom(frame.rows, frame.at, this.#lookAhead)
    let rowsLeft = Math.max(this.#wanted, 1) * 2
    for (let level = 0; level < LOOK_AHEAD_LEVELS_MAX && directories.length > 0 && rowsLeft > 0; level++) {
      const limitEach = Math.min(Math.max(2, Math.ceil(rowsLeft / directories.length)), SCAN_ROWS_MAX)
      const below = await this.#view.scanMany(
        directories.map((inode) => {
          const prefix = entriesPrefix(inode)
          return { start: prefix as ByteString, end: prefixEnd(prefix) }
        }),
        limitEach,
      )
      const deeper: InodeId[] = []
      for (const [index, rows] of below.entries()) {
        this.#ahead.set(must(directories[index], 'directory'), { rows, last: rows.length < limitEach })
        rowsLeft -= rows.length
        if (deeper.length < this.#lookAhead) deeper.push(...directoriesFrom(rows, 0, this.#lookAhead - deeper.length))
      }
      directories = deeper
    }
    this.#lookAhead = Math.min(this.#lookAhead * 4, LOOK_AHEAD_MAX)
  }

  async #fill(frame: Frame, start: string): Promise<void> {
    if (start >= frame.end) {
      frame.rows = []
      frame.at = 0
      frame.last = true
      return
    }
    // Where many have expired, more are likely to follow.
    const limit = Math.min(Math.max(this.#wanted, 1) + 1 + this.#passedOver, SCAN_ROWS_MAX)
    frame.rows = await this.#view.scan({ start: start as ByteString, end: frame.end }, limit)
    frame.at = 0
    frame.last = frame.rows.length < limit
  }
}

function frameOf(inode: InodeId, path: string, namePrefix: string): Frame {
  const prefix = entriesPrefix(inode) + namePrefix
  return { path, prefix, end: prefixEnd(prefix), rows: [], at: 0, last: false }
}

function nextStart(frame: Frame): string {
  const lastRow = frame.rows.at(-1)
  return lastRow ? `${lastRow.key}\0` : frame.prefix
}

/** Up to `count` directories among the rows from `at` on. */
function directoriesFrom(rows: readonly Row[], at: number, count: number): InodeId[] {
  const inodes: InodeId[] = []
  for (let i = at; i < rows.length && inodes.length < count; i++) {
    const row = must(rows[i], 'row')
    if (!row.key.endsWith('/')) continue
    const entry = decodeEntry(row.value)
    if (entry.kind === 'directory') inodes.push(entry.inode)
  }
  return inodes
}
