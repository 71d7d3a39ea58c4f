/**
 * What follows the handshake on a connection: frames, one after another, each with a body that may be empty. Integers are big-endian.
 *
 *    0   2   'TN'
 *    2   1   version of the protocol, as agreed in the handshake: 1
 *    3   1   kind: 1 request, 2 reply, 3 error, 4 cancel, 5 ping, 6 pong
 *    4   4   id of the request; of a ping a number that its pong repeats
 *    8   2   method of a request, else 0
 *   10   2   0
 *   12   4   milliseconds that a request's caller waits, else 0
 *   16   4   length of the head, at most 65 KiB
 *   20   4   length of the body, at most 16 MiB
 *   24   4   CRC-32 of the 24 bytes before and of the head
 *   28       head, then body
 *
 * The CRC covers what the connection acts on. Bodies are not covered: their checksums are the business of who asks (C14: pages are checked where they are used), and computing them twice would
 * cost more than all the rest here.
 *
 * Who connected asks (request, cancel, ping), who was connected to answers (reply, error, pong): so two nodes that call each other have a connection each way, and an id is of one side only. An id is used
 * again only after its answer has come. A cancelled request is answered all the same. Anything else, a frame that the other side may not send, a length over its limit,
 * a CRC that does not fit, an answer to what was not asked, ends the connection: after it there is no telling where the next frame begins.
 */
import { crc32 } from '../../common/crc32.ts'
import { NODE_BODY_BYTES_MAX, NODE_HEAD_BYTES_MAX, type NodeMethod } from '../../common/node-calls.ts'

export const HEADER_BYTES = 28
/** Of a call's head, and of what the fabric's layer puts before it (../fabric/messages.ts). */
export const FRAME_HEAD_BYTES_MAX: number = NODE_HEAD_BYTES_MAX + 1024
const CHECKED_BYTES = 24
const MAGIC = 0x544e
const VERSION = 1

export const FRAME = { request: 1, reply: 2, error: 3, cancel: 4, ping: 5, pong: 6 } as const
export type FrameKind = (typeof FRAME)[keyof typeof FRAME]

const METHOD_NUMBERS = {
  block: 1,
  'copy-open': 2,
  'copy-write': 3,
  'copy-seal': 4,
  'copy-drop': 5,
  copies: 6,
  'fabric-agree': 7,
  'fabric-end': 8,
  'fabric-probe': 9,
  'fabric-grant': 10,
  'fabric-call': 11,
  'fabric-bring': 12,
  'fabric-done': 13,
} as const satisfies Record<NodeMethod, number>

const METHODS: ReadonlyMap<number, NodeMethod> = new Map(
  Object.entries(METHOD_NUMBERS).map(([method, number]) => [number, method as NodeMethod]),
)

export function methodNumber(method: NodeMethod): number {
  return METHOD_NUMBERS[method]
}

/** Undefined for one of a later version. */
export function methodOf(number: number): NodeMethod | undefined {
  return METHODS.get(number)
}

export interface Frame {
  readonly kind: FrameKind
  readonly id: number
  readonly method: number
  readonly timeoutMs: number
  readonly head: Uint8Array
  readonly bodyBytes: number
}

/** The other end does not keep to the protocol. */
export class BadFrame extends Error {
  override readonly name = 'BadFrame'
}

const NO_HEAD = new Uint8Array(0)

/** Header and head, of a frame that `bodyBytes` follow. */
export function encodeFrame({
  kind,
  id,
  method = 0,
  timeoutMs = 0,
  head = NO_HEAD,
  bodyBytes = 0,
}: Pick<Frame, 'kind' | 'id'> & Partial<Frame>): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + head.length)
  bytes.writeUInt16BE(MAGIC, 0)
  bytes[2] = VERSION
  bytes[3] = kind
  bytes.writeUInt32BE(id, 4)
  bytes.writeUInt16BE(method, 8)
  bytes.writeUInt16BE(0, 10)
  bytes.writeUInt32BE(timeoutMs, 12)
  bytes.writeUInt32BE(head.length, 16)
  bytes.writeUInt32BE(bodyBytes, 20)
  bytes.set(head, HEADER_BYTES)
  bytes.writeUInt32BE(crc32(head, crc32(bytes.subarray(0, CHECKED_BYTES))), CHECKED_BYTES)
  return bytes
}

