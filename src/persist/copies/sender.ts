/**
 * One segment on its way to its partner, while it is written here.
 *
 * Bytes are queued in the order of their positions and sent in calls of at most `CALL_BYTES_MAX`; what gathers while `CALLS_MAX` of them are under way goes with the
 * next. A call asks for a sync when somebody waits for what it brings, so all who wait share it: nobody waiting, nothing is synced. What is answered with a sync vouches for all before
 * it, since the holder carries the writes out in order.
 *
 * The first failure is the last: the copy is given up, and whoever waits is told. Nothing is sent twice, because it is not known what has been done with it.
 */
import { assert } from '../../common/assert.ts'
import { crc32 } from '../../common/crc32.ts'
import { TidegateError } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { NodeCalls } from '../../common/node-calls.ts'
import { encodeHead, type CopyMode } from './messages.ts'
import type { OutgoingCopy } from './ports.ts'

/** A call is answered within this, its sync on the other node's disk included, or the copy has failed. */
export const COPY_CALL_MS_MAX = 5000
const CALL_BYTES_MAX = 4 * 1024 * 1024
const CALLS_MAX = 4

interface Queued {
  readonly pieces: readonly Uint8Array[]
  readonly bytes: number
  readonly arrived: () => void
}

interface Waiting {
  readonly through: number
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export interface SenderOptions {
  readonly calls: Pick<NodeCalls, 'call'>
  readonly node: number
  readonly segment: SegmentId
  readonly mode: CopyMode
  /** Told once, of the failure that ended it. */
  readonly onFailure: (error: unknown) => void
}

export class CopySender implements OutgoingCopy {
  readonly node: number
  readonly segment: SegmentId
  readonly #options: SenderOptions
  readonly #giveUp = new AbortController()
  readonly #queue: Queued[] = []
  /** Sent, or on its way. */
  readonly #underWay = new Set<Promise<unknown>>()
  #waiting: Waiting[] = []
  #queuedTo = 0
  #sentTo = 0
  /** Up to where a sync was asked for by what was sent. */
  #syncSentTo = 0
  #durableTo = 0
  #failure: unknown
  #pumping = false
  #sealed: Promise<boolean> | undefined
  /** The last call is on its way: it syncs all, and nothing may come behind it. */
  #isSealSent = false
  #isGivenUp = false

  constructor(options: SenderOptions) {
    this.#options = options
    this.node = options.node
    this.segment = options.segment
  }

  get failed(): boolean {
    return this.#failure !== undefined
  }

  /** By this node: it says nothing of the other. */
  get isGivenUp(): boolean {
    return this.#isGivenUp
  }

  /** Written so far. */
  get bytes(): number {
    return this.#queuedTo
  }

  /** @throws what kept the partner from it */
  async open(): Promise<void> {
    const { segment, mode } = this.#options
    try {
      await this.#call('copy-open', { segment, mode }, [])
    } catch (error) {
      this.#fail(error)
      throw error
    }
  }

  write(pieces: readonly Uint8Array[]): Promise<void> {
    if (this.failed) return Promise.resolve()
    assert(this.#sealed === undefined, 'nothing is written to a copy that is being sealed')
    const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0)
    this.#queuedTo += bytes
    return new Promise((resolve) => {
      this.#queue.push({ pieces, bytes, arrived: resolve })
      this.#pumpSoon()
    })
  }

