/**
 * What was written to a file and is not published, over what is: entries in order of offset, none overlapping another, each a part
 * of a source or a hole. Where there is no entry, the layer below shows.
 *
 * Invariant of an open file: what the layers below hold beyond the file's size is covered by a hole here (truncate puts one), so that
 * a file that is cut and then extended reads zeros.
 */
import type { DirtySource } from './dirty-bytes.ts'

export interface OverlayEntry {
  readonly offset: number
  readonly length: number
  /** Undefined: a hole. */
  readonly source: DirtySource | undefined
  readonly sourceOffset: number
}

/** A range, and what shows there: `undefined` is what lies below. */
export interface OverlayPiece {
  readonly offset: number
  readonly length: number
  readonly entry: OverlayEntry | undefined
}

export class Overlay {
  #entries: OverlayEntry[] = []

  get count(): number {
    return this.#entries.length
  }

  get entries(): readonly OverlayEntry[] {
    return this.#entries
  }

  /** The entry that holds the byte at the offset. */
  entryAt(offset: number): OverlayEntry | undefined {
    const entry = this.#entries[this.#firstEndingAfter(offset)]
    return entry && entry.offset <= offset ? entry : undefined
  }

  /** The entry that ends right before the offset. */
  entryBefore(offset: number): OverlayEntry | undefined {
    const entry = this.#entries[this.#firstEndingAfter(offset - 1)]
    return entry && end(entry) === offset ? entry : undefined
  }

  /** Shows the entry from now on, instead of whatever was there. */
  put(entry: OverlayEntry): void {
    if (entry.length === 0) return
    entry.source?.show(entry.length)
    const first = this.#firstEndingAfter(entry.offset)
    const stop = end(entry)
    const replacement: OverlayEntry[] = []
    let after = first
    let right: OverlayEntry | undefined
    for (let old = this.#entries[after]; old && old.offset < stop; old = this.#entries[++after]) {
      const left = part(old, old.offset, entry.offset)
      if (left) replacement.push(left)
      right = part(old, stop, end(old))
      old.source?.hide(old.length - (left?.length ?? 0) - (right?.length ?? 0))
    }
    replacement.push(entry)
    if (right) replacement.push(right)
    const before = replacement[0] === entry ? this.#entries[first - 1] : undefined
    const joined = before && join(before, entry)
    if (joined) {
      replacement[0] = joined
      this.#entries.splice(first - 1, after - first + 1, ...replacement)
    } else if (replacement.length > 1 && replacement[0] !== entry) {
      const grown = join(replacement[0] as OverlayEntry, entry)
      if (grown) replacement.splice(0, 2, grown)
      this.#entries.splice(first, after - first, ...replacement)
    } else {
      this.#entries.splice(first, after - first, ...replacement)
    }
  }

  /** Shows the entry only where nothing else is shown. */
  putUnder(entry: OverlayEntry): void {
    for (const piece of this.pieces(entry.offset, end(entry))) {
      const below = piece.entry === undefined ? part(entry, piece.offset, piece.offset + piece.length) : undefined
      if (below) this.put(below)
    }
  }

  /** Whether anything in `[from, to)` is shown. */
  shows(from: number, to: number): boolean {
    if (this.#entries.length === 0) return false
    const next = this.#entries[this.#firstEndingAfter(from)]
    return next !== undefined && next.offset < to
  }

  /** All of `[from, to)` in order. */
  pieces(from: number, to: number): OverlayPiece[] {
    const found: OverlayPiece[] = []
    let offset = from
    for (let at = this.#firstEndingAfter(from); at < this.#entries.length && offset < to; at++) {
      const entry = this.#entries[at] as OverlayEntry
      if (entry.offset >= to) break
      if (entry.offset > offset) found.push({ offset, length: entry.offset - offset, entry: undefined })
      const start = Math.max(offset, entry.offset)
      offset = Math.min(to, end(entry))
      found.push({ offset: start, length: offset - start, entry })
    }
    if (offset < to) found.push({ offset, length: to - offset, entry: undefined })
    return found
  }

  /** What shows at the offset, and how far it reaches, at most to `end`. */
  stretchAt(offset: number, end: number): { entry: OverlayEntry | undefined; until: number } {
    const next = this.#entries[this.#firstEndingAfter(offset)]
    if (!next || next.offset >= end) return { entry: undefined, until: end }
    if (next.offset > offset) return { entry: undefined, until: next.offset }
    return { entry: next, until: Math.min(end, next.offset + next.length) }
  }

  /** Takes entries out: there the layer below shows again. Returns whether there was any. */
  remove(which: (entry: OverlayEntry) => boolean): boolean {
    const [removed, kept]: [OverlayEntry[], OverlayEntry[]] = [[], []]
    for (const entry of this.#entries) (which(entry) ? removed : kept).push(entry)
    this.#entries = kept
    for (const entry of removed) entry.source?.hide(entry.length)
    return removed.length > 0
  }

  clear(): void {
    for (const entry of this.#entries.splice(0)) entry.source?.hide(entry.length)
  }

  #firstEndingAfter(offset: number): number {
    let low = 0
    let high = this.#entries.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (end(this.#entries[middle] as OverlayEntry) > offset) high = middle
      else low = middle + 1
    }
    return low
  }
}

function end(entry: OverlayEntry): number {
  return entry.offset + entry.length
}

/** What of the entry lies in `[from, to)`. */
export function part(entry: OverlayEntry, from: number, to: number): OverlayEntry | undefined {
  const offset = Math.max(from, entry.offset)
  const length = Math.min(to, end(entry)) - offset
  if (length <= 0) return undefined
  if (length === entry.length) return entry
  return { offset, length, source: entry.source, sourceOffset: entry.sourceOffset + offset - entry.offset }
}

function join(before: OverlayEntry, entry: OverlayEntry): OverlayEntry | undefined {
  if (end(before) !== entry.offset || before.source !== entry.source) return undefined
  if (entry.source && before.sourceOffset + before.length !== entry.sourceOffset) return undefined
  const { offset, source, sourceOffset } = before
  return { offset, length: before.length + entry.length, source, sourceOffset }
}
