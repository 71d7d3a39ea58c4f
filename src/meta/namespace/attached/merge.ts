/**
 * Taking over a listed page: what the mirror has in the page's range is walked beside what was seen there, in key order, and what differs is
 * written. In bounded steps, each a transaction that leaves the mirror consistent, and covered exactly as far as it got (coverage.ts); so whoever
 * is killed between two of them has merged a shorter page.
 *
 * One step holds a stack of directories (merge-frames.ts). In the top one, the next row and the next item of the page are compared by name:
 *
 *   only the item       the object is new; or the directory is: it is entered, virtual until something in it is made
 *   both                the object is as it was, or another one now; the directory is entered, or (shallow) known already
 *   only the row        the object is gone, or all that lies in the directory is
 *   neither             the directory is left
 */
import { assert, must } from '../../../common/assert.ts'
import type { InodeId } from '../../../common/ids.ts'
import type { Transaction, Row } from '../../ports.ts'
import { endStep, nothingWritten, revisionMade, type Commit, type IdLease, type Step } from '../context.ts'
import { decodeEntry, type ObjectEntry } from '../records-objects.ts'
import { directoryInode, makeChild, type Place } from '../tree.ts'
import { entryKey } from '../keys.ts'
import { readObjectInode } from '../versions.ts'
import { Beliefs, type Belief } from './beliefs.ts'
import { SCOPE_END, clearTheWay, cover, coveredBack, following, inTheWay } from './coverage.ts'
import {
  FrameStack,
  OPERATIONS_PER_DIRECTORY,
  nameOf,
  type Frame,
  type FrameKind,
  type Knowledge,
} from './merge-frames.ts'
import { mirrorStep, readAttached, type MirrorContext } from './mirror-context.ts'
import { OPERATIONS_PER_OBJECT, makeObject, removeObject, replaceObject } from './mirror-entries.ts'
import { pageItems, type PageItem, type PageItems } from './page-items.ts'
import { NO_VALUE, scopePrefix, unlistedKey } from './rows.ts'
import type { SeenPage } from './types.ts'

/** For coverage and usage. */
const OPERATIONS_RESERVED = 48
/** Keys that are left out of what one step covers; with more of them it covers nothing. */
const DOUBTS_MAX = 4
/** Of one step: a page of new objects in a few hundred new directories, and some milliseconds of the event loop. */
const OPERATIONS_MAX = 3072 + OPERATIONS_RESERVED
/** Whatever is made takes two rows or more. */
const IDS_MAX = OPERATIONS_MAX / 2
/** Rows of the mirror that one step looks at. */
const ROWS_MAX = 2048
const BYTES_SHARE = 0.5
const BYTES_PER_OBJECT = 400
/** Rows that one scan brings at most. */
const SCAN_ROWS_MAX = 1024
/** Removed keys that a merge notes one by one. */
const NOTED_MAX = 1024
/** Neighbours are joined if they are no further apart than this share of the time for which a listing counts. */
const JOIN_SHARE = 1 / 16

/** How far a page has been merged. */
interface Position {
  /** First key that is not merged, in bytes. */
  readonly from: string
  /** Of a shallow page: the directory, not told of, in the middle of which the step ended. */
  readonly gone: string | undefined
  readonly item: number
}

interface Part {
  readonly from: string
  readonly through: string
}

interface Stepped {
  readonly next: Position | undefined
  readonly changed: number
  readonly ids: IdLease
}

