/** Reads what another node has lent, and gives it back: word of it goes out together with that of others, since nobody waits for it. */
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { NodeCalls } from '../../common/node-calls.ts'
import { unavailableNode } from '../failures.ts'
import type { FabricLimits } from './limits.ts'
import type { Place } from './memory.ts'
import { encodeLeases, type LeaseTold } from './messages.ts'
import type { Agreed, Pair } from './pair.ts'
import { FabricFailure } from './ports.ts'

/** So many that have been read are told of at once, or fewer at the end of this turn. */
const DONE_MAX = 64
const DONE_MS = 5_000

export interface Borrowed {
  readonly pair: Pair
  readonly agreed: Agreed
  readonly lease: LeaseTold
  readonly into: Uint8Array
  /** Where `into` lies. */
  readonly place: Place
  /** When the call was sent, and when it must have settled. */
  readonly sentMs: number
  readonly endMs: number
  readonly signal: AbortSignal | undefined
}

export interface BorrowerOptions {
  readonly inner: Pick<NodeCalls, 'call'>
  readonly clock: Clock
  readonly limits: Pick<FabricLimits, 'transferMs'>
}

export class Borrower {
  readonly #options: BorrowerOptions
  readonly #done = new Map<number, number[]>()

  constructor(options: BorrowerOptions) {
    this.#options = options
  }

  /** The body, in `into`. @throws Unavailable */
  async bring(borrowed: Borrowed): Promise<Uint8Array> {
    const { pair, lease, into } = borrowed
    const { node } = pair
    const bytes = lease.pieces.reduce((sum, piece) => sum + piece.bytes, 0)
    if (bytes > into.length) {
      this.#giveBack(node, lease.id)
      throw unavailableNode(node, `it answered with ${bytes} bytes, which is too many`)
    }
    const failure = await this.#read(borrowed)
    if (borrowed.signal?.aborted === true) {
      this.#giveBack(node, lease.id)
      throw unavailableNode(node, 'the call was given up', borrowed.signal.reason)
    }
    if (failure !== undefined) return await this.#byConnection(borrowed, bytes)
    this.#giveBack(node, lease.id)
    pair.tally.reads++
    pair.tally.bytesRead += bytes
    return into.subarray(0, bytes)
  }

  /** Nothing is under way when it resolves, with why it was not read. */
  async #read({ pair, agreed, lease, place, sentMs, endMs }: Borrowed): Promise<string | undefined> {
    const { clock, limits } = this.#options
    const nowMs = clock.monotonicMs()
    const leaseEndMs = sentMs + lease.leaseMs
    // Half of what is left, so that the connection has the other half.
    const deadlineMs = Math.min(leaseEndMs, nowMs + Math.min(limits.transferMs, (endMs - nowMs) / 2))
    const { region } = place
    let { offset } = place
    const parts: Promise<void>[] = []
    for (const { key, address, bytes } of lease.pieces) {
      if (bytes === 0) continue
      parts.push(
        agreed.operations.transfer({ kind: 'read', region, offset, bytes, remote: { key, address }, deadlineMs }),
      )
      offset += bytes
    }
    const ended = parts.length === 1 ? await settled(parts[0]) : await Promise.all(parts.map(settled))
    const failures = (Array.isArray(ended) ? ended : [ended]).filter((one) => one !== undefined)
    for (const failure of failures) {
      if (!(failure instanceof FabricFailure)) throw failure
      if (failure.kind !== 'late') pair.fail(agreed, failure.message)
    }
    if (failures.length > 0) return 'it was not read'
    // The owner may have used the memory again: even if it fits its checksum it is not what was asked for (C33).
    return clock.monotonicMs() > leaseEndMs ? 'it was read after the lease' : undefined
  }

  async #byConnection({ pair, lease, into, endMs, signal }: Borrowed, bytes: number): Promise<Uint8Array> {
    const { inner, clock } = this.#options
    const timeoutMs = endMs - clock.monotonicMs()
    if (timeoutMs <= 0) {
      this.#giveBack(pair.node, lease.id)
      throw unavailableNode(pair.node, 'reading from its memory took the time of the call')
    }
    const call = { method: 'fabric-bring', head: encodeLeases([lease.id]) } as const
    const { body } = await inner.call(pair.node, call, { timeoutMs, signal, into })
    if (body.length !== bytes) throw unavailableNode(pair.node, `it lent ${bytes} bytes, and brought ${body.length}`)
    return body
  }

  #giveBack(node: number, id: number): void {
    const ids = this.#done.get(node)
    if (ids === undefined) {
      this.#done.set(node, [id])
      setImmediate(() => this.#tell(node))
    } else {
      ids.push(id)
      if (ids.length >= DONE_MAX) this.#tell(node)
    }
  }

  /** What does not get there ends with its lease. */
  #tell(node: number): void {
    const ids = this.#done.get(node)
    this.#done.delete(node)
    if (ids === undefined) return
    const call = { method: 'fabric-done', head: encodeLeases(ids) } as const
    this.#options.inner.call(node, call, { timeoutMs: DONE_MS }).catch((error: unknown) => {
      if (!(error instanceof TidegateError)) throw error
    })
  }
}

function settled(part: Promise<void> | undefined): Promise<unknown> {
  return part === undefined
    ? Promise.resolve(undefined)
    : part.then(
        () => undefined,
        (error: unknown) => error,
      )
}
