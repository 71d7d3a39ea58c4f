/**
 * Before anything else both ends prove that they know the secret of the metadata, to each other and for this connection alone. Integers are big-endian.
 *
 *    hello, 64 bytes                                        proof, 32 bytes
 *    0   8   'TIDENODE'                                     HMAC-SHA256 with the secret over
 *    8   2   lowest version of the protocol that it speaks    'tidegate node connects' or 'tidegate node is connected to'
 *   10   2   highest                                          the hello of who connects
 *   12   2   version agreed on; who connects says 0           the hello of who is connected to
 *   14   2   0                                                with TLS, 32 bytes of keying material that this TLS connection exports (RFC 8446, 7.5)
 *   16   4   number of the node that says it
 *   20   4   number of the node that it is said to
 *   24   8   incarnation of the node that says it
 *   32  32   random
 *
 *   who connects -> hello        who is connected to -> hello
 *                -> proof                             -> proof
 *
 * Each side checks the other's bytes at once and closes at the first that does not fit; who is connected to proves only what was proved to it. Since both hellos are in both proofs,
 * and the proofs begin differently, no proof is good for another connection, another pair of nodes, another process of the same node, or in the other direction. Nor can who stands between take the
 * versions down. What it cannot keep from is somebody between who lets the proofs pass and changes what follows: that is what TLS is for; with TLS the proofs hold for this TLS connection only.
 *
 * Where no version is spoken by both, who is connected to says version 0 and closes, so that the other one can say why.
 *
 * An end that is not known yet is given 5 s, 96 bytes of answer, and is read at most 64 KiB from: what is beyond what it may say now ends the connection.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Refusal } from '../ports.ts'

const HELLO_BYTES = 64
const PROOF_BYTES = 32
const MAGIC = 'TIDENODE'
const VERSION_MIN = 1
const VERSION_MAX = 1
const EXPORT_LABEL = 'EXPERIMENTAL tidegate node'
const ROLES = { connects: 'tidegate node connects', connected: 'tidegate node is connected to' } as const
const EARLY_BYTES_MAX = 64 * 1024

/** The connection is closed, and why. */
export class Refused extends Error {
  override readonly name = 'Refused'
  readonly reason: Refusal

  constructor(reason: Refusal, message: string) {
    super(message)
    this.reason = reason
  }
}

/** What a node is in a handshake. */
export interface HandshakeSelf {
  readonly node: number
  /** 16 hex digits. */
  readonly incarnation: string
  /** Asked at every handshake: it may have been made anew. */
  readonly secret: () => Uint8Array
  readonly fillRandom: (bytes: Uint8Array) => void
  /** Of all of it. */
  readonly handshakeMs: number
}

/** Who the other end has proved to be. */
export interface ProvedPeer {
  readonly node: number
  readonly incarnation: string
  /** What it has sent behind its proof. */
  readonly early: Uint8Array
}

/** The socket is the caller's again, paused, or destroyed by it when this rejects. @throws Refused */
export async function proveAsConnecting(socket: Socket, self: HandshakeSelf, to: number): Promise<ProvedPeer> {
  return await inTime(socket, self, async (bytes) => {
    const ours = encodeHello(self, { to, agreed: 0 })
    socket.write(ours)
    const theirs = await bytes.take(HELLO_BYTES)
    const hello = decodeHello(theirs)
    if (hello.agreed < VERSION_MIN || hello.agreed > VERSION_MAX)
      throw new Refused(
        'version',
        `it speaks versions ${hello.min} to ${hello.max} of the protocol, this node ${VERSION_MIN} to ${VERSION_MAX}`,
      )
    if (hello.from !== to || hello.to !== self.node) throw new Refused('node', `it says that it is node ${hello.from}`)
    const proof = proofs(socket, self, [ours, theirs])
    socket.write(proof('connects'))
    const theirProof = await bytes.take(PROOF_BYTES)
    if (!timingSafeEqual(theirProof, proof('connected'))) throw new Refused('secret', 'it does not know the secret')
    return { node: hello.from, incarnation: hello.incarnation, early: bytes.rest() }
  })
}

/** As `proveAsConnecting`. @throws Refused */
export async function proveAsConnected(socket: Socket, self: HandshakeSelf): Promise<ProvedPeer> {
  return await inTime(socket, self, async (bytes) => {
    const theirs = await bytes.take(HELLO_BYTES)
    const hello = decodeHello(theirs)
    const agreed = Math.min(hello.max, VERSION_MAX)
    const isSpoken = agreed >= Math.max(hello.min, VERSION_MIN)
    const ours = encodeHello(self, { to: hello.from, agreed: isSpoken ? agreed : 0 })
    if (!isSpoken) {
      socket.end(ours)
      throw new Refused('version', `it speaks versions ${hello.min} to ${hello.max} of the protocol`)
    }
    if (hello.to !== self.node || hello.from === self.node || hello.from === 0)
      throw new Refused('node', `node ${hello.from} means to reach node ${hello.to}`)
    socket.write(ours)
    const proof = proofs(socket, self, [theirs, ours])
    const theirProof = await bytes.take(PROOF_BYTES)
    if (!timingSafeEqual(theirProof, proof('connects'))) throw new Refused('secret', 'it does not know the secret')
    const early = bytes.rest()
    if (early.length > 0) throw new Refused('broken', 'it asks before this node has proved anything')
    socket.write(proof('connected'))
    return { node: hello.from, incarnation: hello.incarnation, early }
  })
}

