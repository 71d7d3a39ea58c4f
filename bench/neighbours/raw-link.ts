/** The least that two processes can do over a socket: a question of some bytes, and as many bytes back as it says. For what calls between nodes are held against. */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { must } from '../../src/common/assert.ts'

/** About what a question for a block takes with its frame. */
const QUESTION_BYTES = 56

/** Answers are slices of `bytes`. @returns the port that it listens on */
export async function serveRaw(bytes: Uint8Array): Promise<number> {
  const server = createServer({ noDelay: true }, (socket) => {
    let held: Buffer<ArrayBufferLike> = Buffer.alloc(0)
    socket.on('error', () => socket.destroy())
    socket.on('data', (chunk: Buffer) => {
      held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
      let at = 0
      for (; at + QUESTION_BYTES <= held.length; at += QUESTION_BYTES)
        socket.write(bytes.subarray(0, held.readUInt32LE(at)))
      held = held.subarray(at)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** Into chunks that Node makes, or into one buffer, again and again. */
type Reading = 'chunks' | 'one buffer'

const READ_BYTES = 256 * 1024

interface Waiting {
  readonly into: Uint8Array
  readonly resolve: () => void
  at: number
}

/** Many questions may be under way; answers come in their order. */
export class RawClient {
  readonly #socket: Socket
  readonly #waiting: Waiting[] = []

  private constructor(port: number, reading: Reading) {
    const address = { host: '127.0.0.1', port, noDelay: true }
    if (reading === 'chunks') {
      this.#socket = connect(address)
      this.#socket.on('data', (chunk: Buffer) => this.#take(chunk))
      return
    }
    const buffer = Buffer.alloc(READ_BYTES)
    const callback = (bytes: number): boolean => {
      this.#take(buffer.subarray(0, bytes))
      return true
    }
    this.#socket = connect({ ...address, onread: { buffer, callback } })
  }

  static async connect(port: number, reading: Reading): Promise<RawClient> {
    const client = new RawClient(port, reading)
    await once(client.#socket, 'connect')
    return client
  }

  /** Fills `into`. */
  ask(into: Uint8Array): Promise<void> {
    const question = Buffer.alloc(QUESTION_BYTES)
    question.writeUInt32LE(into.length, 0)
    this.#socket.write(question)
    return new Promise((resolve) => this.#waiting.push({ into, resolve, at: 0 }))
  }

  close(): void {
    this.#socket.destroy()
  }

  #take(chunk: Buffer): void {
    for (let at = 0; at < chunk.length;) {
      const first = must(this.#waiting[0], 'a question for what came')
      const count = Math.min(chunk.length - at, first.into.length - first.at)
      first.into.set(chunk.subarray(at, at + count), first.at)
      first.at += count
      at += count
      if (first.at < first.into.length) continue
      this.#waiting.shift()
      first.resolve()
    }
  }
}
