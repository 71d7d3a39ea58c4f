/**
 * What of an attached bucket has been listed, and when: intervals of keys, one row each (rows.ts, `Z c`). Those of the *deep* scope say that every
 * key in them was told; those of a *shallow* scope, one directory, that every object and every common prefix in it was.
 *
 * Intervals of one scope do not overlap. A newer one takes the place of what it covers of older ones; neighbours are joined when they were
 * listed at about the same time (`joinMs`, a fraction of the time for which a listing counts), and the older time is that of the whole. So
 * a listing in a thousand pages leaves a few rows, and no page looks much older than it is.
 *
 * An interval has its first key and its last one, both inclusive. The end of everything that begins with a prefix is written as the
 * prefix and U+10FFFF, which no key in use goes beyond.
 */
import type { ByteString } from '../../../common/ids.ts'
import { utf8Bytes, utf8Text } from '../../../common/ids.ts'
import type { ReadView, Row, Transaction } from '../../ports.ts'
import { orderedBytes, orderedPrefixRange, prefixEnd } from '../keys.ts'
import type { MirrorContext } from './mirror-context.ts'
import { nothingWritten, type Commit, type NamespaceContext } from '../context.ts'
import { coverageKey, coveragePrefix, coveredFrom, decodeCovered, encodeCovered, scopePrefix } from './rows.ts'
import type { Scope } from './types.ts'

export const SCOPE_END: string = utf8Bytes('\u{10ffff}')

/** First and last key, both in it. In bytes. */
export interface Interval {
  readonly from: string
  readonly through: string
  readonly sinceMs: number
}

const LAST_BEFORE_SURROGATES = 0xd7ff
const FIRST_AFTER_SURROGATES = 0xe000

/** Rows that one answer looks at, for intervals that follow one upon another. */
const NEIGHBOURS_MAX = 32
/** Rows that one change of the coverage may replace; what else lies in its way is taken away before. */
export const REPLACED_MAX = 12
const REMOVED_AT_ONCE = 100

/** Whether an interval that ends there holds the key. */
export function reaches(through: string, key: string): boolean {
  if (through >= key) return true
  return through.endsWith(SCOPE_END) && key.startsWith(through.slice(0, -SCOPE_END.length))
}

/** The first key after an interval that ends there. */
export function following(through: string): string {
  if (through === SCOPE_END) return '\xff'
  return through.endsWith(SCOPE_END) ? prefixEnd(through.slice(0, -SCOPE_END.length)) : `${through}\0`
}

function intervalOf(scope: string, row: Row): Interval {
  return { from: coveredFrom(scope, row.key), ...decodeCovered(row.value) }
}

/** The interval that a key lies in. */
async function intervalAt(view: ReadView, scope: string, key: string): Promise<Interval | undefined> {
  const range = { start: scope as ByteString, end: `${coverageKey(scope, key)}\0` as ByteString }
  const [row] = await view.scan(range, 1, true)
  const interval = row && intervalOf(scope, row)
  return interval && reaches(interval.through, key) ? interval : undefined
}

/** From `from` on, over neighbours as long as they are as new as that. */
async function coveredIn(
  view: ReadView,
  scope: string,
  { from, sinceMs }: { readonly from: string; readonly sinceMs: number },
): Promise<Omit<Interval, 'from'> | undefined> {
  const first = await intervalAt(view, scope, from)
  if (!first || first.sinceMs < sinceMs) return undefined
  let { through, sinceMs: oldestMs } = first
  if (through === SCOPE_END) return { through, sinceMs: oldestMs }
  const start = `${coverageKey(scope, first.from)}\0` as ByteString
  const rows = await view.scan({ start, end: prefixEnd(scope) }, NEIGHBOURS_MAX)
  for (const row of rows) {
    const next = intervalOf(scope, row)
    if (next.from > following(through) || next.sinceMs < sinceMs) break
    through = next.through
    oldestMs = Math.min(oldestMs, next.sinceMs)
  }
  return { through, sinceMs: oldestMs }
}

