/**
 * The directories that a merge stands in, from the bucket's root down, and the rows of each in their order.
 *
 * A frame may be *virtual*: no such directory is here, and it is made once something in it is. What becomes of a directory when
 * the merge leaves it follows from how much of it is known then (`Z u`, rows.ts):
 *
 *   whole    all of its keys were told, now or before: it loses its mark, and goes if it is empty
 *   part     it gets the mark if it is new; else it goes if it is empty and has none
 *   stopped  the step ends in the middle of it: it gets the mark if it is new or looks empty, and the next step goes on
 */
import { assert, must } from '../../../common/assert.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'
import type { Row } from '../../ports.ts'
import type { Step } from '../context.ts'
import { ENTRY_NAME_AT, entriesPrefix, entryKey, formerPlaceKey, inodeKey, prefixEnd, prefixRange } from '../keys.ts'
import { encodePlace } from '../records-objects.ts'
import { makeChild } from '../tree.ts'
import { SCOPE_END } from './coverage.ts'
import { NO_VALUE, unlistedKey } from './rows.ts'

/**
 * deep: of a deep page. shallow: the one directory that a shallow page tells of. gone: one that a shallow page does not tell of, and all below it.
 * above: on the way to these; its rows are not looked at.
 */
export type FrameKind = 'deep' | 'shallow' | 'gone' | 'above'

export interface Frame {
  readonly kind: FrameKind
  /** Key of the directory in bytes: empty for the root, else ending in a slash. */
  readonly path: string
  /** Its name, with the slash. */
  readonly name: string
  /** Undefined while it is virtual. */
  inode: InodeId | undefined
  isNew: boolean
  /** Something went out of it. */
  hasLost: boolean
  /** Its first key in question, relative to it; empty: all from its start on. */
  readonly lower: string
  /** Its last name in question, relative to it; undefined: to its end. */
  readonly upper: string | undefined
  rows: readonly Row[]
  at: number
  isLast: boolean
}

export type Knowledge = 'whole' | 'part' | 'stopped'

/** Rows that making a directory and marking it writes. */
export const OPERATIONS_PER_DIRECTORY = 3

/** First key and last key, in bytes, that a frame is about. */
export interface FrameRange {
  readonly from: string
  readonly through: string
}

export class FrameStack {
  /** Rows written so far. */
  operations = 0
  readonly #step: Step
  readonly #frames: Frame[] = []
  readonly #range: FrameRange

  constructor(step: Step, range: FrameRange) {
    this.#step = step
    this.#range = range
    const root = this.push({ kind: 'above', name: '', inode: step.bucket.root })
    assert(root.path === '', 'the first frame is the root')
  }

