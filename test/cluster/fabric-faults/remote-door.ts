/**
 * What stands before the remote store of a test: reads pass and are counted; while it is *held*, nothing that would change the store does, so what a gateway has not carried by then stays dirty there,
 * also when the gateway is another process in the meantime. Requests are passed on as they are (`Host` too, since clients sign it).
 */
import { once } from 'node:events'
import {
  Agent,
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'

const READING: ReadonlySet<string | undefined> = new Set(['GET', 'HEAD'])
/** Which a gateway makes when it starts, to learn what the store can do. */
const PROBES = '/probes/'
const REFUSAL =
  '<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Nothing is taken now.</Message></Error>'

export class RemoteDoor {
  isHeld = false
  /** Bodies of answers to reads. */
  bytesRead = 0
  refused = 0
  readonly #target: URL
  readonly #server: Server
  readonly #agent = new Agent({ keepAlive: true })

  constructor(target: string) {
    this.#target = new URL(target)
    this.#server = createServer({ requestTimeout: 0 }, (request, response) => this.#handle(request, response))
    this.#server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      if (!this.#isRefused(request)) response.writeContinue()
      this.#handle(request, response)
    })
    this.#server.on('connection', (socket) => socket.on('error', () => undefined))
  }

  async start(): Promise<void> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
  }

  /** In place of the target's. */
  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async stop(): Promise<void> {
    this.#server.close()
    this.#server.closeAllConnections()
    this.#agent.destroy()
    if (this.#server.listening) await once(this.#server, 'close')
  }

  #isRefused({ method, url = '' }: IncomingMessage): boolean {
    return this.isHeld && !READING.has(method) && !url.includes(PROBES)
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    request.on('error', () => undefined)
    response.on('error', () => undefined)
    if (this.#isRefused(request)) {
      this.refused++
      // The body would be large, and of no use: the connection ends with the answer.
      response.writeHead(503, { 'content-type': 'application/xml', connection: 'close' }).end(REFUSAL)
      return
    }
    const { expect: _, ...headers } = request.headers
    const { hostname, port } = this.#target
    const { method, url: path } = request
    const onward = httpRequest({ hostname, port, method, path, headers, agent: this.#agent }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.rawHeaders)
      if (method === 'GET') answer.on('data', ({ length }: Buffer) => (this.bytesRead += length))
      answer.on('error', () => response.destroy())
      answer.pipe(response)
      response.once('close', () => answer.destroy())
    })
    onward.on('error', () => response.destroy())
    response.once('close', () => {
      if (!response.writableFinished) onward.destroy()
    })
    request.pipe(onward)
  }
}
