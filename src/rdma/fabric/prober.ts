/** Brings the same bytes in the reply and by a read of the other node's memory, for line.ts: what both bring must be the same. */
import { timingSafeEqual } from 'node:crypto'
import type { Clock } from '../../common/clock.ts'
import type { NodeCalls } from '../../common/node-calls.ts'
import type { FabricLimits } from './limits.ts'
import { measureLine, PROBE_BYTES_MAX, PROBES_AT_ONCE, type ProbeWay } from './line.ts'
import { decodeLease, encodeProbe } from './messages.ts'
import type { Operations } from './operations.ts'
import { FabricFailure, type FabricDevice, type Region } from './ports.ts'

export interface ProberOptions {
  readonly node: number
  readonly inner: Pick<NodeCalls, 'call'>
  readonly device: Pick<FabricDevice, 'register'>
  readonly limits: Pick<FabricLimits, 'agreeMs' | 'transferMs' | 'lineBytes' | 'lineBytesMax'>
  readonly clock: Clock
  readonly agreement: bigint
  readonly operations: Operations
}

export class Prober {
  readonly #options: ProberOptions
  readonly #region: Region
  readonly #expected = new Uint8Array(PROBE_BYTES_MAX)

  /** @throws FabricFailure */
  constructor(options: ProberOptions) {
    this.#options = options
    this.#region = options.device.register(new Uint8Array(PROBES_AT_ONCE * PROBE_BYTES_MAX), 'none')
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

  async #probe(bytes: number, way: ProbeWay): Promise<number> {
    const { clock } = this.#options
    const beganMs = clock.monotonicMs()
    const all = Array.from({ length: PROBES_AT_ONCE }, (_, index) => {
      const offset = index * PROBE_BYTES_MAX
      const into = this.#region.memory.subarray(offset, offset + bytes)
      return way === 'lent' ? this.#lent(bytes, offset) : this.#inReply(bytes, into)
    })
    // All of them, since their memory is used until then.
    for (const one of await Promise.allSettled(all)) if (one.status === 'rejected') throw one.reason
    return clock.monotonicMs() - beganMs
  }

  async #inReply(bytes: number, into: Uint8Array): Promise<void> {
    const { node, inner, limits, agreement } = this.#options
    const head = encodeProbe({ agreement, bytes, how: 'in the reply' })
    const { body } = await inner.call(node, { method: 'fabric-probe', head }, { timeoutMs: limits.agreeMs, into })
    if (body.length !== bytes) throw new FabricFailure('failed', 'a probe of another length')
  }

  async #lent(bytes: number, offset: number): Promise<void> {
    const { node, inner, limits, clock, agreement, operations } = this.#options
    const head = encodeProbe({ agreement, bytes, how: 'lent' })
    const reply = await inner.call(node, { method: 'fabric-probe', head }, { timeoutMs: limits.agreeMs })
    const [piece, ...more] = decodeLease(reply.head).pieces
    if (piece?.bytes !== bytes || more.length > 0) throw new FabricFailure('failed', 'a probe of another length')
    const deadlineMs = clock.monotonicMs() + limits.transferMs
    await operations.transfer({ kind: 'read', region: this.#region, offset, bytes, remote: piece, deadlineMs })
  }
}
