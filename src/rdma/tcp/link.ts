/**
 * One connection after its handshake: cuts what arrives into frames, writes parcels in their order, and ends when the other end is gone, silent, stalled or talks nonsense. What frames mean is the owner's
 * (outgoing.ts, incoming.ts).
 *
 * Bytes of parcels are not copied. A parcel is *waiting* until the socket has room, and can be withdrawn that long; then it is *written*, until the socket says so or has gone. It is settled once, in
 * either case: from then on nothing reads its pieces any more. (Closing a socket closes its descriptor at once; what the kernel has not taken by then it does not take.)
 */
import type { Socket } from 'node:net'
import type { Clock } from '../../common/clock.ts'
import { BadFrame, FrameReader, type FrameSink } from './frames.ts'
import { HELD_BYTES_MAX, WRITING_BYTES_MAX, type TcpLimits } from './limits.ts'

export interface Parcel {
  /** Header and head. */
  readonly head: Uint8Array
  readonly pieces: readonly Uint8Array[]
  /** The pieces are not read any more. Called once. */
  readonly settled?: (() => void) | undefined
}

/** `withdrawn`: nothing of it was sent, nor will be. */
export type ParcelState = 'withdrawn' | 'being written' | 'written'

export interface LinkOwner extends FrameSink {
  /** Called now and then; a sign of life is to be given. */
  tick(): void
  /** Called once. */
  linkEnded(why: string): void
}

export interface LinkTally {
  bytesIn: number
  bytesOut: number
  badFrames: number
}

export interface LinkOptions {
  readonly socket: Socket
  readonly owner: LinkOwner
  readonly clock: Clock
  readonly limits: TcpLimits
  readonly tally: LinkTally
  /** What came with the handshake. */
  readonly early: Uint8Array
}

interface Waiting {
  readonly parcel: Parcel
  readonly bytes: number
  withdrawn: boolean
}

export class Link {
  readonly #options: LinkOptions
  readonly #socket: Socket
  readonly #reader: FrameReader
  readonly #queue: Waiting[] = []
  readonly #written = new Set<Waiting>()
  /** Waiting and written. */
  #bytesOut = 0
  #isCorked = false
  #isEnded = false
  /** What was read and not yet looked at, since the owner is full. */
  #rest: { bytes: Uint8Array; from: number } | undefined
  #heardMs: number
  /** When the frame under way began. */
  #frameMs: number | undefined
  /** When the socket last took something, or was last idle. */
  #tookMs: number
  readonly #timer: NodeJS.Timeout