/** As attach/ports.ts says. What is deep answers for a directory too. */
export function covered(
  context: MirrorContext,
  asked: { readonly bucketId: number; readonly scope: Scope; readonly from: string; readonly sinceMs: number },
): Promise<{ readonly through: string; readonly sinceMs: number } | undefined> {
  const { bucketId, scope, sinceMs } = asked
  const directory = scope.kind === 'shallow' ? utf8Bytes(scope.directory) : undefined
  const wanted = { from: utf8Bytes(asked.from), sinceMs }
  // No store has a longer key, so nothing can lie outside below such a directory.
  if (directory !== undefined && directory.length > context.limits.keyBytesMax) {
    return Promise.resolve({ through: utf8Text(SCOPE_END), sinceMs: context.clock.nowMs() })
  }
  return context.store.read(async (view) => {
    const deep = await coveredIn(view, scopePrefix(bucketId, undefined), wanted)
    if (directory === undefined) return deep && told(deep)
    if (deep && reaches(deep.through, directory + SCOPE_END)) return told({ ...deep, through: SCOPE_END })
    const shallow = await coveredIn(view, scopePrefix(bucketId, directory), wanted)
    if (!shallow) return deep && told(deep)
    if (reaches(shallow.through, directory + SCOPE_END)) return told({ ...shallow, through: SCOPE_END })
    return told(deep && deep.through > shallow.through ? deep : shallow)
  }, VISIBLE)
}

/** Coverage is taken back by a crash together with what it covers. */
const VISIBLE = { tell: 'visible' } as const

function told({ through, sinceMs }: Omit<Interval, 'from'>): { through: string; sinceMs: number } {
  return { through: utf8Text(through), sinceMs }
}

/** How far back before `key` everything has been listed without a gap, at whatever time; at most to `back`. */
export async function coveredBack(
  view: ReadView,
  scope: string,
  { key, back }: { readonly key: string; readonly back: string },
): Promise<boolean> {
  let first = key
  while (first > back) {
    const range = { start: scope as ByteString, end: coverageKey(scope, first) }
    const rows = await view.scan(range, NEIGHBOURS_MAX, true)
    const before = first
    for (const row of rows) {
      const interval = intervalOf(scope, row)
      if (following(interval.through) < first) return false
      first = interval.from
      if (first <= back) return true
    }
    if (first === before) return false
  }
  return true
}

/** Intervals that touch this one, ascending; at most `limit`. */
async function touching(view: ReadView, scope: string, interval: Interval, limit: number): Promise<Row[]> {
  const at = coverageKey(scope, interval.from)
  const [before] = await view.scan({ start: scope as ByteString, end: at }, 1, true)
  const last = (scope + orderedBytes(following(interval.through)) + '\0') as ByteString
  const after = await view.scan({ start: at, end: last }, limit)
  const isTouching = before && following(intervalOf(scope, before).through) >= interval.from
  return isTouching ? [before, ...after] : after
}

/** Rows of the intervals in the way of what `cover` is to add, or of more; read before much is written, since scans put that in order first. */
export function inTheWay(view: ReadView, scope: string, interval: Interval): Promise<Row[]> {
  return touching(view, scope, interval, REPLACED_MAX)
}

/**
 * Adds intervals to those of their scope, as part of a step that merges what lies in them.
 * `clearTheWay` was called for all of it, or for more, before.
 */
export function cover(
  tx: Transaction,
  scope: string,
  change: { readonly intervals: readonly Interval[]; readonly rows: readonly Row[]; readonly joinMs: number },
): void {
  const { intervals, rows, joinMs } = change
  const known = rows.map((row) => intervalOf(scope, row))
  const wanted = joined(intervals.reduce<readonly Interval[]>(overlaid, known), joinMs)
  const kept = new Map(wanted.map((one) => [coverageKey(scope, one.from), one]))
  for (const [index, row] of rows.entries()) {
    const same = kept.get(row.key)
    const old = known[index]
    if (!same) tx.delete(row.key)
    else if (old && same.through === old.through && same.sinceMs === old.sinceMs) kept.delete(row.key)
  }
  for (const [key, one] of kept) tx.put(key, encodeCovered(one))
}

/** All of them, with the newer one wherever two overlap. */
function overlaid(known: readonly Interval[], added: Interval): Interval[] {
  const newer = known.filter((one) => one.sinceMs > added.sinceMs)
  const older = known.filter((one) => one.sinceMs <= added.sinceMs)
  const parts = newer.reduce((rest, one) => rest.flatMap((part) => without(part, one)), [added])
  const rest = older.flatMap((one) => without(one, added))
  return [...newer, ...parts, ...rest].sort((a, b) => (a.from < b.from ? -1 : 1))
}

/** What is left of an interval without another: nothing, one, or two. */
function without(interval: Interval, cut: Pick<Interval, 'from' | 'through'>): Interval[] {
  const rest = following(cut.through)
  if (!reaches(interval.through, cut.from) || rest <= interval.from) return [interval]
  const left: Interval[] = []
  const through = interval.from < cut.from ? preceding(cut.from) : undefined
  if (through !== undefined && through >= interval.from) left.push({ ...interval, through })
  if (reaches(interval.through, rest) && rest !== '\xff') left.push({ ...interval, from: rest })
  return left
}

