/**
 * What a channel's operations need of policy: a transfer is split into operations that the device can carry out at once, so many operations and bytes are under way and the rest waits in order, what is `later`
 * is tried again, and each transfer has a deadline.
 *
 * **Late.** A transfer may pass its deadline because others are in its way, here and at the other end: that is `late` and says nothing of the channel. If nothing is under way the channel itself does not take it, as
 * when there is nobody at the other end: that is `failed`.
 *
 * **Memory.** A transfer's promise settles only when no operation of it is under way and none will be started: then its memory is its caller's again, however it ended. Past the deadline what was not started
 * never is; what is under way cannot be called back, so the channel has to be closed (`onStuck`), and the promise settles when that has ended it. After that nothing more is started here.
 *
 * **Cost.** Small reads pass here 150,000 times a second: one promise for each transfer, and no timer of its own. Deadlines are looked at every DEADLINE_TICK_MS while there are transfers, by one
 * wait that outlasts the last of them by a tick at most; what is held back is tried again every RETRY_MS, and after each operation that ends.
 */
import { assert } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { FabricFailure } from './ports.ts'
import type { Channel, Operation, Region, RemoteMemory } from './ports.ts'

const DEADLINE_TICK_MS = 20
const RETRY_MS = 1

export interface TransferWanted {
  readonly kind: 'read' | 'write'
  /** Of this node. */
  readonly region: Region
  /** Within the region. */
  readonly offset: number
  readonly bytes: number
  readonly remote: RemoteMemory
  /** Of the monotonic clock. */
  readonly deadlineMs: number
}

export interface OperationsOptions {
  readonly channel: Channel
  readonly operationBytesMax: number
  readonly clock: Clock
  /** Under way at once on this channel; more wait here in order. */
  readonly limits: { readonly operationsMax: number; readonly bytesMax: number }
  /** A transfer has passed its deadline with an operation under way: the channel is to be closed. Called once at most. */
  readonly onStuck: () => void
}

interface Transfer {
  readonly wanted: TransferWanted
  readonly resolve: () => void
  readonly reject: (failure: unknown) => void
  /** So many of its bytes have been started. */
  startedBytes: number
  underWay: number
  /** The first of them; nothing more is started then. */
  failure: unknown
}

export class Operations {
  readonly #channel: Channel
  readonly #clock: Clock
  readonly #operationsMax: number
  readonly #bytesMax: number
  /** One operation moves at most so many. */
  readonly #partBytesMax: number
  readonly #onStuck: () => void
  /** All that have not settled. */
  readonly #transfers = new Set<Transfer>()
  /** Those with bytes that were not started, in order. */
  readonly #waiting: Transfer[] = []
  #underWay = 0
  #bytesUnderWay = 0
  /** The first that waits was `later` when last tried. */
  #isHeldBack = false
  #isRetrying = false
  #isWatching = false
  #isStuck = false

  constructor({ channel, operationBytesMax, clock, limits, onStuck }: OperationsOptions) {
    assert(operationBytesMax > 0 && limits.operationsMax > 0 && limits.bytesMax > 0, 'something can be started')
    this.#channel = channel
    this.#clock = clock
    this.#operationsMax = limits.operationsMax
    this.#bytesMax = limits.bytesMax
    this.#partBytesMax = Math.min(operationBytesMax, limits.bytesMax)
    this.#onStuck = onStuck
  }

  get bytesUnderWay(): number {
    return this.#bytesUnderWay
  }

