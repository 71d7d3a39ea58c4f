/**
 * Notifications that something changed outside. They come in any order, more than once, late, and of our own writes too: so one says no more than "look again at
 * this key". What is known of the key counts no more at once, and it is looked at soon, so that listings and watchers hear of it.
 *
 * Keys wait in a queue, each once. When it is full, what is told is not looked at: what was listed of where it lies counts no more instead, and
 * whoever lists there next asks the store.
 */
import type { Attached, AttachedBuckets } from './attached.ts'
import { readEvents } from './event-messages.ts'
import { directoryOf } from './key-order.ts'
import type { ExternalPlace } from './external-places.ts'
import type { AttachedNames } from './ports.ts'

export interface EventsParts {
  readonly attached: AttachedBuckets
  readonly names: Pick<AttachedNames, 'uncover'>
  readonly freshness: {
    forget(bucketId: number, key: string): void
    look(attached: Attached, key: string): Promise<void>
  }
  readonly onFailure: (doing: string, cause: unknown) => void
}

export interface Notified {
  /** Events that name a key of the attached bucket. */
  readonly taken: number
  /** Of another bucket, or outside its prefix. */
  readonly ignored: number
  /** No events of objects. */
  readonly unread: number
}

export interface EventsStatus extends Notified {
  /** Events that were not looked at by themselves, since too many came at once. */
  readonly overflowed: number
  readonly waiting: number
}

interface Counts {
  taken: number
  ignored: number
  unread: number
  overflowed: number
}

const QUEUE_KEYS_MAX = 10_000
const LOOKS_AT_ONCE = 8

export class Events {
  readonly #parts: EventsParts
  readonly #keysMax: number
  readonly #counts = new Map<number, Counts>()
  /** Bucket ids and keys, in the order in which they came. */
  readonly #queue = new Map<string, { readonly bucketId: number; readonly key: string }>()
  /** Prefixes that count no more once it is told to metadata; all of a bucket as one. */
  readonly #uncovering = new Map<number, string>()
  readonly #looking = new Set<Promise<void>>()
  #isStopped = false

  constructor(parts: EventsParts, { keysMax = QUEUE_KEYS_MAX }: { readonly keysMax?: number } = {}) {
    this.#parts = parts
    this.#keysMax = keysMax
  }

  /** `message`: parsed JSON of whatever shape. */
  notify(attached: Attached & { readonly place: ExternalPlace }, message: unknown): Notified {
    const { place, record } = attached
    const { events, unread } = readEvents(message)
    const base = place.prefix === '' ? '' : `${place.prefix}/`
    const keys = events
      .filter(({ bucket, key }) => bucket === place.bucket && key.startsWith(base) && key !== base)
      .map(({ key }) => key.slice(base.length))
    const counts = this.#countsOf(record.bucketId)
    counts.taken += keys.length
    counts.ignored += events.length - keys.length
    counts.unread += unread
    for (const key of keys) this.#add(record.bucketId, key)
    this.#work()
    return { taken: keys.length, ignored: events.length - keys.length, unread }
  }

  status(bucketId: number): EventsStatus {
    const waiting = [...this.#queue.values()].filter((one) => one.bucketId === bucketId).length
    return { ...this.#countsOf(bucketId), waiting }
  }

  /** The bucket is detached. */
  forget(bucketId: number): void {
    this.#counts.delete(bucketId)
    this.#uncovering.delete(bucketId)
    for (const [name, waiting] of this.#queue) if (waiting.bucketId === bucketId) this.#queue.delete(name)
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#queue.clear()
    this.#uncovering.clear()
    await Promise.all(this.#looking)
  }

  #add(bucketId: number, key: string): void {
    this.#parts.freshness.forget(bucketId, key)
    const name = `${bucketId} ${key}`
    if (this.#queue.has(name)) return
    if (this.#queue.size < this.#keysMax) return void this.#queue.set(name, { bucketId, key })
    this.#countsOf(bucketId).overflowed++
    const known = this.#uncovering.get(bucketId)
    this.#uncovering.set(bucketId, known === undefined ? directoryOf(key) : directoryOfBoth(known, key))
  }

  #work(): void {
    while (!this.#isStopped && this.#looking.size < LOOKS_AT_ONCE) {
      const next = this.#next()
      if (!next) return
      const looking = next().finally(() => {
        this.#looking.delete(looking)
        this.#work()
      })
      this.#looking.add(looking)
    }
  }

  /** Never rejects: what fails is found by whoever asks for the key, who looks himself. */
  #next(): (() => Promise<void>) | undefined {
    const { names, attached, freshness, onFailure } = this.#parts
    for (const [bucketId, prefix] of this.#uncovering) {
      this.#uncovering.delete(bucketId)
      return async () => {
        try {
          await names.uncover(bucketId, prefix)
        } catch (cause) {
          onFailure(`noting that ${JSON.stringify(prefix)} changed outside`, cause)
        }
      }
    }
    for (const [name, { bucketId, key }] of this.#queue) {
      this.#queue.delete(name)
      const bucket = attached.ofId(bucketId)
      if (bucket) return async () => await freshness.look(bucket, key).catch(() => undefined)
    }
    return undefined
  }

  #countsOf(bucketId: number): Counts {
    const counts = this.#counts.get(bucketId) ?? { taken: 0, ignored: 0, unread: 0, overflowed: 0 }
    this.#counts.set(bucketId, counts)
    return counts
  }
}

/** The deepest directory that holds both. */
function directoryOfBoth(directory: string, key: string): string {
  let both = directory
  while (!key.startsWith(both)) both = directoryOf(both.slice(0, -1))
  return both
}