/**
 * The last key before this one, or a little less, since most have no predecessor: of `b` it is `a` and U+10FFFF. Undefined when there is none to
 * be told, as before bytes that are no character.
 */
function preceding(key: string): string | undefined {
  if (key.endsWith('\0')) return key.slice(0, -1)
  const characters = Array.from(utf8Text(key))
  const last = characters.pop()?.codePointAt(0)
  if (last === undefined || utf8Bytes(utf8Text(key)) !== key) return undefined
  const before = last === FIRST_AFTER_SURROGATES ? LAST_BEFORE_SURROGATES : last - 1
  return utf8Bytes(characters.join('') + String.fromCodePoint(before)) + SCOPE_END
}

function joined(intervals: readonly Interval[], joinMs: number): Interval[] {
  const result: Interval[] = []
  for (const next of intervals) {
    const last = result.at(-1)
    const isNear = last && Math.abs(last.sinceMs - next.sinceMs) <= joinMs
    if (!isNear || following(last.through) < next.from) {
      result.push(next)
      continue
    }
    result[result.length - 1] = { ...last, through: next.through, sinceMs: Math.min(last.sinceMs, next.sinceMs) }
  }
  return result
}

/** Takes away older intervals in the way of one that is to be added, but for so many as `cover` replaces itself. In bounded steps. */
export async function clearTheWay(context: MirrorContext, scope: string, interval: Interval): Promise<void> {
  const isFree = await context.store.read(
    async (view) => (await touching(view, scope, interval, REPLACED_MAX)).length < REPLACED_MAX,
    VISIBLE,
  )
  if (isFree) return
  for (let isLeft = true; isLeft;) {
    const { value } = await context.store.transact(async (tx) => {
      const rows = await touching(tx, scope, interval, REMOVED_AT_ONCE)
      const inside = rows.filter((row) => intervalOf(scope, row).from > interval.from)
      // The newest knowledge is worth keeping only where it is little: it costs one more listing.
      for (const row of inside) tx.delete(row.key)
      return inside.length > 0 && rows.length >= REMOVED_AT_ONCE
    }, VISIBLE)
    isLeft = value
  }
}

/** In bounded steps, each of which leaves less. */
export async function uncover(context: NamespaceContext, bucketId: number, prefix: string): Promise<Commit<void>> {
  const bytes = utf8Bytes(prefix)
  let commit = nothingWritten(context, undefined) as Commit<void>
  const run = async (fn: (tx: Transaction) => Promise<boolean>): Promise<void> => {
    for (let isLeft = true; isLeft;) {
      const done = await context.store.transact(fn)
      commit = { ...done, value: undefined }
      isLeft = done.value
    }
  }
  await run(async (tx) => {
    const rows = await tx.scan(shallowBelow(bucketId, bytes), REMOVED_AT_ONCE)
    for (const row of rows) tx.delete(row.key)
    return rows.length === REMOVED_AT_ONCE
  })
  const scopes: [string, string][] = [[scopePrefix(bucketId, undefined), bytes]]
  for (let slash = bytes.lastIndexOf('/'); slash >= 0; slash = slash === 0 ? -1 : bytes.lastIndexOf('/', slash - 1)) {
    scopes.push([scopePrefix(bucketId, bytes.slice(0, slash + 1)), nameIn(bytes, slash + 1)])
  }
  if (bytes !== '') scopes.push([scopePrefix(bucketId, ''), nameIn(bytes, 0)])
  for (const [scope, cut] of scopes) await run((tx) => cutScope(tx, scope, cut))
  return commit
}

/** Shallow scopes of directories that begin with the prefix. */
function shallowBelow(bucketId: number, prefix: string): { start: ByteString; end: ByteString } {
  return orderedPrefixRange(`${coveragePrefix(bucketId)}s`, prefix)
}

/** What a directory shows of a prefix: a common prefix, or names that begin so. */
function nameIn(prefix: string, at: number): string {
  const slash = prefix.indexOf('/', at)
  return slash < 0 ? prefix : prefix.slice(0, slash + 1)
}

/** Whether more is left to cut. */
async function cutScope(tx: Transaction, scope: string, prefix: string): Promise<boolean> {
  const cut = { from: prefix, through: prefix + SCOPE_END, sinceMs: 0 }
  const rows = await touching(tx, scope, cut, REMOVED_AT_ONCE)
  for (const row of rows) {
    const interval = intervalOf(scope, row)
    const left = without(interval, cut)
    if (!left.some(({ from }) => from === interval.from)) tx.delete(row.key)
    for (const one of left) {
      if (one.from !== interval.from || one.through !== interval.through) {
        tx.put(coverageKey(scope, one.from), encodeCovered(one))
      }
    }
  }
  return rows.length >= REMOVED_AT_ONCE
}