  sync(through: number): Promise<void> {
    if (this.#durableTo >= through) return Promise.resolve()
    if (this.failed) return Promise.reject(this.#failed())
    assert(through <= this.#queuedTo, 'only what was written can be synced')
    return new Promise((resolve, reject) => {
      this.#waiting.push({ through, resolve, reject })
      this.#pumpSoon()
    })
  }

  seal(footer: Uint8Array): Promise<boolean> {
    this.#sealed ??= this.#seal(footer).catch((error: unknown) => {
      this.#fail(error)
      return false
    })
    return this.#sealed
  }

  async #seal(footer: Uint8Array): Promise<boolean> {
    while (!this.failed && (this.#queue.length > 0 || this.#underWay.size > 0)) {
      this.#pump()
      await Promise.all(this.#underWay)
    }
    if (this.failed) return false
    const { segment, mode } = this.#options
    this.#isSealSent = true
    await this.#call('copy-seal', { segment, mode, position: this.#sentTo, crc: crc32(footer) }, [footer])
    this.#nowDurable(this.#sentTo)
    return true
  }

  async abandon(): Promise<void> {
    this.#isGivenUp ||= !this.failed
    this.#fail(new TidegateError('Unavailable', `the copy of segment ${this.segment} was given up`))
    await Promise.all(this.#underWay)
  }

  /** The node is gone: nobody needs to wait for the time-out. */
  nodeGone(): void {
    this.#fail(new TidegateError('Unavailable', `node ${this.node} is gone`, { details: { node: this.node } }))
  }

  /** Once in this turn of the event loop, so that what is appended together is sent together. */
  #pumpSoon(): void {
    if (this.#pumping) return
    this.#pumping = true
    setImmediate(() => {
      this.#pumping = false
      this.#pump()
    })
  }

  #pump(): void {
    while (!this.failed && this.#underWay.size < CALLS_MAX && this.#hasWork()) this.#sendNext()
  }

  #hasWork(): boolean {
    if (this.#queue.length > 0) return true
    return !this.#isSealSent && this.#isWaitedFor(this.#sentTo)
  }

  /** Whether somebody waits for a sync that covers no more than this and has not been asked for. */
  #isWaitedFor(to: number): boolean {
    return this.#waiting.some(({ through }) => through > this.#syncSentTo && through <= to)
  }

  #sendNext(): void {
    const position = this.#sentTo
    const batch: Queued[] = []
    let bytes = 0
    for (let next = this.#queue[0]; next && (bytes === 0 || bytes + next.bytes <= CALL_BYTES_MAX);) {
      batch.push(next)
      bytes += next.bytes
      this.#queue.shift()
      next = this.#queue[0]
    }
    const to = position + bytes
    const sync = this.#isWaitedFor(to)
    this.#sentTo = to
    if (sync) this.#syncSentTo = to
    const sending = this.#send({ position, sync, to }, batch)
    this.#underWay.add(sending)
    void sending.finally(() => {
      this.#underWay.delete(sending)
      this.#pump()
    })
  }

  async #send(
    { position, sync, to }: { readonly position: number; readonly sync: boolean; readonly to: number },
    batch: readonly Queued[],
  ): Promise<void> {
    const { segment, mode } = this.#options
    const pieces = batch.flatMap((queued) => queued.pieces)
    let crc = 0
    for (const piece of pieces) crc = crc32(piece, crc)
    try {
      await this.#call('copy-write', { segment, mode, position, crc, sync }, pieces)
      if (sync) this.#nowDurable(to)
    } catch (error) {
      this.#fail(error)
    } finally {
      for (const { arrived } of batch) arrived()
    }
  }

  async #call(
    method: 'copy-open' | 'copy-write' | 'copy-seal',
    head: object,
    pieces: readonly Uint8Array[],
  ): Promise<void> {
    const { calls, node } = this.#options
    const { signal } = this.#giveUp
    await calls.call(node, { method, head: encodeHead(head), pieces }, { timeoutMs: COPY_CALL_MS_MAX, signal })
  }

  #nowDurable(to: number): void {
    this.#durableTo = Math.max(this.#durableTo, to)
    const done = this.#waiting.filter(({ through }) => through <= this.#durableTo)
    if (done.length === 0) return
    this.#waiting = this.#waiting.filter(({ through }) => through > this.#durableTo)
    for (const { resolve } of done) resolve()
  }

  #fail(error: unknown): void {
    if (this.failed) return
    this.#failure = error
    this.#giveUp.abort(error)
    for (const { arrived } of this.#queue.splice(0)) arrived()
    const told = this.#failed()
    for (const { reject } of this.#waiting.splice(0)) reject(told)
    this.#options.onFailure(error)
  }

  #failed(): TidegateError {
    const why = this.#failure instanceof Error ? this.#failure.message : String(this.#failure)
    return new TidegateError('Unavailable', `node ${this.node} failed to take a copy: ${why}`, {
      details: { node: this.node },
      cause: this.#failure,
    })
  }
}
