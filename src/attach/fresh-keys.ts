/**
 * Looks at single keys of attached buckets before they are read or written here (docs/decisions/0015, Freshness). A key needs no look when it was seen
 * within the `ttl`, when its range was listed within the `ttl`, or when it was changed here and that has not been carried out: what is here counts then.
 *
 * What was seen is remembered in bounded memory. What falls out of it is looked at once more.
 *
 * All who ask at once share one look. It may have been sent before the last of them asked, so its answer is older than the question by less than the `ttl`;
 * with a `ttl` of 0 everybody looks for himself.
 */
import type { Clock } from '../common/clock.ts'
import type { Attached } from './attached.ts'
import { KEY_BYTES_MAX, directoryOf, reaches } from './key-order.ts'
import type { AttachedNames, ExternalDescription, Scope } from './ports.ts'
import type { Answer, Reachable } from './reachable.ts'
import { Recent } from './recent.ts'

export interface FreshKeysParts {
  readonly names: Pick<AttachedNames, 'covered' | 'mergeOne' | 'dirtyState' | 'revision'>
  /** Which keys the mirror names. */
  readonly mirror: {
    presence(
      bucket: string,
      keys: readonly string[],
      leading: boolean,
    ): Promise<{ readonly present: readonly boolean[] }>
  }
  readonly reachable: Reachable
  readonly clock: Clock
}

interface Seen {
  /** On the monotonic clock; `-Infinity`: it has changed since. */
  readonly atMs: number
  readonly described: boolean
}

interface Flight {
  readonly done: Promise<void>
  /** What was remembered when it began: if that is something else by now, somebody knows better. */
  readonly before: Seen | undefined
}

export interface LookOptions {
  /** Also what a listing does not say: content type, user metadata. */
  readonly described: boolean
}

const SEEN_MAX = 65_536
const LOOKS_AT_ONCE = 32
/** The first may be too late to be believed. */
const TRIES_MAX = 2

export class FreshKeys {
  readonly #parts: FreshKeysParts
  readonly #seen = new Recent<string, Seen>(SEEN_MAX)
  readonly #flights = new Map<string, Flight>()
  looks = 0
  stale = 0

  constructor(parts: FreshKeysParts) {
    this.#parts = parts
  }

  /** @throws Unavailable when the external store does not answer and nothing is known of the key */
  async ensure(attached: Attached, key: string, { described }: LookOptions): Promise<void> {
    const { bucketId, ttlMs } = attached.record
    const seen = this.#seen.get(nameOf(bucketId, key))
    if (seen && this.#isFresh(seen, ttlMs) && (seen.described || !described)) return
    const isSuspect = seen !== undefined && seen.atMs === -Infinity
    if (!described && !isSuspect && (await this.#isCovered(attached, key, this.#parts.clock.nowMs() - ttlMs))) return
    await this.look(attached, key)
  }

  /** A bounded number at a time. */
  async ensureAll(attached: Attached, keys: Iterable<string>, options: LookOptions): Promise<void> {
    const left = new Set(keys).values()
    const next = async (): Promise<void> => {
      for (const key of left) await this.ensure(attached, key, options)
    }
    const outcomes = await Promise.allSettled(Array.from({ length: LOOKS_AT_ONCE }, next))
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
  }

  /** Looks whatever is known, together with others who do. */
  async look(attached: Attached, key: string): Promise<void> {
    const name = nameOf(attached.record.bucketId, key)
    const before = this.#seen.get(name)
    const flight = this.#flights.get(name)
    if (flight && flight.before === before && attached.record.ttlMs > 0) return await flight.done
    const done = this.#look(attached, key, before)
    const own = { done, before }
    this.#flights.set(name, own)
    try {
      await done
    } finally {
      if (this.#flights.get(name) === own) this.#flights.delete(name)
    }
  }

  /** It has changed outside: what is known of it counts no more, whatever a listing said. */
  forget(bucketId: number, key: string): void {
    this.#seen.set(nameOf(bucketId, key), { atMs: -Infinity, described: false })
  }

  /** What lies outside has been told to the mirror just now. */
  saw(bucketId: number, key: string): void {
    this.#seen.set(nameOf(bucketId, key), { atMs: this.#parts.clock.monotonicMs(), described: true })
  }

  /** Only what the mirror has and is the same outside: what has changed there is left to who looks. */
  async describe(attached: Attached, { key, etag }: { readonly key: string; readonly etag: string }): Promise<void> {
    const { bucketId } = attached.record
    const askedAt = this.#parts.names.revision()
    const answer = await this.#head(attached, key)
    if ('down' in answer) this.stale++
    else if (answer.value?.etag !== etag) this.forget(bucketId, key)
    else await this.#parts.names.mergeOne({ bucketId, key, found: answer.value, askedAt })
  }

  async #look(attached: Attached, key: string, before: Seen | undefined): Promise<void> {
    // Nothing can lie outside there, and a store that is asked all the same refuses.
    if (Buffer.byteLength(key) > KEY_BYTES_MAX) return
    for (let tries = 1; tries <= TRIES_MAX; tries++) if (await this.#lookOnce(attached, key, before)) return
  }

  /** False when what was seen was not believed, since too much came into step while the look was on its way: then it is not remembered either. */
  async #lookOnce(attached: Attached, key: string, before: Seen | undefined): Promise<boolean> {
    const { names, clock } = this.#parts
    const { bucketId } = attached.record
    const askedAt = names.revision()
    const atMs = clock.monotonicMs()
    // Dirty wins: what lies outside would not be taken over, and is found out when ours is carried out.
    if (await names.dirtyState(bucketId, key)) return true
    const answer = await this.#head(attached, key)
    if ('down' in answer) {
      if (!(await this.#isKnown(attached, key, before))) throw answer.down
      this.stale++
      return true
    }
    const found = answer.value
    const { value: merged } = await names.mergeOne({ bucketId, key, found, askedAt })
    if (merged === 'late') return false
    // What is kept here counts until it is carried out; then what was seen would be too old.
    if (merged === 'kept') return true
    const name = nameOf(bucketId, key)
    if (this.#seen.get(name) === before) this.#seen.set(name, { atMs, described: true })
    return true
  }

  async #head(attached: Attached, key: string): Promise<Answer<ExternalDescription | undefined>> {
    this.looks++
    return await this.#parts.reachable.ask(attached, () => attached.external.head(key))
  }

  #isFresh({ atMs }: Seen, ttlMs: number): boolean {
    return this.#parts.clock.monotonicMs() - atMs < ttlMs
  }

  /** Whether anything was ever told of it, if only that it is not there. */
  async #isKnown(attached: Attached, key: string, before: Seen | undefined): Promise<boolean> {
    if (before || (await this.#isCovered(attached, key, 0))) return true
    return await this.#isNamed(attached, key)
  }

  async #isNamed({ record }: Attached, key: string): Promise<boolean> {
    return (await this.#parts.mirror.presence(record.bucket, [key], false)).present[0] === true
  }

  async #isCovered({ record }: Attached, key: string, sinceMs: number): Promise<boolean> {
    const scope: Scope = { kind: 'shallow', directory: directoryOf(key) }
    const covered = await this.#parts.names.covered(record.bucketId, scope, key, sinceMs)
    return covered?.through !== undefined && reaches(covered.through, key)
  }
}

function nameOf(bucketId: number, key: string): string {
  return `${bucketId} ${key}`
}