/** Resolves with how many keys it changed. A page that is too old to be believed changes none, and covers nothing. */
export async function merge(context: MirrorContext, page: SeenPage): Promise<Commit<number>> {
  const items = pageItems(page, context.limits.keyBytesMax)
  const { from, through, directory } = items
  const scope = scopePrefix(page.bucketId, directory)
  let commit: Commit<number> = nothingWritten(context, 0)
  if (from > through && !through.endsWith(SCOPE_END)) return commit
  await clearTheWay(context, scope, { from, through, sinceMs: page.askedAtMs })
  const run: MergeRun = { page, items, scope, noted: 0 }
  let at: Position | undefined = { from, gone: undefined, item: 0 }
  let changed = 0
  while (at) {
    const position: Position = at
    const ids = await context.ids.take(IDS_MAX)
    const done = await context.store.transact((tx) => mergeStep(context, tx, { run, position, ids }))
    context.ids.giveBack(done.value.ids)
    changed += done.value.changed
    commit = { ...done, value: changed }
    at = done.value.next
  }
  return commit
}

interface MergeRun {
  readonly page: SeenPage
  readonly items: PageItems
  /** Prefix of its rows of coverage. */
  readonly scope: string
  /** Removed keys noted so far. */
  noted: number
}

async function mergeStep(
  context: MirrorContext,
  tx: Transaction,
  { run, position, ids }: { run: MergeRun; position: Position; ids: { first: number; count: number } },
): Promise<Stepped> {
  const { bucketId, askedAt, askedAtMs } = run.page
  const nothing = { next: undefined, changed: 0, ids: { next: ids.first, end: ids.first + ids.count } }
  const attached = await readAttached(tx, bucketId)
  const { recent } = context
  if (!attached || recent.isForgotten(bucketId, { at: askedAt, by: run })) return nothing
  if (recent.pages.isForgotten(bucketId, askedAtMs)) return nothing
  const told = { directory: run.items.directory, from: position.from, through: run.items.through, askedAtMs }
  const step = mirrorStep(context, tx, { bucket: attached.bucket, ids })
  const beliefs = await Beliefs.begin(context, tx, {
    bucketId,
    askedAt,
    asker: run,
    from: told.from,
    through: told.through,
    newer: recent.pages.newerThan(bucketId, told),
  })
  const rows = await inTheWay(tx, run.scope, { from: told.from, through: told.through, sinceMs: askedAtMs })
  const merging = new MergeStep({ context, step }, { run, position, beliefs })
  const { covered, next } = await merging.run()
  for (const part of covered) recent.pages.note(bucketId, { ...told, ...part })
  const joinMs = attached.attachment.listingTtlMs * JOIN_SHARE
  cover(tx, run.scope, { intervals: covered.map((part) => ({ ...part, sinceMs: askedAtMs })), rows, joinMs })
  assert(step.ids.next <= step.ids.end, 'no id is used that was not taken')
  endStep(step)
  return { next, changed: merging.changed, ids: step.ids }
}

class MergeStep {
  changed = 0
  readonly #context: MirrorContext
  readonly #step: Step
  readonly #run: MergeRun
  readonly #position: Position
  readonly #beliefs: Beliefs
  readonly #frames: FrameStack
  readonly #operationsMax: number
  readonly #bytesMax: number
  /** Of the page: the next one to be looked at. */
  #item: number
  #operations = 0
  #bytes = 0
  #rows = 0
  /** The last key that is merged. */
  #done: string | undefined
  /** The directory, not told of, that it is in. */
  #gone: string | undefined
  /** What counts as listed, but for the last part. */
  readonly #parts: Part[] = []
  /** Keys right after those of which it was in doubt. */
  readonly #doubts: string[] = []

  constructor(
    { context, step }: { readonly context: MirrorContext; readonly step: Step },
    { run, position, beliefs }: { readonly run: MergeRun; readonly position: Position; readonly beliefs: Beliefs },
  ) {
    const { operationsMax, bytesMax } = context.store.limits
    this.#context = context
    this.#step = step
    this.#run = run
    this.#position = position
    this.#beliefs = beliefs
    this.#frames = new FrameStack(step, { from: position.from, through: run.items.through })
    this.#operationsMax = Math.min(operationsMax, OPERATIONS_MAX) - OPERATIONS_RESERVED
    this.#bytesMax = bytesMax * BYTES_SHARE
    this.#item = position.item
  }

