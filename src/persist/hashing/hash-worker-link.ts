/**
 * The engine's end of one hash worker: its thread, what waits for it, and what it has in hand.
 *
 * Jobs wait in `waiting` until fewer than `windowMax` are with the worker; a window keeps what was abandoned from being
 * hashed all the same. Commands of one turn of the event loop are posted as one message.
 *
 *     down --start--> up --thread ends, or answers nothing for STALLED_MS--> down --restart--> up ...
 *                     up or down --stop--> stopped
 *
 * When the thread ends, every lane and job it had fails with `Unavailable`. A new thread is started at once, or, if the old
 * one had never become ready, after RESTART_DELAY_MS, so that a machine on which no thread can start is not
 * kept busy with trying.
 */
import { Worker } from 'node:worker_threads'
import { assert, must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import { workerEntry } from '../../common/worker-entry.ts'
import { LANE_COST, type LaneAlgorithm } from './lanes.ts'
import type { HashAnswer, HashCommand, HashJob, HashResult, HashWorkerData } from './messages.ts'
import type { HashSlice } from './ports.ts'

const RESTART_DELAY_MS = 1000
const STALLED_MS = 30_000
const STALL_CHECK_MS = 5_000

/** One algorithm of one stream, bound to one worker. */
export interface Lane {
  readonly algorithm: LaneAlgorithm
  update(slice: HashSlice): Promise<void>
  digest(): Promise<string>
  close(): void
}

export interface HashWorkerLink {
  /** Resolves when the thread runs. */
  start(): Promise<void>
  /** Resolves once no lane is open and no job waits, or the link is stopped. */
  idle(): Promise<void>
  stop(): Promise<void>
  up(): boolean
  /** Cost of the open lanes, and bytes waiting or in hand: what a new lane, or a page check, chooses a worker by. */
  laneCost(): number
  queuedBytes(): number
  openLane(algorithm: LaneAlgorithm): Lane
  pages(slice: HashSlice, pageBytes: number): Promise<Uint32Array>
}

interface Ticket {
  readonly job: HashJob
  readonly lane: LaneState | undefined
  readonly resolve: (result: HashResult) => void
  readonly reject: (error: Error) => void
}

interface LaneState {
  readonly id: number
  readonly algorithm: LaneAlgorithm
  failure: TidegateError | undefined
  closed: boolean
}

export function createHashWorkerLink(options: { slab: SharedArrayBuffer; windowMax: number }): HashWorkerLink {
  assert(options.windowMax > 0, 'a window of at least one job')
  return new Link(options.slab, options.windowMax)
}

class Link implements HashWorkerLink {
  readonly #slab: SharedArrayBuffer
  readonly #windowMax: number
  #state: 'down' | 'up' | 'stopped' = 'down'
  #worker: Worker | undefined
  #restart: NodeJS.Timeout | undefined
  #stallCheck: NodeJS.Timeout | undefined
  #wasReady = false
  #answeredAtMs = 0
  #nextNumber = 1
  #cost = 0
  #bytes = 0
  #flushQueued = false
  #idleWaiters: (() => void)[] = []
  #outbox: HashCommand[] = []
  readonly #lanes = new Map<number, LaneState>()
  /** In order: `waiting` follows `inHand`. */
  #waiting: Ticket[] = []
  readonly #inHand = new Map<number, Ticket>()

  constructor(slab: SharedArrayBuffer, windowMax: number) {
    this.#slab = slab
    this.#windowMax = windowMax
  }

  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      const workerData: HashWorkerData = { slab: this.#slab }
      const worker = new Worker(workerEntry(import.meta.url, 'hash-worker'), { workerData, name: 'tidegate-hash' })
      this.#worker = worker
      this.#wasReady = false
      worker.on('message', (answers: HashAnswer[]) => {
        if (this.#worker !== worker) return
        this.#state = 'up'
        this.#wasReady = true
        resolve() // by the first message, which is empty and says that the thread is ready
        this.#answered(answers)
      })
      // `exit` always follows `error`; the first of them fails what the worker had in hand.
      worker.on('error', (error) => this.#died(worker, error, reject))
      worker.on('exit', (code) => this.#died(worker, new Error(`hash worker ended with code ${code}`), reject))
    })
  }

  async idle(): Promise<void> {
    if (this.#state === 'stopped' || !this.#busy()) return
    await new Promise<void>((resolve) => this.#idleWaiters.push(resolve))
  }

  async stop(): Promise<void> {
    this.#state = 'stopped'
    clearTimeout(this.#restart)
    const worker = this.#worker
    this.#worker = undefined
    this.#failAll(new TidegateError('Unavailable', 'hashing has stopped'))
    await worker?.terminate()
  }

  up(): boolean {
    return this.#state === 'up'
  }

  laneCost(): number {
    return this.#cost
  }

  queuedBytes(): number {
    return this.#bytes
  }

  openLane(algorithm: LaneAlgorithm): Lane {
    assert(this.#state === 'up', 'a lane needs a worker')
    const lane: LaneState = { id: this.#nextNumber++, algorithm, failure: undefined, closed: false }
    this.#lanes.set(lane.id, lane)
    this.#cost += LANE_COST[algorithm]
    this.#setBusy()
    this.#post({ kind: 'open', lane: lane.id, algorithm })
    return {
      algorithm,
      update: async (slice) => {
        const { slabOffset, length } = slice
        await this.#submit({ kind: 'update', ticket: this.#nextNumber++, lane: lane.id, slabOffset, length }, lane)
      },
      digest: async () => {
        const digest = await this.#submit({ kind: 'digest', ticket: this.#nextNumber++, lane: lane.id }, lane)
        this.#forgetLane(lane)
        return must(digest, 'digest') as string
      },
      close: () => this.#closeLane(lane),
    }
  }

  async pages(slice: HashSlice, pageBytes: number): Promise<Uint32Array> {
    assert(this.#state === 'up', 'a page check needs a worker')
    const { slabOffset, length } = slice
    const ticket = this.#nextNumber++
    const result = await this.#submit({ kind: 'pages', ticket, slabOffset, length, pageBytes }, undefined)
    return must(result, 'page checksums') as Uint32Array
  }

  #submit(job: HashJob, lane: LaneState | undefined): Promise<HashResult> {
    if (lane?.failure !== undefined) return Promise.reject(lane.failure)
    assert(lane === undefined || !lane.closed, 'a job for a closed lane')
    return new Promise((resolve, reject) => {
      this.#waiting.push({ job, lane, resolve, reject })
      this.#bytes += jobBytes(job)
      this.#setBusy()
      this.#pump()
    })
  }

  /** Hands jobs to the worker while the window has room. */
  #pump(): void {
    let taken = 0
    while (taken < this.#waiting.length && this.#inHand.size < this.#windowMax) {
      const ticket = must(this.#waiting[taken++], 'waiting job')
      if (this.#inHand.size === 0) this.#answeredAtMs = performance.now()
      this.#inHand.set(ticket.job.ticket, ticket)
      this.#post(ticket.job)
    }
    if (taken > 0) this.#waiting.splice(0, taken)
  }

  #post(command: HashCommand): void {
    this.#outbox.push(command)
    if (this.#flushQueued) return
    this.#flushQueued = true
    queueMicrotask(() => {
      this.#flushQueued = false
      if (this.#outbox.length > 0) this.#worker?.postMessage(this.#outbox)
      this.#outbox = []
    })
  }

  #answered(answers: readonly HashAnswer[]): void {
    this.#answeredAtMs = performance.now()
    for (const answer of answers) {
      const ticket = this.#inHand.get(answer.ticket)
      if (ticket === undefined) continue // its lane was closed meanwhile
      this.#inHand.delete(answer.ticket)
      this.#bytes -= jobBytes(ticket.job)
      ticket.resolve(answer.result)
    }
    this.#pump()
    this.#setIdle()
  }

  #closeLane(lane: LaneState): void {
    if (lane.closed || lane.failure !== undefined) return
    this.#forgetLane(lane)
    const given = new TidegateError('Unavailable', 'the hash stream was given up')
    for (const ticket of this.#takeTickets((ticket) => ticket.lane === lane)) {
      if (ticket.job.kind === 'update') ticket.resolve(undefined)
      else ticket.reject(given)
    }
    this.#post({ kind: 'close', lane: lane.id })
    this.#pump()
    this.#setIdle()
  }

  #forgetLane(lane: LaneState): void {
    lane.closed = true
    if (!this.#lanes.delete(lane.id)) return
    this.#cost -= LANE_COST[lane.algorithm]
    this.#setIdle()
  }

  #takeTickets(wanted: (ticket: Ticket) => boolean): Ticket[] {
    const taken = [...this.#inHand.values(), ...this.#waiting].filter(wanted)
    for (const ticket of taken) {
      this.#inHand.delete(ticket.job.ticket)
      this.#bytes -= jobBytes(ticket.job)
    }
    this.#waiting = this.#waiting.filter((ticket) => !wanted(ticket))
    return taken
  }

  #failAll(error: TidegateError): void {
    this.#outbox = []
    for (const lane of this.#lanes.values()) lane.failure = error
    this.#lanes.clear()
    this.#cost = 0
    for (const ticket of this.#takeTickets(() => true)) ticket.reject(error)
    this.#setIdle()
  }

  #died(worker: Worker, cause: unknown, rejectStart: (error: Error) => void): void {
    if (this.#worker !== worker) return
    this.#worker = undefined
    this.#state = 'down'
    const error = new TidegateError('Unavailable', 'a hash worker died', { cause })
    rejectStart(error) // without effect once it was ready
    this.#failAll(error)
    const again = (): void => {
      this.start().catch(() => undefined) // its death brings us here again
    }
    if (this.#wasReady) again()
    else this.#restart = setTimeout(again, RESTART_DELAY_MS).unref()
  }

  #busy(): boolean {
    return this.#lanes.size > 0 || this.#inHand.size > 0 || this.#waiting.length > 0
  }

  /** A worker that starts or has work keeps the process alive, an idle one does not. */
  #setBusy(): void {
    if (this.#stallCheck !== undefined) return
    this.#worker?.ref()
    this.#stallCheck = setInterval(() => {
      const stalled = this.#inHand.size > 0 && performance.now() - this.#answeredAtMs > STALLED_MS
      if (stalled) void this.#worker?.terminate()
    }, STALL_CHECK_MS).unref()
  }

  #setIdle(): void {
    if (this.#busy()) return
    clearInterval(this.#stallCheck)
    this.#stallCheck = undefined
    this.#worker?.unref()
    for (const resolve of this.#idleWaiters.splice(0)) resolve()
  }
}

function jobBytes(job: HashJob): number {
  return job.kind === 'digest' ? 0 : job.length
}