  get top(): Frame {
    return must(this.#frames.at(-1), 'a frame')
  }

  get depth(): number {
    return this.#frames.length
  }

  /** Rows that may have to be written if the step stops here. */
  get marks(): number {
    return this.#frames.reduce((count, { isNew, hasLost }) => count + (isNew || hasLost ? 1 : 0), 0)
  }

  push(made: { readonly kind: FrameKind; readonly name: string; readonly inode: InodeId | undefined }): Frame {
    const path = (this.#frames.at(-1)?.path ?? '') + made.name
    const { from, through } = this.#range
    const lower = from.startsWith(path) ? from.slice(path.length) : ''
    const isCut = made.kind !== 'gone' && through.startsWith(path)
    const below = isCut ? through.slice(path.length) : undefined
    const frame: Frame = {
      ...made,
      path,
      isNew: false,
      hasLost: false,
      lower,
      upper: below === SCOPE_END ? undefined : below,
      rows: [],
      at: 0,
      isLast: made.inode === undefined,
    }
    this.#frames.push(frame)
    return frame
  }

  /** The top frame is about another kind of question from now on. */
  retop(kind: FrameKind): Frame {
    const frame = { ...this.top, kind }
    this.#frames[this.#frames.length - 1] = frame
    return frame
  }

  /** Whether the next row of a frame is read, or that there is none. */
  isReady({ at, rows, isLast }: Frame): boolean {
    return at < rows.length || isLast
  }

  /** Reads on; `wanted` as a measure of how many more rows will be asked for. */
  async fill(frame: Frame, wanted: number): Promise<void> {
    const prefix = entriesPrefix(must(frame.inode, 'a directory that is here'))
    const last = frame.rows.at(-1)
    const start = (last ? `${last.key}\0` : prefix + firstName(frame)) as ByteString
    const end = frame.upper === undefined ? prefixEnd(prefix) : (`${prefix}${frame.upper}\0` as ByteString)
    frame.rows = start < end ? await this.#step.tx.scan({ start, end }, wanted) : []
    frame.at = 0
    frame.isLast = frame.rows.length < wanted
  }

  /** Makes the virtual directories, from the top of the tree down, at most so many. @returns inode of the deepest, if all are real */
  makeReal(most: number): InodeId | undefined {
    let made = 0
    let parent: InodeId | undefined
    for (const frame of this.#frames) {
      if (frame.inode === undefined) {
        if (made++ >= most) return undefined
        const { inode } = makeChild(this.#step, { parent: must(parent, 'a parent'), name: frame.name, state: 'live' })
        frame.inode = inode
        frame.isNew = true
        this.operations += 2
      }
      parent = frame.inode
    }
    return parent
  }

  /** Leaves the top frame. */
  async pop(knowledge: Knowledge): Promise<void> {
    const frame = must(this.#frames.pop(), 'a frame')
    const above = this.#frames.at(-1)
    if (frame.inode === undefined || above === undefined) return
    const went = await this.#settle(frame, knowledge)
    if (!went) return
    const { tx } = this.#step
    const parent = must(above.inode, 'a parent that is here')
    tx.delete(entryKey(parent, frame.name))
    tx.delete(inodeKey(frame.inode))
    // As a directory goes elsewhere (tree.ts): watchers of what was in it need its path still.
    tx.put(formerPlaceKey(frame.inode), encodePlace({ parent, name: frame.name }))
    this.operations += 3
    above.hasLost = true
  }

  /** Whether the directory goes. */
  async #settle(frame: Frame, knowledge: Knowledge): Promise<boolean> {
    const inode = must(frame.inode, 'a directory that is here')
    const { isNew, hasLost } = frame
    if (knowledge === 'stopped') {
      if (isNew || (hasLost && (await this.#isEmpty(inode)))) this.#mark(inode)
      return false
    }
    if (knowledge === 'part') {
      if (isNew) this.#mark(inode)
      return hasLost && !(await this.#isMarked(inode)) && (await this.#isEmpty(inode))
    }
    const isMarked = !isNew && (await this.#isMarked(inode))
    if (isMarked) {
      this.#step.tx.delete(unlistedKey(inode))
      this.operations++
    }
    return (isMarked || hasLost) && (await this.#isEmpty(inode))
  }

  #mark(inode: InodeId): void {
    this.#step.tx.put(unlistedKey(inode), NO_VALUE)
    this.operations++
  }

  async #isMarked(inode: InodeId): Promise<boolean> {
    return (await this.#step.tx.get(unlistedKey(inode))) !== undefined
  }

  async #isEmpty(inode: InodeId): Promise<boolean> {
    return (await this.#step.tx.scan(prefixRange(entriesPrefix(inode)), 1)).length === 0
  }
}

/** Where the rows in question begin. A shallow page is not about what lies in the directories that come before. */
function firstName({ kind, lower }: Frame): string {
  const slash = lower.indexOf('/')
  return kind === 'shallow' || slash < 0 ? lower : lower.slice(0, slash + 1)
}

export function nameOf(row: Row): string {
  return row.key.slice(ENTRY_NAME_AT)
}