export interface FrameSink {
  /** Between two frames: nothing more is to be read. */
  isFull(): boolean
  /** Header and head are here, and fit. Where the body goes, which has as many bytes; undefined: nowhere. @throws BadFrame */
  frameBegan(frame: Frame): Uint8Array | undefined
  /** All of it is here. */
  frameEnded(frame: Frame): void
}

/** Cuts what arrives, in whatever pieces, into frames. Bodies are copied from where they arrived to where they belong, once. */
export class FrameReader {
  readonly #sink: FrameSink
  readonly #header = Buffer.alloc(HEADER_BYTES)
  #headerAt = 0
  #head: Uint8Array = NO_HEAD
  #headAt = 0
  /** Of which the body is under way. */
  #frame: Frame | undefined
  #into: Uint8Array | undefined
  #bodyAt = 0

  constructor(sink: FrameSink) {
    this.#sink = sink
  }

  get isMidFrame(): boolean {
    return this.#headerAt > 0
  }

  /** What is still to come of that frame's body is written nowhere. False: that is not the frame under way. */
  skip(id: number): boolean {
    if (this.#frame?.id !== id) return false
    this.#into = undefined
    return true
  }

  /** Takes bytes from there on; says how far it came: not to the end if the sink is full. The bytes are the caller's again. @throws BadFrame */
  take(bytes: Uint8Array, from = 0): number {
    let at = from
    for (;;) {
      if (this.#frame !== undefined) {
        at += this.#takeBody(this.#frame, bytes, at)
        if (this.#frame !== undefined) return at
      }
      if (this.#headerAt === 0 && (at === bytes.length || this.#sink.isFull())) return at
      if (this.#headerAt < HEADER_BYTES) {
        const count = Math.min(HEADER_BYTES - this.#headerAt, bytes.length - at)
        this.#header.set(bytes.subarray(at, at + count), this.#headerAt)
        this.#headerAt += count
        at += count
        if (this.#headerAt < HEADER_BYTES) return at
        this.#beginHead()
      }
      const count = Math.min(this.#head.length - this.#headAt, bytes.length - at)
      this.#head.set(bytes.subarray(at, at + count), this.#headAt)
      this.#headAt += count
      at += count
      if (this.#headAt < this.#head.length) return at
      this.#beginBody()
    }
  }

  #takeBody(frame: Frame, bytes: Uint8Array, at: number): number {
    const count = Math.min(frame.bodyBytes - this.#bodyAt, bytes.length - at)
    this.#into?.set(bytes.subarray(at, at + count), this.#bodyAt)
    this.#bodyAt += count
    if (this.#bodyAt === frame.bodyBytes) {
      this.#frame = undefined
      this.#into = undefined
      this.#headerAt = 0
      this.#sink.frameEnded(frame)
    }
    return count
  }

  /** @throws BadFrame */
  #beginHead(): void {
    const header = this.#header
    if (header.readUInt16BE(0) !== MAGIC) throw new BadFrame('no frame begins where one should')
    if (header[2] !== VERSION) throw new BadFrame(`a frame of version ${header[2]}`)
    const headBytes = header.readUInt32BE(16)
    if (headBytes > FRAME_HEAD_BYTES_MAX) throw new BadFrame(`a head of ${headBytes} bytes`)
    if (header.readUInt32BE(20) > NODE_BODY_BYTES_MAX) throw new BadFrame('a body over its limit')
    this.#head = headBytes === 0 ? NO_HEAD : Buffer.allocUnsafe(headBytes)
    this.#headAt = 0
  }

  /** @throws BadFrame */
  #beginBody(): void {
    const header = this.#header
    const crc = crc32(this.#head, crc32(header.subarray(0, CHECKED_BYTES)))
    if (crc !== header.readUInt32BE(CHECKED_BYTES)) throw new BadFrame('a checksum that does not fit')
    const kind = header[3] as FrameKind
    if (!(kind >= FRAME.request && kind <= FRAME.pong)) throw new BadFrame(`a frame of kind ${kind}`)
    const frame: Frame = {
      kind,
      id: header.readUInt32BE(4),
      method: header.readUInt16BE(8),
      timeoutMs: header.readUInt32BE(12),
      head: this.#head,
      bodyBytes: header.readUInt32BE(20),
    }
    this.#head = NO_HEAD
    this.#bodyAt = 0
    this.#into = this.#sink.frameBegan(frame)
    this.#frame = frame
  }
}