interface Hello {
  readonly min: number
  readonly max: number
  readonly agreed: number
  readonly from: number
  readonly to: number
  readonly incarnation: string
}

function encodeHello(self: HandshakeSelf, { to, agreed }: { to: number; agreed: number }): Buffer {
  const bytes = Buffer.alloc(HELLO_BYTES)
  bytes.write(MAGIC, 0, 'latin1')
  bytes.writeUInt16BE(VERSION_MIN, 8)
  bytes.writeUInt16BE(VERSION_MAX, 10)
  bytes.writeUInt16BE(agreed, 12)
  bytes.writeUInt32BE(self.node, 16)
  bytes.writeUInt32BE(to, 20)
  bytes.write(self.incarnation, 24, 'hex')
  self.fillRandom(bytes.subarray(32))
  return bytes
}

/** @throws Refused */
function decodeHello(bytes: Buffer): Hello {
  if (bytes.toString('latin1', 0, MAGIC.length) !== MAGIC)
    throw new Refused('magic', 'what answers there is no node of ours')
  return {
    min: bytes.readUInt16BE(8),
    max: bytes.readUInt16BE(10),
    agreed: bytes.readUInt16BE(12),
    from: bytes.readUInt32BE(16),
    to: bytes.readUInt32BE(20),
    incarnation: bytes.toString('hex', 24, 32),
  }
}

function proofs(
  socket: Socket,
  { secret }: HandshakeSelf,
  hellos: readonly Uint8Array[],
): (role: keyof typeof ROLES) => Buffer {
  const bound = 'exportKeyingMaterial' in socket ? (socket as TLSSocket) : undefined
  const exported = bound?.exportKeyingMaterial(PROOF_BYTES, EXPORT_LABEL, Buffer.alloc(0))
  return (role) => {
    const hmac = createHmac('sha256', secret()).update(ROLES[role])
    for (const hello of hellos) hmac.update(hello)
    return (exported === undefined ? hmac : hmac.update(exported)).digest()
  }
}

async function inTime(
  socket: Socket,
  { handshakeMs }: HandshakeSelf,
  talk: (bytes: EarlyBytes) => Promise<ProvedPeer>,
): Promise<ProvedPeer> {
  const bytes = new EarlyBytes(socket)
  const timer = setTimeout(() => bytes.fail(new Refused('late', 'it took too long to prove who it is')), handshakeMs)
  timer.unref()
  try {
    return await talk(bytes)
  } catch (error) {
    // Whoever is told why (a version) is told; all others are cut off at once.
    if (socket.writableEnded) socket.destroySoon()
    else socket.destroy()
    throw error
  } finally {
    clearTimeout(timer)
    bytes.release()
  }
}

/** What arrives before it is known from whom. */
class EarlyBytes {
  readonly #socket: Socket
  #held: Buffer = Buffer.alloc(0)
  #failure: Error | undefined
  #wake: () => void = () => undefined
  readonly #onData = (chunk: Buffer): void => {
    // What arrives may lie where the next bytes arrive.
    this.#held = Buffer.concat([this.#held, chunk])
    if (this.#held.length > EARLY_BYTES_MAX) this.fail(new Refused('broken', 'it says too much'))
    this.#wake()
  }
  readonly #onClose = (): void => this.fail(new Refused('broken', 'the connection ended in the handshake'))

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', this.#onData).on('close', this.#onClose).on('end', this.#onClose).on('error', this.#onClose)
  }

  fail(error: Error): void {
    this.#failure ??= error
    this.#wake()
  }

  /** @throws Refused */
  async take(count: number): Promise<Buffer> {
    while (this.#held.length < count) {
      if (this.#failure !== undefined) throw this.#failure
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
    const taken = this.#held.subarray(0, count)
    this.#held = this.#held.subarray(count)
    return taken
  }

  rest(): Uint8Array {
    return this.#held
  }

  release(): void {
    const socket = this.#socket.off('data', this.#onData).off('close', this.#onClose).off('end', this.#onClose)
    socket.pause()
    // Errors of a socket that nobody has taken over yet are nobody's: its close is seen.
    socket.on('error', () => undefined).off('error', this.#onClose)
  }
}