  /** @returns what it has merged, and from where to go on */
  async run(): Promise<{ covered: readonly Part[]; next: Position | undefined }> {
    await this.#open()
    while (this.#frames.depth > 0 && this.#frames.top.kind !== 'above') {
      if (this.#isFull()) return this.#stop()
      const advanced = this.#advance()
      if (advanced !== true && !(await advanced)) return this.#stop()
    }
    while (this.#frames.depth > 0) await this.#frames.pop('part')
    this.#done = this.#run.items.through
    return { covered: this.#covered(), next: undefined }
  }

  async #stop(): Promise<{ covered: readonly Part[]; next: Position }> {
    while (this.#frames.depth > 0) await this.#frames.pop('stopped')
    const from = this.#done === undefined ? this.#position.from : following(this.#done)
    return { covered: this.#covered(), next: { from, gone: this.#gone, item: this.#item } }
  }

  #covered(): readonly Part[] {
    if (this.#doubts.length > DOUBTS_MAX) return []
    this.#cover()
    return this.#parts
  }

  /** All from the last key of which it was in doubt to the last that is merged. */
  #cover(): void {
    const from = this.#doubts.at(-1) ?? this.#position.from
    if (this.#done !== undefined && this.#done >= from) this.#parts.push({ from, through: this.#done })
  }

  /**
   * The key became something else after it was asked for the listing, and nothing tells which of the two is newer outside: so what is here stays,
   * and does not count as listed.
   */
  #doubt(key: string): void {
    this.#cover()
    this.#doubts.push(following(key))
  }

  /** Without having done anything it is never full, or nothing would ever be. */
  #isFull(): boolean {
    const isLong = this.#bytes > this.#bytesMax || this.#rows > ROWS_MAX
    return this.#room() < 0 || (isLong && this.#done !== undefined)
  }

  /** Operations left, beside what stopping and one more object may need. */
  #room(): number {
    const { operations, marks } = this.#frames
    return this.#operationsMax - this.#operations - operations - marks - OPERATIONS_PER_OBJECT
  }

  /** Down to where the page, or what was left of it, begins. */
  async #open(): Promise<void> {
    const { directory } = this.#run.items
    if (directory === undefined) {
      this.#frames.retop('deep')
      return
    }
    await this.#descend(directory, 'above')
    this.#frames.retop('shallow')
    const { gone } = this.#position
    if (gone === undefined) return
    await this.#descend(gone.slice(directory.length), 'gone')
    this.#gone = gone
  }

