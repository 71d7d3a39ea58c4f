/**
 * A connection whose answers go straight into the caller's memory: the kernel writes each byte of a body where it belongs, and nothing
 * copies it after that. Node's own client makes a buffer for each read and another one for its parser, which costs more than all the rest
 * of reading from a remote store.
 *
 *   idle --get--> head --+--> pouring --> idle      a body of data, into the buffers
 *                        +--> refusal --> idle      anything but 200 and 206: gathered, for the SDK to read
 *                        +--> ended                 data without a length
 *
 * Whatever goes wrong ends the connection. The buffers are touched only while it is pouring; whoever destroys it can rely on
 * that nothing is written any more, since its handle is closed by then. Over TLS a closed handle is not enough: Node goes on handing
 * out what it has decrypted, into the buffer that it was given last. There bytes go by way of the scratch buffer, from which only a
 * connection that is pouring takes them, at the price of that copy.
 */
import { connect, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { assert } from '../../common/assert.ts'
import { isInterim, parseHead, plainLength, refusalBody, type AnswerHead } from './plain-answer.ts'
import { badAnswer } from './s3-errors.ts'

export interface Origin {
  readonly isTls: boolean
  readonly host: string
  readonly port: number
}

/** Where a body goes. */
export interface Sink {
  /** For messages. */
  readonly what: string
  readonly into: readonly Uint8Array[]
  /** Bytes that will come, at most what the buffers hold. @throws when the head does not fit what was asked for */
  accept(head: AnswerHead, length: number): number
  readonly progress: () => void
  /** That buffer is full, and not touched any more. */
  readonly onFilled: (index: number) => void
}

export interface Answer {
  readonly head: AnswerHead
  /** Of a refusal; empty when it cannot be read. */
  readonly body: Buffer
  /** Of data. */
  readonly bytesPoured: number | undefined
}

/** Data came that nothing delimits but the transfer coding or the connection's end. */
export class LengthMissing extends Error {}

interface Asked {
  readonly sink: Sink
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: Error) => void
}

/** A head with little behind it: what comes after goes to where it belongs. */
const SCRATCH_BYTES = 16 * 1024
/** Servers close idle connections after a while; it is better not to be surprised. */
const IDLE_MS_MAX = 10_000

export class AnswerConnection {
  readonly #socket: Socket
  readonly #isTls: boolean
  readonly #scratch = Buffer.alloc(SCRATCH_BYTES)
  #state: 'idle' | 'head' | 'pouring' | 'refusal' | 'ended' = 'idle'
  #asked: Asked | undefined
  #head: AnswerHead | undefined
  #received: Buffer = Buffer.alloc(0)
  #target = { index: 0, filled: 0 }
  #expected = 0
  #left = 0
  #answers = 0
  #bytesOfAnswer = 0

