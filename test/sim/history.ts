/**
 * What was written to each key, and so what may be found there. Values are whole bodies; undefined is "no object".
 *
 * A state is allowed when some write may have left it: one that did not fail, began before the state was seen, and was not
 * followed by a write that was acknowledged durably, began after it had ended and ended before the state was looked for.
 * Writes acknowledged at level `memory` may be lost, so they supersede nothing, but they are never torn.
 *
 * A value with a time to live is allowed until it ends and "no object" from then on, whatever was lost meanwhile.
 */
import { createHash } from 'node:crypto'

export type Value = Buffer | undefined

export interface Write {
  readonly value: Value
  readonly what: string
  readonly begun: number
  ended: number
  outcome: 'pending' | 'acknowledged' | 'failed'
  readonly durable: boolean
  /** When it expires, as far as that is known; undefined: never. */
  expires: Expiry | undefined
}

/** Not before `fromMs`, and by `toMs` at the latest. */
export interface Expiry {
  readonly fromMs: number
  readonly toMs: number
}

export interface Place {
  readonly bucket: string
  readonly key: string
}

export interface KnownVersion extends Place {
  readonly versionId: string
  readonly value: Buffer
  /** A delete that named it has begun. */
  removed: boolean
}

/** When it was looked: by stamps, and by the clock. */
export interface Look {
  readonly from: number
  readonly to: number
  readonly fromMs: number
  readonly toMs: number
}

/** Two histories may be told apart only by the order of these. */
export class Stamps {
  #last = 0

  next(): number {
    return ++this.#last
  }
}

export class History {
  readonly stamps: Stamps = new Stamps()
  readonly places: readonly Place[]
  readonly versions: KnownVersion[] = []
  readonly #writes = new Map<string, Write[]>()

  /** `others` are kept account of like `places`, and left to those who know of them. */
  constructor(places: readonly Place[], others: readonly Place[] = []) {
    this.places = places
    for (const place of [...places, ...others]) {
      this.#writes.set(placeName(place), [])
      this.found(place, undefined)
    }
  }

  begin(place: Place, write: { value: Value; what: string; durable: boolean; expires?: Expiry | undefined }): Write {
    const { expires } = write
    const begun: Write = { ...write, expires, begun: this.stamps.next(), ended: Infinity, outcome: 'pending' }
    this.#of(place).push(begun)
    return begun
  }

  end(write: Write, outcome: 'acknowledged' | 'failed'): void {
    write.ended = this.stamps.next()
    write.outcome = outcome
  }

  /** After a crash: this is the state, whatever was written before. */
  found(place: Place, value: Value, expiresMs?: number): void {
    const writes = this.#of(place)
    const base: Write = {
      value,
      what: 'found',
      begun: this.stamps.next(),
      ended: 0,
      outcome: 'acknowledged',
      durable: true,
      expires: expiresMs === undefined ? undefined : { fromMs: expiresMs, toMs: expiresMs },
    }
    base.ended = this.stamps.next()
    writes.splice(0, writes.length, base)
  }

  /** Undefined when the state is allowed, else what is wrong. */
  judge(place: Place, seen: Value, looked: Look): string | undefined {
    const writes = this.#of(place).filter((write) => write.begun < looked.to)
    const superseding = writes.filter(
      (write) => write.durable && write.outcome === 'acknowledged' && write.ended < looked.from,
    )
    const newest = superseding.reduce((latest, write) => Math.max(latest, write.begun), 0)
    const candidates = writes.filter((write) => {
      if (write.outcome === 'failed' && write.ended < looked.from) return false
      return write.ended >= newest
    })
    if (candidates.some((write) => mayHaveLeft(write, seen, looked))) return undefined
    const origin = writes.find((write) => same(write.value, seen))
    const allowed = candidates
      .map((write) => `${write.what} (${describe(write.value)}, ${write.outcome}${expiryOf(write)})`)
      .join('; ')
    const reason = origin
      ? `is what ${origin.what} (${origin.outcome}) left, which was superseded`
      : 'was never written'
    return `${placeName(place)}: ${describe(seen)} ${reason} at ${looked.fromMs}..${looked.toMs}; allowed: ${allowed}`
  }

  #of(place: Place): Write[] {
    return this.#writes.get(placeName(place)) as Write[]
  }
}

function mayHaveLeft({ value, expires }: Write, seen: Value, { fromMs, toMs }: Look): boolean {
  if (seen === undefined && expires && expires.fromMs <= toMs) return true
  return same(value, seen) && (seen === undefined || expires === undefined || fromMs < expires.toMs)
}

function same(one: Value, other: Value): boolean {
  return one === undefined || other === undefined ? one === other : one.equals(other)
}

function expiryOf({ expires }: Write): string {
  return expires ? `, expires ${expires.fromMs}..${expires.toMs}` : ''
}

function describe(value: Value): string {
  return value === undefined
    ? 'nothing'
    : `${value.length} bytes ${createHash('md5').update(value).digest('hex').slice(0, 8)}`
}

export function placeName({ bucket, key }: Place): string {
  return `${bucket}/${key}`
}
