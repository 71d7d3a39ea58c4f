/**
 * The external bucket of a round: one that outlives all lives of the node, with another program that writes to it, and a client of it for each life, whose calls take
 * time, fail, lose their answers, and die with the life.
 *
 * It tells the ledger of all that happens there: what others did, what was shown to us, and what our writes replaced.
 */
import type { Expected, ExternalBucket } from '../../../src/attach/ports.ts'
import { TidegateError } from '../../../src/common/errors.ts'
import type { Random } from '../../model/random.ts'
import type { Scheduler } from '../../sim/scheduler.ts'
import { MemoryBucket } from '../../support/memory-bucket.ts'
import { fingerprint, type Ledger } from './ledger.ts'

export const PART_BYTES_MIN = 64
const LATENCY_MS_MAX = 3

export interface Weather {
  /** Chances of a call: to fail before it did anything, to do it and lose the answer, and to lose the answer and be sent again by the client itself. */
  failing: number
  lost: number
  resent: number
}

interface Lying {
  readonly etag: string
  readonly content: string
}

export class Outside {
  readonly bucket: MemoryBucket
  readonly weather: Weather = { failing: 0, lost: 0, resent: 0 }
  readonly #ledger: Ledger
  /** What lies at each key, as of the last change that was noticed. */
  readonly #lying = new Map<string, Lying>()

  constructor(ledger: Ledger, clock: Scheduler['clock']) {
    this.#ledger = ledger
    this.bucket = new MemoryBucket({ clock })
    this.bucket.partBytesMin = PART_BYTES_MIN
  }

  // ---- the other program

  put(key: string, bytes: Buffer, contentType: string): void {
    this.#notice(key)
    this.#ledger.writtenOutside(key, bytes, this.#lying.get(key)?.content)
    const etag = this.bucket.outsidePut(key, bytes, { headers: { contentType } })
    this.#lying.set(key, { etag, content: fingerprint(bytes) })
  }

  delete(key: string): void {
    this.#notice(key)
    this.#ledger.deletedOutside(key, this.#lying.get(key)?.content)
    this.bucket.outsideDelete(key)
    this.#lying.delete(key)
  }

  /** What we have done at the key since the last time; others' doings are noticed when they are done. */
  #notice(key: string): void {
    const before = this.#lying.get(key)
    const found = this.bucket.peek(key)
    if (found?.etag === before?.etag) return
    const after = found && { etag: found.etag, content: fingerprint(found.bytes) }
    if (after) this.#lying.set(key, after)
    else this.#lying.delete(key)
    this.#ledger.replacedByUs(key, before?.content, after?.content)
  }

  #show(key: string): void {
    const content = this.#lying.get(key)?.content
    if (content !== undefined) this.#ledger.shown(key, content)
  }

  // ---- our client

  client(scheduler: Scheduler, random: Random): ExternalBucket {
    const { bucket } = this
    const stopping = new AbortController()
    const call = async <T>(work: () => Promise<T>, resend?: () => Promise<T>): Promise<T> => {
      await scheduler.delay(random.next() * LATENCY_MS_MAX)
      if (stopping.signal.aborted || random.chance(this.weather.failing)) throw unavailable('nothing was done')
      let value = await work()
      if (resend && random.chance(this.weather.resent)) value = await resend()
      const isLost = random.chance(this.weather.lost)
      await scheduler.delay(random.next() * LATENCY_MS_MAX)
      if (isLost) throw unavailable('the answer was lost')
      return value
    }
    const write = async <T>(key: string, expected: Expected, work: () => Promise<T>): Promise<T> => {
      const noticing = async (): Promise<T> => {
        try {
          return await work()
        } finally {
          this.#notice(key)
        }
      }
      return await call(noticing, expected.kind === 'anything' ? undefined : noticing)
    }
    return {
      description: bucket.description,
      probe: () => bucket.probe(),
      list: (request) =>
        call(async () => {
          const page = await bucket.list({ ...request, signal: undefined })
          for (const { key } of page.objects) this.#show(key)
          return page
        }),
      head: (key) =>
        call(async () => {
          const found = await bucket.head(key)
          this.#show(key)
          return found
        }),
      read: (of, offset, into) => call(() => bucket.read(of, offset, into)),
      put: (key, source, options) => write(key, options.expected, () => bucket.put(key, source, unsignalled(options))),
      putInParts: (key, pieces, options) =>
        write(key, options.expected, () => bucket.putInParts(key, pieces, unsignalled(options))),
      copy: (from, key, options) => write(key, options.expected, () => bucket.copy(from, key, unsignalled(options))),
      remove: (key, expected) => write(key, expected, () => bucket.remove(key, expected)),
      tags: (key) => call(() => bucket.tags(key)),
      setTags: (key, tags) => call(() => bucket.setTags(key, tags)),
      stop: () => stopping.abort(),
    }
  }
}

/** A request that is on its way arrives, whoever has given up waiting for it. */
function unsignalled<T extends { readonly signal?: AbortSignal | undefined }>(options: T): T {
  return { ...options, signal: undefined }
}

function unavailable(what: string): TidegateError {
  return new TidegateError('Unavailable', `the external store does not answer: ${what}`)
}
