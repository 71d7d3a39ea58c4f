/** Moves the same bytes by the connection and by the fabric, for line.ts: from the other node, where both must bring the same, and to it. */
import { timingSafeEqual } from 'node:crypto'
import type { Clock } from '../../common/clock.ts'
import type { NodeCalls } from '../../common/node-calls.ts'
import type { FabricLimits } from './limits.ts'
import { measureLine, PROBE_BYTES_MAX, PROBES_AT_ONCE, type ProbeWay } from './line.ts'
import { fixedMemory } from './memory.ts'
import { decodeLease, encodeProbe, type GrantTold } from './messages.ts'
import type { Operations } from './operations.ts'
import { FabricFailure, type FabricDevice, type Region } from './ports.ts'
import type { Ranges } from './ranges.ts'

export interface ProberOptions {
  readonly node: number
  readonly inner: Pick<NodeCalls, 'call'>
  readonly device: Pick<FabricDevice, 'register'>
  readonly limits: Pick<FabricLimits, 'agreeMs' | 'transferMs' | 'lineBytes' | 'lineBytesMax'>
  readonly clock: Clock
  readonly agreement: bigint
  readonly operations: Pick<Operations, 'transfer'>
}

export class Prober {
  readonly #options: ProberOptions
  readonly #region: Region
  readonly #expected = new Uint8Array(PROBE_BYTES_MAX)

  /** @throws FabricFailure */
  constructor(options: ProberOptions) {
    this.#options = options
    this.#region = options.device.register(fixedMemory(PROBES_AT_ONCE * PROBE_BYTES_MAX), 'none')
  }

  /** From how many bytes on the fabric is to be used; what is known already is not measured. @throws FabricFailure, TidegateError: it cannot be */
  async line(known: number | undefined): Promise<number> {
    const { lineBytes = known, lineBytesMax } = this.#options.limits
    await this.#verify()
    if (lineBytes !== undefined) return lineBytes
    return Math.min(lineBytesMax, await measureLine((bytes, way) => this.#probe(bytes, way)))
  }

  /** Nothing is under way any more: after a failure, once the channel is closed. Safe to repeat. */
  close(): void {
    this.#region.close()
  }

  async #verify(): Promise<void> {
    await this.#inReply(PROBE_BYTES_MAX, this.#expected)
    const { memory } = this.#region
    memory.fill(0)
    await this.#lent(PROBE_BYTES_MAX, 0)
    if (!timingSafeEqual(memory.subarray(0, PROBE_BYTES_MAX), this.#expected))
      throw new FabricFailure('failed', 'what was read by the fabric is not what lies there')
  }

  #probe(bytes: number, way: ProbeWay): Promise<number> {
    return timed(this.#options.clock, (offset) => {
      if (way === 'fabric') return this.#lent(bytes, offset)
      return this.#inReply(bytes, this.#region.memory.subarray(offset, offset + bytes))
    })
  }

  async #inReply(bytes: number, into: Uint8Array): Promise<void> {
    const { node, inner, limits, agreement } = this.#options
    const head = encodeProbe({ agreement, bytes, how: 'in the reply', offset: 0 })
    const { body } = await inner.call(node, { method: 'fabric-probe', head }, { timeoutMs: limits.agreeMs, into })
    if (body.length !== bytes) throw new FabricFailure('failed', 'a probe of another length')
  }

  async #lent(bytes: number, offset: number): Promise<void> {
    const { node, inner, limits, clock, agreement, operations } = this.#options
    const head = encodeProbe({ agreement, bytes, how: 'lent', offset: 0 })
    const reply = await inner.call(node, { method: 'fabric-probe', head }, { timeoutMs: limits.agreeMs })
    const [piece, ...more] = decodeLease(reply.head).pieces
    if (piece?.bytes !== bytes || more.length > 0) throw new FabricFailure('failed', 'a probe of another length')
    const deadlineMs = clock.monotonicMs() + limits.transferMs
    await operations.transfer({ kind: 'read', region: this.#region, offset, bytes, remote: piece, deadlineMs })
  }
}

export interface WriteProberOptions extends ProberOptions {
  readonly remote: GrantTold
  /** As long as what is granted. */
  readonly staging: Region
  /** Of both. */
  readonly ranges: Ranges
}

/**
 * From how many bytes on a request's body is written to the grant rather than sent with the call. Undefined: there is no room to measure it now.
 * @throws FabricFailure, TidegateError
 */
export async function measureWrites(options: WriteProberOptions): Promise<number | undefined> {
  const { ranges, limits } = options
  if (limits.lineBytes !== undefined) return limits.lineBytes
  const from = ranges.take(PROBES_AT_ONCE * PROBE_BYTES_MAX)
  if (from === undefined) return undefined
  try {
    return Math.min(limits.lineBytesMax, await writeLine(options, from))
  } finally {
    // Nothing of it is under way, and what the other node may still copy out of it is nobody's.
    ranges.give(from)
  }
}

async function writeLine(options: WriteProberOptions, from: number): Promise<number> {
  const { clock } = options
  // The bytes lie elsewhere, as those of requests do.
  const body = new Uint8Array(PROBE_BYTES_MAX)
  return await measureLine((bytes, way) =>
    timed(clock, (offset) => {
      const piece = body.subarray(0, bytes)
      return way === 'fabric' ? written(options, piece, from + offset) : inCall(options, piece)
    }),
  )
}

async function inCall({ node, inner, limits, agreement }: WriteProberOptions, body: Uint8Array): Promise<void> {
  const head = encodeProbe({ agreement, bytes: body.length, how: 'in the call', offset: 0 })
  await inner.call(node, { method: 'fabric-probe', head, pieces: [body] }, { timeoutMs: limits.agreeMs })
}

async function written(options: WriteProberOptions, body: Uint8Array, offset: number): Promise<void> {
  const { node, inner, limits, clock, agreement, operations, remote, staging: region } = options
  const bytes = body.length
  region.memory.set(body, offset)
  const there = { key: remote.key, address: remote.address + BigInt(offset) }
  const deadlineMs = clock.monotonicMs() + limits.transferMs
  await operations.transfer({ kind: 'write', region, offset, bytes, remote: there, deadlineMs })
  const head = encodeProbe({ agreement, bytes, how: 'written', offset })
  await inner.call(node, { method: 'fabric-probe', head }, { timeoutMs: limits.agreeMs })
}

/** Milliseconds that so many take which are moved at once, each to a place of its own. */
async function timed(clock: Clock, move: (offset: number) => Promise<void>): Promise<number> {
  const beganMs = clock.monotonicMs()
  const all = Array.from({ length: PROBES_AT_ONCE }, (_, index) => move(index * PROBE_BYTES_MAX))
  // All of them, since their memory is used until then.
  for (const one of await Promise.allSettled(all)) if (one.status === 'rejected') throw one.reason
  return clock.monotonicMs() - beganMs
}
