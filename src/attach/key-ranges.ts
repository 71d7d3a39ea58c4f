/**
 * Ranges of keys that several listers go through at once, and how one of them is cut in two (import.ts).
 *
 * How many keys lie in a range nobody knows before they are listed. So a range is cut while it is being listed, whenever a lister has nothing to do: somewhere
 * behind what has been listed of it, where keys really lie. Any text may be the cut; whether keys lie behind it is asked of the store, in a listing of one key:
 *
 *   nothing behind it    the range ends there
 *   a key behind it      it may be cut there
 *
 * Keys mostly begin alike (`logs/2026/`, `img-000`). The longest such beginning behind which nothing lies is searched for first, among those of the
 * keys seen last; then the next characters that may follow it are halved. In a part of a range that was cut so, the first guess mostly is right.
 */
import { END, inByteOrder } from './key-order.ts'

/** Keys after `after`, up to `through`; both move. */
export interface KeyRange {
  after: string
  /** Inclusive; `END`: to the end of the bucket. */
  through: string
  /** Of the whole, as far as one may guess: halved by each cut. */
  share: number
  /** First and last key of the page that was listed last. */
  seen: readonly [string, string] | undefined
}

/** Whether keys of the range lie behind the point, which is in it. */
export type Asking = (point: string) => Promise<boolean>

export function wholeRange(): KeyRange {
  return { after: '', through: END, share: 1, seen: undefined }
}

/** `points` ascending. The range itself becomes the first part; resolves with the others. */
export function cutAt(range: KeyRange, points: readonly string[]): KeyRange[] {
  const inside = points.filter((point) => isInside(range, point))
  const share = range.share / (inside.length + 1)
  const ends = [...inside.slice(1), range.through]
  const parts = inside.map((after, index) => ({ after, through: ends[index] ?? END, share, seen: undefined }))
  if (inside[0] !== undefined) range.through = inside[0]
  range.share = share
  return parts
}

function isInside({ after, through }: KeyRange, point: string): boolean {
  return inByteOrder(point, after) > 0 && inByteOrder(point, through) < 0
}

/**
 * Where to cut, if a place is found with so many questions, beside a few for where keys begin to differ. Behind where nothing lies the range is cut off on the way, which whoever is asked sees to
 * (`KeyRange.through`); meanwhile it may get on.
 */
export async function findCut(range: KeyRange, isBehind: Asking, questionsMax: number): Promise<string | undefined> {
  let known: string | undefined
  const ask = async (point: string): Promise<boolean> => {
    const found = await isBehind(point)
    if (found) known = point
    return found
  }
  await tighten(range, ask)
  for (let left = questionsMax; left > 0; left--) {
    const point = halfway(range)
    if (point === undefined || (await ask(point))) break
  }
  return known !== undefined && isInside(range, known) ? known : undefined
}

/** By halves: the longer the beginning, the more lies behind it. */
async function tighten(range: KeyRange, ask: Asking): Promise<void> {
  if (!range.seen) return
  const alike = commonStart(...range.seen)
  let [none, some] = [0, alike.length + 1]
  while (some - none > 1) {
    const length = Math.floor((none + some) / 2)
    const point = alike.slice(0, length).join('') + END
    if (isInside(range, point) && (await ask(point))) some = length
    else none = length
  }
}

const LAST_CHARACTER = 0x10ffff
/** Of printable ASCII: most keys have no character behind. */
const LIKELY_MAX = 0x7e

/** Between where the range begins and ends, in the first character that differs; undefined when nothing is between. */
function halfway(range: KeyRange): string | undefined {
  const isOpen = range.through.endsWith(END)
  const low = Array.from(range.after)
  const high = Array.from(isOpen ? range.through.slice(0, -END.length) : range.through)
  for (let at = 0; at <= low.length; at++) {
    const from = low[at]?.codePointAt(0) ?? 0
    const last = high[at]?.codePointAt(0)
    if (last === undefined && !isOpen) return undefined
    if (last === from) continue
    const to = last ?? (from <= LIKELY_MAX ? LIKELY_MAX + 1 : LAST_CHARACTER)
    const middle = character(Math.floor((from + to) / 2))
    const head = low.slice(0, at).join('')
    const isBetween = middle > from && middle < to
    // Neighbours: behind all that goes on as where it begins, or before all that goes on as where it ends.
    const points = isBetween
      ? [head + String.fromCodePoint(middle)]
      : [head + (low[at] ?? '') + END, head + (high[at] ?? '')]
    const point = points.find((one) => isInside(range, one))
    if (point !== undefined || last !== undefined) return point
  }
  return undefined
}

/** Surrogates are no characters. */
function character(code: number): number {
  return code >= 0xd800 && code <= 0xdfff ? 0xe000 : code
}

function commonStart(one: string, other: string): readonly string[] {
  const [a, b] = [Array.from(one), Array.from(other)]
  let length = 0
  while (length < a.length && a[length] === b[length]) length++
  return a.slice(0, length)
}
