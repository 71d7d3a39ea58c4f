/**
 * Brings what a listing will show up to date, page by page (docs/decisions/0015, Freshness): as far as the range was listed within the `listing-ttl` the
 * mirror answers; then pages are fetched, merged and marked, until what the mirror answers lies within what is covered.
 *
 *   after                          edge
 *     |--------- covered ------------|............ not known ............ end of the prefix
 *     |-- the page asked for --|
 *
 * A listing by `/` of a directory is covered by listings of the same directory (shallow) and of everything (deep), which metadata sees to; another
 * one by deep ones only.
 * Whoever goes on reading finds the next page on its way already. All who want the same page share one request.
 *
 * If the store is down, what was ever listed counts, and is served however old it is.
 */
import type { Clock } from '../common/clock.ts'
import { TidegateError } from '../common/errors.ts'
import type { Attached } from './attached.ts'
import { directoryOf, END, inByteOrder, later, nameWithin, predecessor, successor } from './key-order.ts'
import type { AttachedNames, ExternalPage, Scope } from './ports.ts'
import type { Answer, Reachable } from './reachable.ts'
import { Recent } from './recent.ts'

export interface FreshListingsParts {
  readonly names: Pick<AttachedNames, 'covered' | 'merge' | 'revision'>
  readonly reachable: Reachable
  readonly clock: Clock
}

export interface ListedRange {
  readonly prefix: string
  /** Exclusive; '' for the start. */
  readonly after: string
  readonly delimiter: '' | '/'
}

/** What is asked of the mirror once, or as often as that takes. */
export interface LocalPage<T> {
  page(): Promise<T>
  /** The last key or prefix that the page speaks of; undefined: it goes to the end. */
  reach(page: T): string | undefined
}

interface Walk {
  readonly attached: Attached
  readonly range: ListedRange
  readonly scope: Scope
  /** Everything from the start up to here is known (inclusive); undefined: nothing. */
  edge: string | undefined
  /** What was listed since then counts. */
  sinceMs: number
  down: TidegateError | undefined
  /** All of it is wanted: the next page is asked for before the last one is merged. */
  readonly whole: boolean
}

interface PageFlight {
  /** How far it goes; undefined: to the end. */
  readonly listed: Promise<Answer<string | undefined>>
  readonly merged: Promise<unknown>
}

const PAGE_NAMES = 1000
const LISTINGS_MAX = 4096

export class FreshListings {
  readonly #parts: FreshListingsParts
  readonly #flights = new Map<string, PageFlight>()
  /** Of each listing where the last page that was fetched began. */
  readonly #lastPages = new Recent<string, { readonly after: string; readonly through: string }>(LISTINGS_MAX)
  pages = 0
  stale = 0

  constructor(parts: FreshListingsParts) {
    this.#parts = parts
  }

  /** The mirror's page, once it is fresh. @throws Unavailable when the store does not answer and some of it was never listed */
  async listed<T>(attached: Attached, range: ListedRange, local: LocalPage<T>): Promise<T> {
    const walk = this.#begin(attached, range, false)
    for (;;) {
      await this.#extend(walk)
      if (isWhole(walk)) return await local.page()
      if (walk.edge !== undefined) {
        const page = await local.page()
        const reached = local.reach(page)
        if (reached !== undefined && inByteOrder(reached, walk.edge) <= 0) {
          if (range.after !== '') this.#readAhead(walk, reached)
          return page
        }
      }
      await this.#fetch(walk)
    }
  }

  /** Everything with the prefix. */
  async whole(attached: Attached, prefix: string): Promise<void> {
    const walk = this.#begin(attached, { prefix, after: '', delimiter: '' }, true)
    for (;;) {
      await this.#extend(walk)
      if (isWhole(walk)) return
      await this.#fetch(walk)
    }
  }