  async #descend(path: string, kind: FrameKind): Promise<void> {
    for (let at = 0; at < path.length;) {
      const end = path.indexOf('/', at) + 1
      const name = path.slice(at, end)
      const { inode: parent } = this.#frames.top
      const row = parent === undefined ? undefined : await this.#step.tx.get(entryKey(parent, name))
      this.#frames.push({ kind, name, inode: row && directoryInode(row) })
      at = end
    }
  }

  /** One name. False when the step must end first. */
  #advance(): true | Promise<boolean> {
    const frame = this.#frames.top
    return this.#frames.isReady(frame) ? this.#compare(frame) : this.#fill(frame)
  }

  async #fill(frame: Frame): Promise<boolean> {
    const left = this.#run.items.items.length - this.#item
    await this.#frames.fill(frame, Math.min(Math.max(left, 16) + 1, SCAN_ROWS_MAX))
    return true
  }

  #compare(frame: Frame): true | Promise<boolean> {
    const row = frame.rows[frame.at]
    const item = this.#itemIn(frame)
    if (!row && !item) return this.#leave(frame)
    const rowName = row && nameOf(row)
    const itemName = item && this.#nameIn(frame, item)
    if (itemName === undefined || (rowName !== undefined && rowName < itemName)) {
      return this.#onlyHere(frame, must(row, 'a row'))
    }
    return rowName === itemName
      ? this.#both(frame, must(row, 'a row'), must(item, 'an item'))
      : this.#onlyThere(frame, itemName, must(item, 'an item'))
  }

  /** The next item, if it lies in this directory or below. */
  #itemIn({ kind, path }: Frame): PageItem | undefined {
    const item = kind === 'gone' ? undefined : this.#run.items.items[this.#item]
    return item?.key.startsWith(path) ? item : undefined
  }

  #nameIn(frame: Frame, { key }: PageItem): string {
    const slash = key.indexOf('/', frame.path.length)
    return slash < 0 ? key.slice(frame.path.length) : key.slice(frame.path.length, slash + 1)
  }

  async #leave(frame: Frame): Promise<true> {
    const { kind, path, upper } = frame
    await this.#frames.pop(await this.#knowledge(frame))
    if (path === this.#gone) this.#gone = undefined
    if (upper === undefined && kind !== 'shallow') this.#done = path + SCOPE_END
    return true
  }

  async #knowledge({ kind, path, lower, upper }: Frame): Promise<Knowledge> {
    if (kind === 'gone') return 'whole'
    if (upper !== undefined) return 'part'
    if (lower === '') return 'whole'
    const back = { key: this.#position.from, back: path }
    return (await coveredBack(this.#step.tx, this.#run.scope, back)) ? 'whole' : 'part'
  }

  async #onlyHere(frame: Frame, row: Row): Promise<boolean> {
    const name = nameOf(row)
    const key = frame.path + name
    frame.at++
    this.#rows++
    if (!isDirectoryName(name)) {
      await this.#removed(frame, { name, key, row })
      return true
    }
    if (frame.kind !== 'shallow') {
      this.#frames.push({ kind: frame.kind, name, inode: directoryInode(row.value) })
      return true
    }
    if (this.#beliefs.ofOldDirectory(key) === 'theirs') {
      this.#gone = key
      this.#frames.push({ kind: 'gone', name, inode: directoryInode(row.value) })
    } else {
      this.#doubt(key)
      this.#done = key
    }
    return true
  }

  #both(frame: Frame, row: Row, item: PageItem): true | Promise<boolean> {
    const name = nameOf(row)
    frame.at++
    this.#rows++
    if (!isDirectoryName(name)) {
      const current = objectEntry(row)
      const { etag, size } = must(item.object, 'an object')
      if (current.etag !== etag || current.size !== size) return this.#changed(frame, { name, current, item })
      this.#passed(item)
      return true
    }
    if (frame.kind === 'shallow') this.#passed(item)
    else this.#frames.push({ kind: frame.kind, name, inode: directoryInode(row.value) })
    return true
  }

  #onlyThere(frame: Frame, name: string, item: PageItem): true | Promise<boolean> {
    if (!isDirectoryName(name)) {
      const { inode } = frame
      const belief = this.#beliefs.ofNewKeyAtOnce(item.key)
      if (belief !== 'theirs' || inode === undefined) return this.#added(name, item)
      this.#make(inode, name, item)
      if (frame.isLast && this.#beliefs.isAllTheirs()) this.#makeMore(frame, inode)
      return true
    }
    if (frame.kind === 'shallow') return this.#addedDirectory(name, item)
    this.#frames.push({ kind: frame.kind, name, inode: undefined })
    return true
  }

  async #added(name: string, item: PageItem): Promise<boolean> {
    if (!this.#isTheirs(item.key, await this.#beliefs.ofKey(item.key))) {
      this.#passed(item)
      return true
    }
    const parent = this.#parent()
    if (parent === undefined) return false
    this.#make(parent, name, item)
    return true
  }

  /** Nothing of this directory is left here, and nothing of ours in the way: the objects that follow in it, as far as the step has room. */
  #makeMore(frame: Frame, parent: InodeId): void {
    if (frame.at < frame.rows.length) return
    for (let item = this.#itemIn(frame); item?.object && !this.#isFull(); item = this.#itemIn(frame)) {
      const name = item.key.slice(frame.path.length)
      if (name.includes('/')) return
      this.#make(parent, name, item)
    }
  }

  #make(parent: InodeId, name: string, item: PageItem): void {
    makeObject(this.#step, { parent, name }, { key: item.key, outside: must(item.object, 'an object') })
    this.#wrote(2, item.key)
    this.#passed(item)
  }

  #passed(item: PageItem): void {
    this.#item++
    this.#done = item.key
  }

  async #addedDirectory(name: string, item: PageItem): Promise<boolean> {
    if (this.#isTheirs(item.key, await this.#beliefs.ofNewDirectory(item.key))) {
      const parent = this.#parent()
      if (parent === undefined) return false
      const { inode } = makeChild(this.#step, { parent, name, state: 'live' })
      this.#step.tx.put(unlistedKey(inode), NO_VALUE)
      this.#wrote(3, item.key)
      const change = { revision: revisionMade(this.#step), by: this.#run }
      this.#context.recent.noteDirectory(this.#run.page.bucketId, item.key, change)
    }
    this.#passed(item)
    return true
  }

  async #changed(
    frame: Frame,
    { name, current, item }: { readonly name: string; readonly current: ObjectEntry; readonly item: PageItem },
  ): Promise<true> {
    const { key } = item
    if (await this.#isTheirsHere(key, current)) {
      const outside = must(item.object, 'an object')
      await replaceObject(this.#step, placeIn(frame, name), { key, outside, current })
      this.#wrote(OPERATIONS_PER_OBJECT, key)
    }
    this.#passed(item)
    return true
  }

  async #removed(
    frame: Frame,
    { name, key, row }: { readonly name: string; readonly key: string; readonly row: Row },
  ): Promise<void> {
    const current = objectEntry(row)
    if (await this.#isTheirsHere(key, current)) {
      await removeObject(this.#step, placeIn(frame, name), current)
      frame.hasLost = true
      this.#wrote(OPERATIONS_PER_OBJECT, key)
      this.#note(key)
    }
    this.#done = key
  }

  /** Whether what the mirror has at a key is the listing's to change. */
  async #isTheirsHere(key: string, current: ObjectEntry): Promise<boolean> {
    if (!this.#isTheirs(key, await this.#beliefs.ofKey(key, current))) return false
    return this.#beliefs.isInPlace(key, await readObjectInode(this.#step.tx, current.inode))
  }

  #isTheirs(key: string, belief: Belief): boolean {
    if (belief === 'unknown') this.#doubt(key)
    return belief === 'theirs'
  }

  /** The inode of the directory that it stands in, which is made if need be; undefined if that takes more than one step. */
  #parent(): InodeId | undefined {
    const { inode } = this.#frames.top
    return inode ?? this.#frames.makeReal(Math.floor(this.#room() / OPERATIONS_PER_DIRECTORY))
  }

  #wrote(operations: number, key: string): void {
    this.changed++
    this.#operations += operations
    this.#bytes += BYTES_PER_OBJECT + key.length * 3
  }

  /** An older listing would undo it. */
  #note(key: string): void {
    const { recent } = this.#context
    const { bucketId } = this.#run.page
    const change = { revision: revisionMade(this.#step), by: this.#run }
    if (this.#run.noted++ < NOTED_MAX) recent.note(bucketId, key, change)
    else recent.noteAll(bucketId, change)
  }
}

function isDirectoryName(name: string): boolean {
  return name.endsWith('/')
}

function placeIn({ inode }: Frame, name: string): Place {
  return { parent: must(inode, 'a directory that is here'), name, directories: [], isNew: false }
}

function objectEntry(row: Row): ObjectEntry {
  const entry = decodeEntry(row.value)
  assert(entry.kind === 'object', 'a name without a slash is an object')
  return entry
}