  constructor(options: LinkOptions) {
    const { socket, owner, limits, clock } = options
    this.#options = options
    this.#socket = socket
    this.#reader = new FrameReader(owner)
    this.#heardMs = clock.monotonicMs()
    this.#tookMs = this.#heardMs
    this.#timer = setInterval(() => this.#tick(), limits.pingMs / 2)
    this.#timer.unref()
    socket.setNoDelay(true)
    socket.on('error', (error) => this.end(error.message))
    socket.on('close', () => {
      this.end('the connection was closed')
      this.#settleAll()
    })
    socket.on('end', () => this.end('the other end has closed the connection'))
    socket.on('data', (chunk: Buffer) => this.#take(chunk))
  }

  /** Once the owner has its link. */
  start(): void {
    const { early } = this.#options
    if (early.length > 0) this.#take(early)
    this.resume()
  }

  get isEnded(): boolean {
    return this.#isEnded
  }

  /** The owner takes no more frames, or the other end none of ours. */
  get isPaused(): boolean {
    return this.#rest !== undefined
  }

  /** More waits to be written than may: the owner is to say that it is full. */
  get isBehind(): boolean {
    return this.#bytesOut > HELD_BYTES_MAX
  }

  /** The returned function withdraws it if that can be done, and says what it found. */
  send(parcel: Parcel): () => ParcelState {
    const bytes = parcel.pieces.reduce((sum, piece) => sum + piece.length, parcel.head.length)
    const waiting: Waiting = { parcel, bytes, withdrawn: false }
    if (this.#isEnded) {
      parcel.settled?.()
      return () => 'withdrawn'
    }
    this.#bytesOut += bytes
    this.#queue.push(waiting)
    this.#pump()
    return () => this.#withdraw(waiting)
  }

  /** See FrameReader.skip. */
  skip(id: number): boolean {
    return this.#reader.skip(id)
  }

  /** The owner may have room again. */
  resume(): void {
    if (this.#isEnded) return
    const rest = this.#rest
    if (rest !== undefined) {
      this.#rest = undefined
      this.#heardMs = this.#now()
      this.#take(rest.bytes, rest.from)
      if (this.#rest !== undefined || this.#isEnded) return
    }
    this.#socket.resume()
  }

  /** Closes at once. */
  end(why: string): void {
    if (this.#isEnded) return
    this.#isEnded = true
    clearInterval(this.#timer)
    this.#rest = undefined
    this.#socket.destroy()
    for (const waiting of this.#queue.splice(0)) this.#settle(waiting)
    // Those being written are settled when the socket has closed.
    this.#options.owner.linkEnded(why)
  }

  #take(bytes: Uint8Array, from = 0): void {
    if (this.#isEnded) return
    this.#heardMs = this.#now()
    this.#options.tally.bytesIn += bytes.length - from
    try {
      const at = this.#reader.take(bytes, from)
      if (!this.#isEnded && !this.#reader.isMidFrame && this.#options.owner.isFull()) {
        this.#options.tally.bytesIn -= bytes.length - at
        this.#rest = { bytes, from: at }
        this.#socket.pause()
      }
    } catch (error) {
      if (!(error instanceof BadFrame)) throw error
      this.#options.tally.badFrames++
      this.end(`it does not keep to the protocol: ${error.message}`)
    }
    if (!this.#reader.isMidFrame) this.#frameMs = undefined
    else this.#frameMs ??= this.#heardMs
  }

  #pump(): void {
    const socket = this.#socket
    while (!this.#isEnded && socket.writableLength < WRITING_BYTES_MAX) {
      const waiting = this.#queue.shift()
      if (waiting === undefined) return
      this.#cork()
      this.#write(waiting)
    }
  }

  /** What is written in one turn goes to the kernel together. */
  #cork(): void {
    if (this.#isCorked) return
    this.#isCorked = true
    this.#socket.cork()
    process.nextTick(() => {
      this.#isCorked = false
      this.#socket.uncork()
    })
  }

  #write(waiting: Waiting): void {
    const { head, pieces } = waiting.parcel
    if (this.#written.size === 0) this.#tookMs = this.#now()
    this.#written.add(waiting)
    this.#options.tally.bytesOut += waiting.bytes
    // Whatever went wrong is seen as the socket's error and close.
    const done = (error?: Error | null): void => {
      if (error) return
      this.#tookMs = this.#now()
      this.#written.delete(waiting)
      this.#settle(waiting)
      this.#pump()
    }
    const last = pieces.length - 1
    this.#socket.write(head, last < 0 ? done : undefined)
    for (const [index, piece] of pieces.entries()) this.#socket.write(piece, index === last ? done : undefined)
  }

  #withdraw(waiting: Waiting): ParcelState {
    if (this.#written.has(waiting)) return 'being written'
    const at = this.#queue.indexOf(waiting)
    if (at < 0) return waiting.withdrawn ? 'withdrawn' : 'written'
    waiting.withdrawn = true
    this.#queue.splice(at, 1)
    this.#settle(waiting)
    return 'withdrawn'
  }

  #settle({ parcel, bytes }: Waiting): void {
    this.#bytesOut -= bytes
    parcel.settled?.()
  }

  #settleAll(): void {
    for (const waiting of this.#written) this.#settle(waiting)
    this.#written.clear()
  }

  #tick(): void {
    const { limits, owner } = this.#options
    const nowMs = this.#now()
    // Whoever does not read cannot complain of silence.
    if (!this.isPaused && nowMs - this.#heardMs > limits.silenceMs) return this.end('nothing was heard of it any more')
    if (!this.isPaused && this.#frameMs !== undefined && nowMs - this.#frameMs > limits.frameMs)
      return this.end('it stopped in the middle of a frame')
    if (this.#written.size > 0 && nowMs - this.#tookMs > limits.frameMs)
      return this.end('it does not take what it asked for')
    owner.tick()
  }

  #now(): number {
    return this.#options.clock.monotonicMs()
  }
}
