/**
 * Walking all versions in key order, newest first within a key: the merge of D and V in every directory. Hidden directories
 * are met in V, live ones in D; both are entered alike.
 */
import { assert, must } from '../../common/assert.ts'
import type { ByteString, InodeId } from '../../common/ids.ts'
import type { KeyRange, ReadView, Row } from '../ports.ts'
import {
  ENTRY_NAME_AT,
  entriesPrefix,
  entryKey,
  orderedBytes,
  orderedPrefixRange,
  parseVersionKey,
  prefixRange,
  versionKey,
  versionsPrefix,
} from './keys.ts'
import { decodeEntry, type VersionEntry } from './records-objects.ts'

const SCAN_ROWS = 500

/** Rows of a range, fetched in batches. */
class RowStream {
  readonly #view: ReadView
  readonly #end: ByteString
  #start: ByteString
  #rows: readonly Row[] = []
  #at = 0
  #last = false

  constructor(view: ReadView, range: KeyRange) {
    this.#view = view
    this.#start = range.start
    this.#end = range.end
  }

  async peek(): Promise<Row | undefined> {
    if (this.#at < this.#rows.length) return this.#rows[this.#at]
    if (this.#last || this.#start >= this.#end) return undefined
    this.#rows = await this.#view.scan({ start: this.#start, end: this.#end }, SCAN_ROWS)
    this.#at = 0
    this.#last = this.#rows.length < SCAN_ROWS
    const lastRow = this.#rows.at(-1)
    if (lastRow) this.#start = `${lastRow.key}\0` as ByteString
    return this.#rows[0]
  }

  advance(): void {
    this.#at++
  }

  /** Goes forward to the first row at or after `key`. */
  seek(key: ByteString): void {
    const lastRow = this.#rows.at(-1)
    if (lastRow && lastRow.key >= key) {
      while (this.#at < this.#rows.length && must(this.#rows[this.#at], 'row').key < key) this.#at++
      return
    }
    this.#rows = []
    this.#at = 0
    if (key > this.#start) this.#start = key
  }
}

interface Frame {
  readonly inode: InodeId
  readonly path: string
  readonly entries: RowStream
  readonly versions: RowStream
  /** Name of the version given last: later ones of it are not the latest. */
  shownName: string | undefined
}

export type VersionWalkItem =
  | { readonly kind: 'directory'; readonly key: string }
  | { readonly kind: 'version'; readonly key: string; readonly entry: VersionEntry; readonly isLatest: boolean }

export interface VersionWalkStart {
  readonly inode: InodeId
  readonly path: string
  readonly namePrefix: string
  readonly from: string
  readonly enter: boolean
}

/** What stands next in a frame. */
interface Standing {
  readonly name: string
  readonly row: Row
  readonly stream: RowStream
}

export class VersionWalk {
  readonly #view: ReadView
  readonly #enter: boolean
  readonly #frames: Frame[] = []

  constructor(view: ReadView, start: Omit<VersionWalkStart, 'from'>) {
    this.#view = view
    this.#enter = start.enter
    this.#push(start.inode, start.path, start.namePrefix)
  }

  static async begin(view: ReadView, start: VersionWalkStart): Promise<VersionWalk> {
    const walk = new VersionWalk(view, start)
    await walk.seek(start.from)
    return walk
  }

  async next(): Promise<VersionWalkItem | undefined> {
    for (let frame = this.#frames.at(-1); frame; frame = this.#frames.at(-1)) {
      const standing = await standingIn(frame)
      if (!standing) {
        this.#frames.pop()
        continue
      }
      standing.stream.advance()
      const key = frame.path + standing.name
      const entry = decodeEntry(standing.row.value)
      if (entry.kind === 'directory') {
        if (!this.#enter) return { kind: 'directory', key }
        this.#push(entry.inode, key, '')
        continue
      }
      assert(entry.kind !== 'pointer', 'null pointers are passed over')
      const isLatest = frame.shownName !== standing.name
      frame.shownName = standing.name
      return { kind: 'version', key, entry, isLatest }
    }
    return undefined
  }

  /** Within the key given last: passes over its versions numbered `version` and above. */
  skipVersions(version: number): void {
    const frame = must(this.#frames.at(-1), 'frame of what was given last')
    const name = must(frame.shownName, 'name of what was given last')
    frame.versions.seek(`${versionKey(frame.inode, name, version)}\0` as ByteString)
  }

  /** Goes on with the first key at or after `target`, which lies after everything given so far. */
  async seek(target: string): Promise<void> {
    for (let frame = this.#frames.at(-1); frame && target > frame.path; frame = this.#frames.at(-1)) {
      if (!target.startsWith(frame.path)) {
        this.#frames.pop()
        continue
      }
      const rest = target.slice(frame.path.length)
      const slash = rest.indexOf('/')
      const name = slash < 0 ? rest : rest.slice(0, slash + 1)
      frame.entries.seek(entryKey(frame.inode, name))
      frame.versions.seek((versionsPrefix(frame.inode) + orderedBytes(name)) as ByteString)
      if (slash < 0 || slash === rest.length - 1) return
      const standing = await standingIn(frame)
      if (!standing || standing.name !== name) return
      standing.stream.advance()
      if (!this.#enter) return
      const entry = decodeEntry(standing.row.value)
      assert(entry.kind === 'directory', 'a name with a slash is a directory')
      this.#push(entry.inode, frame.path + name, '')
    }
  }

  #push(inode: InodeId, path: string, namePrefix: string): void {
    this.#frames.push({
      inode,
      path,
      entries: new RowStream(this.#view, prefixRange(entriesPrefix(inode) + namePrefix)),
      versions: new RowStream(this.#view, orderedPrefixRange(versionsPrefix(inode), namePrefix)),
      shownName: undefined,
    })
  }
}

async function standingIn(frame: Frame): Promise<Standing | undefined> {
  const entryRow = await frame.entries.peek()
  const entryName = entryRow?.key.slice(ENTRY_NAME_AT)
  let versionRow = await frame.versions.peek()
  let parsed = versionRow && parseVersionKey(versionRow.key)
  while (parsed?.slot === 'null') {
    frame.versions.advance()
    versionRow = await frame.versions.peek()
    parsed = versionRow && parseVersionKey(versionRow.key)
  }
  if (entryRow && entryName !== undefined && (!parsed || entryName <= parsed.name)) {
    return { name: entryName, row: entryRow, stream: frame.entries }
  }
  if (!versionRow || !parsed) return undefined
  return { name: parsed.name, row: versionRow, stream: frame.versions }
}
