import { performance } from 'node:perf_hooks'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Exchange } from './types.ts'

/**
 * One request's way through a door. Beside what doors see (types.ts) it looks after the connection: one that may hold
 * bytes of a body nobody has read is never used for a further request, since they would be taken for its head
 * (SECURITY-LESSONS 5.1, 13).
 */
export class DoorExchange implements Exchange {
  readonly requestId: string
  readonly startedMs: number = performance.now()
  readonly request: IncomingMessage
  readonly response: ServerResponse
  operation = 'Unknown'
  principalId = ''
  errorCode: string | undefined = undefined
  bytesIn = 0
  bytesOut = 0
  /** The client waits for a 100 before it sends its body. */
  #continueExpected: boolean

  constructor(requestId: string, request: IncomingMessage, response: ServerResponse, continueExpected: boolean) {
    this.requestId = requestId
    this.request = request
    this.response = response
    this.#continueExpected = continueExpected
    if (continueExpected || hasBody(request)) this.#closeUnlessRead()
  }

  sendContinue(): void {
    if (!this.#continueExpected || this.response.headersSent) return
    this.#continueExpected = false
    this.response.writeContinue()
  }

  /** Decides when the head is written: by then a door has either read the body or chosen not to. */
  #closeUnlessRead(): void {
    const { request, response } = this
    const writeHead = response.writeHead.bind(response) as (...head: unknown[]) => ServerResponse
    response.writeHead = (...head: unknown[]): ServerResponse => {
      // Some clients send no body after an early answer in place of 100, others do: the connection cannot be told.
      if (this.#continueExpected || !request.complete) closeGently(request, response)
      return writeHead(...head)
    }
  }
}

/** How long, and how many bytes, a client that was answered early may go on sending before it is cut off. */
const LINGER_MS = 2_000
const LINGER_BYTES_MAX = 64 * 1024 * 1024

/**
 * No further request on this connection; and it is closed so that the client gets to read the answer. Closing while its
 * bytes still arrive would make the kernel send a reset, which discards the answer on the client's side: so our half is
 * closed, and what still comes is read and dropped for a while.
 */
function closeGently(request: IncomingMessage, response: ServerResponse): void {
  const { socket } = request
  response.shouldKeepAlive = false
  // What Node calls once the answer is written.
  socket.destroySoon = () => {
    const bytesBefore = socket.bytesRead
    const cut = (): void => void socket.destroy()
    const timer = setTimeout(cut, LINGER_MS)
    socket.on('data', () => {
      if (socket.bytesRead - bytesBefore > LINGER_BYTES_MAX) cut()
    })
    socket.once('end', cut)
    socket.once('close', () => clearTimeout(timer))
    socket.end()
    request.resume()
  }
}

function hasBody(request: IncomingMessage): boolean {
  const { headers } = request
  return headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0'
}
