/**
 * What this node has lent: pieces of answers that lie in its memory, for the node that asked to read by itself. Until a lease ends nobody uses that memory again (C13): the pieces' `sent` is called when the reader says that it has done, or
 * when the lease and a margin have passed, and not sooner, also when the reader or its connection is gone: its reads may still be under way.
 *
 * What one node may hold is bounded; beyond that its answers go by the connection.
 */
import type { Clock } from '../../common/clock.ts'
import type { NodeAnswer } from '../../common/node-calls.ts'
import type { FabricLimits } from './limits.ts'
import type { KnownMemory } from './memory.ts'
import { PIECES_MAX, type LeaseTold, type LentPiece } from './messages.ts'

const NOTHING: readonly Uint8Array[] = []

interface Lease {
  readonly to: number
  readonly pieces: readonly Uint8Array[]
  readonly bytes: number
  readonly sent: (() => void) | undefined
  readonly endsMs: number
}

export interface LeasesOptions {
  readonly memory: Pick<KnownMemory, 'find'>
  readonly clock: Clock
  readonly fillRandom: (bytes: Uint8Array) => void
  readonly limits: Pick<FabricLimits, 'leaseMs' | 'leaseMarginMs' | 'lentBytesMax'>
}

export class Leases {
  readonly #options: LeasesOptions
  /** By id, the oldest first: all last as long. */
  readonly #leases = new Map<number, Lease>()
  readonly #bytesOf = new Map<number, number>()
  /** What this node lent before it was started again has other numbers: word of that may still be on its way. */
  #lastId: number
  #timer: NodeJS.Timeout | undefined

  constructor(options: LeasesOptions) {
    this.#options = options
    const first = Buffer.alloc(4)
    options.fillRandom(first)
    this.#lastId = first.readUInt32BE()
  }

  get size(): number {
    return this.#leases.size
  }

  /** Undefined: it has to go by the connection, and nothing is held. */
  lend(to: number, { pieces = NOTHING, sent }: NodeAnswer): LeaseTold | undefined {
    const { memory, clock, limits } = this.#options
    const bytes = bytesOf(pieces)
    const held = this.#bytesOf.get(to) ?? 0
    if (bytes === 0 || pieces.length > PIECES_MAX || held + bytes > limits.lentBytesMax) return undefined
    const told: LentPiece[] = []
    for (const piece of pieces) {
      const place = memory.find(piece)
      if (place === undefined) return undefined
      const { key, address } = place.region
      told.push({ key, address: address + BigInt(place.offset), bytes: piece.length })
    }
    const id = this.#nextId()
    const endsMs = clock.monotonicMs() + limits.leaseMs + limits.leaseMarginMs
    this.#leases.set(id, { to, pieces, bytes, sent, endsMs })
    this.#bytesOf.set(to, held + bytes)
    this.#timer ??= this.#endLater(limits.leaseMs + limits.leaseMarginMs)
    return { id, leaseMs: limits.leaseMs, pieces: told }
  }

  /** Returns how many bytes they were. Those of others, and those that have ended, are none. */
  done(to: number, ids: readonly number[]): number {
    let bytes = 0
    for (const id of ids) {
      const lease = this.#take(to, id)
      bytes += lease?.bytes ?? 0
      lease?.sent?.()
    }
    return bytes
  }

  /** What was lent, to be sent by the connection instead. Undefined: the lease has ended. */
  bring(to: number, id: number): Pick<NodeAnswer, 'pieces' | 'sent'> | undefined {
    return this.#take(to, id)
  }

  /** Nobody can read the memory any more. */
  stop(): void {
    clearTimeout(this.#timer)
    for (const [id, { to }] of this.#leases) this.done(to, [id])
  }

  #take(to: number, id: number): Lease | undefined {
    const lease = this.#leases.get(id)
    if (lease?.to !== to) return undefined
    this.#leases.delete(id)
    const held = (this.#bytesOf.get(to) ?? 0) - lease.bytes
    if (held > 0) this.#bytesOf.set(to, held)
    else this.#bytesOf.delete(to)
    return lease
  }

  #endLater(ms: number): NodeJS.Timeout {
    return setTimeout(() => this.#endOld(), ms).unref()
  }

  #endOld(): void {
    const nowMs = this.#options.clock.monotonicMs()
    this.#timer = undefined
    for (const [id, { to, endsMs }] of this.#leases) {
      if (endsMs > nowMs) {
        this.#timer = this.#endLater(Math.ceil(endsMs - nowMs))
        return
      }
      this.done(to, [id])
    }
  }

  #nextId(): number {
    do this.#lastId = this.#lastId === 0xffff_ffff ? 1 : this.#lastId + 1
    while (this.#leases.has(this.#lastId))
    return this.#lastId
  }
}

export function bytesOf(pieces: readonly Uint8Array[]): number {
  let bytes = 0
  for (const piece of pieces) bytes += piece.length
  return bytes
}