  /**
   * Started in the order of the calls; resolves when all of it has been moved.
   * Rejects FabricFailure, the first one, and never before its operations have ended or were never started: then its memory is the caller's again.
   */
  transfer(wanted: TransferWanted): Promise<void> {
    const { region, offset, bytes } = wanted
    assert(offset >= 0 && bytes > 0 && offset + bytes <= region.memory.length, 'a transfer is within its region')
    return new Promise((resolve, reject) => {
      const transfer: Transfer = { wanted, resolve, reject, startedBytes: 0, underWay: 0, failure: undefined }
      this.#transfers.add(transfer)
      this.#waiting.push(transfer)
      if (wanted.deadlineMs <= this.#clock.monotonicMs()) this.#fail(transfer, inTheWay())
      else if (!this.#isHeldBack) this.#startMore()
      if (!this.#isWatching) void this.#watch()
    })
  }

  #startMore(): void {
    if (this.#isStuck || this.#channel.isClosed) this.#cutOffWaiting()
    this.#isHeldBack = false
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const bytes = Math.min(next.wanted.bytes - next.startedBytes, this.#partBytesMax)
      if (this.#underWay >= this.#operationsMax || this.#bytesUnderWay + bytes > this.#bytesMax) return
      if (!this.#start(next, bytes)) return this.#holdBack()
    }
  }

  /** False: it is to be tried again. */
  #start(transfer: Transfer, bytes: number): boolean {
    try {
      if (this.#channel.start(this.#part(transfer, bytes)) === 'later') return false
    } catch (error) {
      this.#fail(transfer, error)
      return true
    }
    transfer.startedBytes += bytes
    transfer.underWay++
    this.#underWay++
    this.#bytesUnderWay += bytes
    if (transfer.startedBytes === transfer.wanted.bytes) this.#waiting.shift()
    return true
  }

  #part(transfer: Transfer, bytes: number): Operation {
    const { wanted, startedBytes } = transfer
    const { kind, region, remote } = wanted
    return {
      kind,
      region,
      offset: wanted.offset + startedBytes,
      bytes,
      remote: startedBytes === 0 ? remote : { key: remote.key, address: remote.address + BigInt(startedBytes) },
      ended: (failure) => this.#ended(transfer, bytes, failure),
    }
  }

  #ended(transfer: Transfer, bytes: number, failure: FabricFailure | undefined): void {
    transfer.underWay--
    this.#underWay--
    this.#bytesUnderWay -= bytes
    if (failure !== undefined) this.#fail(transfer, failure)
    else this.#settleIfEnded(transfer)
    if (this.#waiting.length > 0) this.#startMore()
  }

  /** What was not started never is. */
  #fail(transfer: Transfer, failure: unknown): void {
    transfer.failure ??= failure
    const at = this.#waiting.indexOf(transfer)
    if (at >= 0) this.#waiting.splice(at, 1)
    this.#settleIfEnded(transfer)
  }

  #settleIfEnded(transfer: Transfer): void {
    const { failure, wanted, startedBytes, underWay } = transfer
    if (underWay > 0 || (failure === undefined && startedBytes < wanted.bytes)) return
    this.#transfers.delete(transfer)
    if (failure === undefined) transfer.resolve()
    else transfer.reject(failure)
  }

  #cutOffWaiting(): void {
    for (const transfer of this.#waiting.slice()) {
      this.#fail(transfer, new FabricFailure('cut off', 'the channel was closed'))
    }
  }

  #holdBack(): void {
    this.#isHeldBack = true
    if (!this.#isRetrying) void this.#retry()
  }

  /** A peer that is dead is `later` for ever: that ends with the deadlines. */
  async #retry(): Promise<void> {
    this.#isRetrying = true
    this.#channel.hurry(true)
    while (this.#isHeldBack) {
      await this.#clock.sleep(RETRY_MS)
      if (this.#isHeldBack) this.#startMore()
    }
    this.#isRetrying = false
    if (!this.#channel.isClosed) this.#channel.hurry(false)
  }

  async #watch(): Promise<void> {
    this.#isWatching = true
    while (this.#transfers.size > 0) {
      await this.#clock.sleep(DEADLINE_TICK_MS)
      this.#lookAtDeadlines(this.#clock.monotonicMs())
    }
    this.#isWatching = false
  }

  #lookAtDeadlines(nowMs: number): void {
    let isStuck = false
    for (const transfer of this.#transfers) {
      if (transfer.wanted.deadlineMs > nowMs) continue
      this.#fail(transfer, transfer.underWay === 0 && this.#underWay > 0 ? inTheWay() : notMoved())
      // Also one that has failed before, and waits for others of its operations.
      isStuck ||= transfer.underWay > 0
    }
    if (isStuck && !this.#isStuck) {
      this.#isStuck = true
      this.#onStuck()
    }
    // What waited behind those that were withdrawn.
    this.#startMore()
  }
}

function notMoved(): FabricFailure {
  return new FabricFailure('failed', 'it was not moved in time')
}

function inTheWay(): FabricFailure {
  return new FabricFailure('late', 'it was not moved in time, since others were')
}
