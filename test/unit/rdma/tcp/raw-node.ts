/** The other end of a connection under a test's hand: says what it is told to, byte by byte, by the layout in src/rdma/tcp/handshake.ts. */
import { createHmac, randomBytes } from 'node:crypto'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { SECRET } from '../../../support/tcp-nodes.ts'

export interface RawHello {
  readonly magic?: string
  readonly min?: number
  readonly max?: number
  readonly agreed?: number
  readonly from?: number
  readonly to?: number
  readonly incarnation?: string
}

export function rawHello({
  magic = 'TIDENODE',
  min = 1,
  max = 1,
  agreed = 0,
  from = 2,
  to = 1,
  incarnation = '00000000000000b2',
}: RawHello = {}): Buffer {
  const bytes = Buffer.alloc(64)
  bytes.write(magic, 0, 'latin1')
  bytes.writeUInt16BE(min, 8)
  bytes.writeUInt16BE(max, 10)
  bytes.writeUInt16BE(agreed, 12)
  bytes.writeUInt32BE(from, 16)
  bytes.writeUInt32BE(to, 20)
  bytes.write(incarnation, 24, 'hex')
  randomBytes(32).copy(bytes, 32)
  return bytes
}

export function rawProof(role: 'connects' | 'is connected to', hellos: readonly Uint8Array[], secret = SECRET): Buffer {
  const hmac = createHmac('sha256', secret).update(`tidegate node ${role}`)
  for (const hello of hellos) hmac.update(hello)
  return hmac.digest()
}

/** A socket whose bytes are waited for by number. */
export class RawSocket {
  readonly socket: Socket
  readonly #closed = Promise.withResolvers<void>()
  #held: Buffer = Buffer.alloc(0)
  #wake: () => void = () => undefined
  #isClosed = false

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#held = Buffer.concat([this.#held, chunk])
      this.#wake()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#isClosed = true
      this.#closed.resolve()
      this.#wake()
    })
  }

  static to(address: string): RawSocket {
    const [host, port] = address.split(':')
    return new RawSocket(connect({ host: host ?? '', port: Number(port) }))
  }

  /** Everything that has come and was not taken. */
  get held(): Buffer {
    return this.#held
  }

  get closed(): Promise<void> {
    return this.#closed.promise
  }

  write(bytes: Uint8Array): this {
    this.socket.write(bytes)
    return this
  }

  /** Fewer when the other end has closed. */
  async take(count: number): Promise<Buffer> {
    while (this.#held.length < count && !this.#isClosed) await new Promise<void>((resolve) => (this.#wake = resolve))
    const taken = this.#held.subarray(0, count)
    this.#held = this.#held.subarray(count)
    return taken
  }

  /** As the one who connects, in good order. */
  async proveConnecting(said: RawHello = {}): Promise<this> {
    const ours = rawHello(said)
    const theirs = await this.write(ours).take(64)
    this.write(rawProof('connects', [ours, theirs]))
    const proof = await this.take(32)
    if (!proof.equals(rawProof('is connected to', [ours, theirs]))) throw new Error('the node did not prove itself')
    return this
  }

  /** As the one who is connected to, in good order. */
  async proveConnected(said: RawHello = {}): Promise<this> {
    const theirs = await this.take(64)
    const ours = rawHello({ agreed: 1, ...said })
    const proof = await this.write(ours).take(32)
    if (!proof.equals(rawProof('connects', [theirs, ours]))) throw new Error('the node did not prove itself')
    return this.write(rawProof('is connected to', [theirs, ours]))
  }
}

/** Listens, and does with each connection what the test says. */
export class RawListener {
  readonly sockets: RawSocket[] = []
  readonly #server: Server

  constructor(onSocket: (socket: RawSocket) => unknown) {
    this.#server = createServer((socket) => {
      const raw = new RawSocket(socket)
      this.sockets.push(raw)
      void Promise.resolve(onSocket(raw)).catch(() => undefined)
    })
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async stop(): Promise<void> {
    for (const { socket } of this.sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}