  constructor({ isTls, host, port }: Origin, onEnd: () => void) {
    this.#isTls = isTls
    const onread = {
      buffer: () => this.#nextBuffer(),
      callback: (bytes: number, buffer: Uint8Array) => this.#take(bytes, buffer),
    }
    const options = { host, port, noDelay: true, onread }
    // The same name as Node's agent gives: none for an address (RFC 6066, 3).
    const socket = isTls ? connectTls({ ...options, servername: isIP(host) ? '' : host }) : connect(options)
    this.#socket = socket
    socket.on('error', (error) => this.#fail(error))
    socket.on('end', () => this.#finished())
    socket.on('timeout', () => this.#end())
    socket.on('close', () => {
      this.#fail(this.#broken())
      onEnd()
    })
  }

  get isIdle(): boolean {
    return this.#state === 'idle'
  }

  /** An answer came before, and of this one nothing: the server may have closed it before it saw the request. */
  get isStale(): boolean {
    return this.#answers > 0 && this.#bytesOfAnswer === 0
  }

  /** Sends a request that has no body. After the signal nothing is written to the sink any more. */
  async get(head: string, sink: Sink, signal: AbortSignal): Promise<Answer> {
    assert(this.#state === 'idle', 'one request at a time')
    signal.throwIfAborted()
    const abort = (): void => this.#fail(signal.reason as Error)
    signal.addEventListener('abort', abort)
    try {
      return await new Promise<Answer>((resolve, reject) => {
        this.#asked = { sink, resolve, reject }
        this.#state = 'head'
        this.#bytesOfAnswer = 0
        this.#received = Buffer.alloc(0)
        this.#target = { index: 0, filled: 0 }
        this.#socket.ref().setTimeout(0)
        this.#socket.write(head, 'latin1')
      })
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  destroy(): void {
    this.#fail(this.#broken())
  }

  /** Where the next bytes of the connection go. */
  #nextBuffer(): Uint8Array {
    if (this.#state !== 'pouring') return this.#scratch
    const place = this.#place()
    return this.#isTls ? this.#scratch.subarray(0, place.length) : place
  }

  /** Where the next bytes of the body belong. */
  #place(): Uint8Array {
    const { index, filled } = this.#target
    const buffer = this.#asked?.sink.into[index]
    assert(buffer, 'what is left fits the buffers')
    return buffer.subarray(filled, Math.min(buffer.length, filled + this.#left))
  }

  #take(bytes: number, buffer: Uint8Array): boolean {
    const { sink } = this.#asked ?? {}
    try {
      this.#bytesOfAnswer += bytes
      sink?.progress()
      if (this.#state === 'pouring') {
        if (this.#isTls) this.#scratch.copy(this.#place(), 0, 0, bytes)
        this.#poured(bytes)
      }
      // A copy: the next bytes are written over these.
      else if (this.#asked) this.#read(Buffer.from(buffer.subarray(0, bytes)), this.#asked.sink)
      // Nobody asked for these.
      else this.#end()
    } catch (error) {
      this.#fail(error as Error)
    }
    return this.#state !== 'ended'
  }

  #read(chunk: Buffer, sink: Sink): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk])
    while (this.#state === 'head') {
      const head = parseHead(this.#received, sink.what)
      if (!head) return
      this.#received = this.#received.subarray(head.bytes)
      if (!isInterim(head)) this.#begin(head, sink)
    }
    if (this.#state === 'refusal') this.#refused('open')
  }

  #refused(connection: 'open' | 'ended'): void {
    const body = refusalBody(this.#head as AnswerHead, this.#received, connection)
    if (body === undefined) return
    this.#answer(body === 'unreadable' ? Buffer.alloc(0) : body)
    // What comes of it yet is in nobody's interest.
    if (body === 'unreadable') this.#end()
  }

  /** Nothing more comes. */
  #finished(): void {
    if (this.#state === 'refusal') this.#refused('ended')
    this.#fail(this.#broken())
  }

  #begin(head: AnswerHead, sink: Sink): void {
    this.#head = head
    this.#state = 'refusal'
    if (head.status !== 200 && head.status !== 206) return
    const length = plainLength(head)
    if (length === undefined) throw new LengthMissing('the answer does not say how long it is')
    this.#expected = this.#left = sink.accept(head, length)
    assert(this.#left <= sink.into.reduce((sum, buffer) => sum + buffer.length, 0), 'what comes fits the buffers')
    this.#state = 'pouring'
    const rest = this.#received
    if (rest.length > this.#left) throw badAnswer(sink.what, 'more came than the answer said')
    for (let taken = 0; taken < rest.length;) {
      const copied = rest.copy(this.#place(), 0, taken)
      taken += copied
      this.#poured(copied)
    }
    if (this.#left === 0 && rest.length === 0) this.#answer(Buffer.alloc(0), this.#expected)
  }

  #poured(bytes: number): void {
    const { index, filled } = this.#target
    const { sink } = this.#asked as Asked
    this.#left -= bytes
    if (filled + bytes < (sink.into[index] as Uint8Array).length) this.#target = { index, filled: filled + bytes }
    else {
      this.#target = { index: index + 1, filled: 0 }
      sink.onFilled(index)
    }
    if (this.#left === 0) this.#answer(Buffer.alloc(0), this.#expected)
  }

  #answer(body: Buffer, bytesPoured?: number): void {
    const head = this.#head as AnswerHead
    const { resolve } = this.#asked as Asked
    this.#asked = undefined
    this.#answers++
    if (head.staysOpen) {
      this.#state = 'idle'
      this.#socket.unref().setTimeout(IDLE_MS_MAX)
    } else this.#end()
    resolve({ head, body, bytesPoured })
  }

  #fail(error: Error): void {
    const asked = this.#asked
    this.#asked = undefined
    this.#end()
    asked?.reject(error)
  }

  #end(): void {
    this.#state = 'ended'
    this.#socket.destroy()
  }

  #broken(): Error {
    const { sink } = this.#asked ?? {}
    const where = this.#state === 'pouring' ? `with ${this.#left} bytes to come` : 'before the answer was complete'
    return badAnswer(sink?.what ?? 'idle', `the connection broke ${where}`)
  }
}