  #begin(attached: Attached, range: ListedRange, whole: boolean): Walk {
    const scope: Scope =
      range.delimiter === '/' ? { kind: 'shallow', directory: directoryOf(range.prefix) } : { kind: 'deep' }
    const after = nameWithin(scope, range.after)
    const sinceMs = this.#parts.clock.nowMs() - attached.record.listingTtlMs
    return { attached, range: { ...range, after }, scope, edge: undefined, sinceMs, down: undefined, whole }
  }

  /** Moves the edge as far as is known. */
  async #extend(walk: Walk): Promise<void> {
    const { bucketId } = walk.attached.record
    while (!isWhole(walk)) {
      const covered = await this.#parts.names.covered(bucketId, walk.scope, startOf(walk), walk.sinceMs)
      if (covered?.through === undefined) return
      const through = nameWithin(walk.scope, covered.through)
      if (walk.edge !== undefined && inByteOrder(through, walk.edge) <= 0) return
      walk.edge = through
    }
  }

  async #fetch(walk: Walk): Promise<void> {
    if (walk.down) throw walk.down
    const flight = this.#flight(walk)
    const answer = await flight.listed
    if ('down' in answer) {
      walk.down = answer.down
      walk.sinceMs = 0
      this.stale++
      return
    }
    const through = answer.value ?? endOf(walk)
    if (walk.whole && answer.value !== undefined) this.#ahead({ ...walk, edge: through })
    await flight.merged
    walk.edge = through
  }

  /** Unless whoever reads has a whole page left. */
  #readAhead(walk: Walk, reached: string): void {
    const last = this.#lastPages.get(listingOf(walk))
    if (last && last.through === walk.edge && inByteOrder(reached, last.after) <= 0) return
    this.#ahead(walk)
  }

  #ahead(walk: Walk): void {
    // What does not count when it comes is not asked for ahead.
    if (walk.attached.record.listingTtlMs === 0 || walk.down) return
    const { listed, merged } = this.#flight(walk)
    // Whoever wants the page asks again, and is told.
    listed.catch(() => undefined)
    merged.catch(() => undefined)
  }

  #flight(walk: Walk): PageFlight {
    const { range, attached } = walk
    const after = walk.edge ?? (inByteOrder(range.after, range.prefix) < 0 ? '' : range.after)
    const name = `${listingOf(walk)} ${after}`
    const under = this.#flights.get(name)
    if (under && attached.record.listingTtlMs > 0) return under
    const flight = this.#ask(walk, after)
    this.#flights.set(name, flight)
    const end = (): void => {
      if (this.#flights.get(name) === flight) this.#flights.delete(name)
    }
    flight.merged.then(end, end)
    return flight
  }

  #ask(walk: Walk, after: string): PageFlight {
    const { names, clock, reachable } = this.#parts
    const { attached, scope, range } = walk
    const { prefix, delimiter } = range
    const askedAt = names.revision()
    const askedAtMs = clock.nowMs()
    this.pages++
    const asking = reachable.ask(attached, async () => {
      const page = await attached.external.list({ prefix, after, delimiter, limit: PAGE_NAMES })
      if (page.next !== undefined && inByteOrder(page.next, after) <= 0) throw goesNowhere(page.next)
      return page
    })
    const listed = asking.then((answer) => ('down' in answer ? answer : { value: answer.value.next }))
    const merge = async (): Promise<void> => {
      const answer = await asking
      if ('down' in answer) return
      const { objects, prefixes, next } = within(answer.value, after)
      this.#lastPages.set(listingOf(walk), { after, through: next ?? endOf(walk) })
      const { bucketId } = attached.record
      // Of a part of a directory only that part was told.
      const isPart = scope.kind === 'shallow' && prefix !== scope.directory
      await names.merge({
        bucketId,
        scope,
        prefix,
        after: isPart && after === '' ? predecessor(prefix) : after,
        through: next ?? (isPart ? endOf(walk) : undefined),
        objects,
        prefixes,
        askedAt,
        askedAtMs,
      })
    }
    const merged = merge()
    merged.catch(() => undefined)
    return { listed, merged }
  }
}

function endOf({ range }: Walk): string {
  return range.prefix + END
}

function isWhole(walk: Walk): boolean {
  return walk.edge !== undefined && inByteOrder(walk.edge, endOf(walk)) >= 0
}

/** The first key that is not known. */
function startOf({ edge, range }: Walk): string {
  const after = edge ?? range.after
  return after === '' ? range.prefix : later(successor(after), range.prefix)
}

function listingOf({ attached, scope, range }: Walk): string {
  return JSON.stringify([attached.record.bucketId, scope.kind, range.prefix])
}

/** Some stores tell a common prefix again when asked for what comes after it. */
function within(page: ExternalPage, after: string): ExternalPage {
  return {
    next: page.next,
    objects: page.objects.filter(({ key }) => inByteOrder(key, after) > 0),
    prefixes: page.prefixes.filter((prefix) => inByteOrder(prefix, after) > 0),
  }
}

function goesNowhere(next: string): TidegateError {
  return new TidegateError('Unavailable', `a listing goes on after ${JSON.stringify(next)}, where it has been already`)
}
