/**
 * HTTP/1.1 by hand over a plain socket: for requests that no client library would send. What comes back is parsed
 * strictly, since a broken answer is one of the things looked for.
 */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

const ANSWER_MS_MAX = 30_000
const CLOSE_MS_MAX = 30_000

export interface RawResponse {
  readonly status: number
  /** Names in lower case; of a repeated one the last counts. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

/** `<Code>` of an S3 error document; empty when there is none. */
export function errorCodeOf(response: RawResponse): string {
  return /<Code>(?<code>[^<]*)<\/Code>/.exec(response.body.toString())?.groups?.['code'] ?? ''
}

/** Status and error code in one word, as tests compare them: `403 AccessDenied`. */
export function outcomeOf(response: RawResponse): string {
  return `${response.status} ${errorCodeOf(response)}`.trim()
}

export interface RequestHead {
  readonly method: string
  readonly target: string
  readonly headers: Readonly<Record<string, string>>
}

/** The head as it goes over the wire. Latin-1, so that a test can put any byte into it. */
export function headBytes(head: RequestHead): Buffer {
  const lines = Object.entries(head.headers).map(([name, value]) => `${name}: ${value}\r\n`)
  return Buffer.from(`${head.method} ${head.target} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1')
}

export class RawConnection {
  readonly socket: Socket
  #chunks: Buffer[] = []
  #receivedBytes = 0
  #ended = false
  #wake: () => void = () => undefined

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk)
      this.#receivedBytes += chunk.length
      this.#wake()
    })
    // A reset is one way in which a server may end a connection; what came before it counts.
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#ended = true
      this.#wake()
    })
    socket.on('end', () => {
      this.#ended = true
      this.#wake()
    })
  }

  static async open(origin: string): Promise<RawConnection> {
    const { hostname, port } = new URL(origin)
    const socket = connect({ host: hostname, port: Number(port), noDelay: true })
    await once(socket, 'connect')
    return new RawConnection(socket)
  }

  /** Resolves when the bytes are with the kernel, or the connection is gone. */
  send(...pieces: readonly (string | Uint8Array)[]): Promise<void> {
    return new Promise((resolve) => {
      if (this.socket.destroyed || !this.socket.writable) return resolve()
      this.socket.once('close', () => resolve())
      const bytes = pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece))
      this.socket.write(Buffer.concat(bytes), () => resolve())
    })
  }

  /** The next answer, interim ones (1xx) included. @throws Error when none comes, or it is malformed */
  async response(options: { bodyless?: boolean } = {}): Promise<RawResponse> {
    const head = await this.#through('\r\n\r\n')
    const [statusLine = '', ...lines] = head.toString('latin1').slice(0, -4).split('\r\n')
    const status = Number(/^HTTP\/1\.1 (?<status>\d{3})(?: |$)/.exec(statusLine)?.groups?.['status'])
    if (!Number.isInteger(status)) throw new Error(`not a status line: ${statusLine}`)
    const headers: Record<string, string> = {}
    for (const line of lines) {
      const colon = line.indexOf(':')
      if (colon < 1) throw new Error(`not a header: ${line}`)
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim()
    }
    const none = options.bodyless === true || status < 200 || status === 204 || status === 304
    return { status, headers, body: none ? Buffer.alloc(0) : await this.#body(headers) }
  }

  /** Whether nothing was received beyond the answers that were read. */
  get isQuiet(): boolean {
    return this.#receivedBytes === 0
  }

  /** Resolves when the other side has closed. @throws Error when it does not */
  async closed(timeoutMs: number = CLOSE_MS_MAX): Promise<void> {
    const deadlineMs = Date.now() + timeoutMs
    while (!this.#ended) await this.#news(deadlineMs, 'the connection stayed open')
    this.destroy()
  }

  /** Resolves with the first byte, the end, or after this time: for requests that need not be answered. */
  async anything(timeoutMs: number): Promise<void> {
    if (this.#ended || this.#receivedBytes > 0) return
    await this.#news(Date.now() + timeoutMs, 'nothing came').catch(() => undefined)
  }

  /** Closes without a farewell, as a client does that has died. */
  destroy(): void {
    this.socket.destroy()
  }

  async #body(headers: Readonly<Record<string, string>>): Promise<Buffer> {
    if (headers['transfer-encoding']?.toLowerCase() === 'chunked') return this.#chunkedBody()
    const length = headers['content-length']
    if (length !== undefined) return this.#take(Number(length))
    const deadlineMs = Date.now() + ANSWER_MS_MAX
    while (!this.#ended) await this.#news(deadlineMs, 'a body without a length did not end')
    return this.#take(this.#receivedBytes)
  }

  async #chunkedBody(): Promise<Buffer> {
    const chunks: Buffer[] = []
    for (;;) {
      const size = Number.parseInt((await this.#through('\r\n')).toString(), 16)
      const chunk = await this.#take(size + 2)
      if (size === 0) return Buffer.concat(chunks)
      chunks.push(chunk.subarray(0, size))
    }
  }

  async #through(mark: string): Promise<Buffer> {
    const deadlineMs = Date.now() + ANSWER_MS_MAX
    for (;;) {
      const at = this.#joined().indexOf(mark)
      if (at >= 0) return this.#take(at + mark.length)
      if (this.#ended) throw new Error(`closed after ${JSON.stringify(this.#joined().toString('latin1'))}`)
      await this.#news(deadlineMs, 'no answer')
    }
  }

  async #take(length: number): Promise<Buffer> {
    const deadlineMs = Date.now() + ANSWER_MS_MAX
    while (this.#receivedBytes < length) {
      if (this.#ended) throw new Error(`closed ${length - this.#receivedBytes} bytes before the end of a body`)
      await this.#news(deadlineMs, 'the rest of a body did not come')
    }
    const all = this.#joined()
    this.#chunks = [all.subarray(length)]
    this.#receivedBytes -= length
    return all.subarray(0, length)
  }

  #joined(): Buffer {
    const all = this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks)
    this.#chunks = [all ?? Buffer.alloc(0)]
    return this.#chunks[0] ?? Buffer.alloc(0)
  }

  #news(deadlineMs: number, otherwise: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(otherwise)), Math.max(0, deadlineMs - Date.now()))
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}
