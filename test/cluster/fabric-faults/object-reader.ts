/**
 * A client that reads ranges of the object from one gateway and holds every byte against what it must be. A GET that is refused or breaks is asked for again from where it broke, as clients do;
 * one that hangs, or is answered with anything that a fault of a peer is no reason for, ends the reading.
 */
import { request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { GatewayDoors } from '../../support/gateway-process.ts'
import { signCall } from '../../support/signed-calls.ts'
import type { KnownContent } from './known-content.ts'

/**
 * The longest that a GET may go without a byte and without an error. A gateway tries 10 s where another node alone has the bytes (cache-tier/neighbours/neighbour-level.ts); else it asks the
 * owner, 4 s at most, and then the remote store, which has 10 s and the time of the bytes. The rest is for a machine that is busy with other things.
 */
export const STALL_MS_MAX = 20_000
const LOOK_EVERY_MS = 200
const RETRY_MS = 150
const ERROR_TEXT_MAX = 300

export class BrokenRead extends Error {
  readonly wrongBytes: number

  constructor(message: string, { wrongBytes = 0, ...options }: ErrorOptions & { readonly wrongBytes?: number } = {}) {
    super(message, options)
    this.wrongBytes = wrongBytes
  }
}

export interface ReadCounts {
  gets: number
  bytes: number
  wrongBytes: number
  /** Those that the client saw: `503 SlowDown`, `broken off`. */
  readonly errors: Record<string, number>
  longestStallMs: number
}

export interface ObjectReaderOptions {
  readonly doors: () => GatewayDoors
  /** As in a request: `/bucket/key`. */
  readonly target: string
  readonly content: KnownContent
  /** For how long the gateway itself was stopped by the test, since some moment: no byte can come then. */
  readonly excusedMs: () => number
}

export interface ByteRange {
  readonly from: number
  /** Not included. */
  readonly to: number
}

export interface ReadOptions {
  /** Of performance.now(): it is through by then, however often it broke. */
  readonly deadlineMs: number
  /** Called with the offset that it has got to. */
  readonly onBytes?: ((offset: number) => void) | undefined
  /** Aborted: what is left is not asked for. */
  readonly signal: AbortSignal
}

export class ObjectReader {
  readonly counts: ReadCounts = { gets: 0, bytes: 0, wrongBytes: 0, errors: {}, longestStallMs: 0 }
  readonly #options: ObjectReaderOptions

  constructor(options: ObjectReaderOptions) {
    this.#options = options
  }

  /** @throws BrokenRead: a wrong byte, a hang, an answer that nothing excuses */
  async read(range: ByteRange, { deadlineMs, onBytes, signal }: ReadOptions): Promise<void> {
    let offset = range.from
    const took = (bytes: number): void => onBytes?.((offset += bytes))
    const advance = onBytes ? took : (bytes: number): void => void (offset += bytes)
    while (offset < range.to && !signal.aborted) {
      const error = await this.#get({ from: offset, to: range.to }, advance, signal)
      if (error === undefined) continue
      this.counts.errors[error] = (this.counts.errors[error] ?? 0) + 1
      if (performance.now() > deadlineMs)
        throw new BrokenRead(`from ${offset} on it could not be read in time: ${JSON.stringify(this.counts.errors)}`)
      await sleep(RETRY_MS)
    }
  }

  /** @returns what went wrong that may; then it is asked for again */
  #get(range: ByteRange, took: (bytes: number) => void, signal: AbortSignal): Promise<string | undefined> {
    const { doors, target } = this.#options
    const gateway = doors()
    const headers = { range: `bytes=${range.from}-${range.to - 1}` }
    const signed = signCall(gateway, { method: 'GET', target, headers })
    const { hostname, port } = new URL(gateway.s3)
    this.counts.gets++
    return new Promise((resolve, reject) => {
      const request = httpRequest({
        hostname,
        port,
        method: 'GET',
        path: target,
        headers: signed.headers,
        agent: false,
      })
      const watch = this.#watch(request)
      const settled = (outcome: string | undefined | BrokenRead): void => {
        watch.stop()
        signal.removeEventListener('abort', ended)
        if (outcome instanceof BrokenRead) reject(outcome)
        else resolve(outcome)
        request.destroy()
      }
      const ended = (): void => settled(undefined)
      signal.addEventListener('abort', ended)
      const broke = (error: NodeJS.ErrnoException): void =>
        settled(error instanceof BrokenRead || error.code === 'ECONNREFUSED' ? fatal(error) : 'broken off')
      request.once('error', broke)
      request.once('response', (response) => {
        response.once('error', broke)
        if (response.statusCode === 206) this.#take(response, range, { took, moved: watch.moved, settled })
        else refusal(response).then(settled, broke)
      })
      request.end()
    })
  }

  #take(
    response: IncomingMessage,
    range: ByteRange,
    on: {
      readonly took: (bytes: number) => void
      readonly moved: () => void
      readonly settled: (outcome: string | undefined | BrokenRead) => void
    },
  ): void {
    let offset = range.from
    const said = response.headers['content-range']
    if (said?.startsWith(`bytes ${range.from}-${range.to - 1}/`) !== true)
      return on.settled(new BrokenRead(`asked for ${range.from} to ${range.to}, answered ${said ?? 'no range'}`))
    response.on('data', (chunk: Buffer) => {
      on.moved()
      const mismatch = this.#options.content.compare(offset, chunk)
      if (mismatch) {
        const { wrongBytes, found } = mismatch
        this.counts.wrongBytes += wrongBytes
        on.settled(new BrokenRead(`${wrongBytes} wrong bytes from ${mismatch.offset} on: ${found}`, { wrongBytes }))
        return
      }
      offset += chunk.length
      this.counts.bytes += chunk.length
      on.took(chunk.length)
    })
    response.once('end', () => {
      if (offset !== range.to) on.settled(new BrokenRead(`it ended well at ${offset} instead of ${range.to}`))
      else on.settled(undefined)
    })
  }

  /** Destroys the request when nothing comes for too long. */
  #watch(request: ClientRequest): { readonly moved: () => void; readonly stop: () => void } {
    let since = this.#now()
    const look = (): number => {
      const stallMs = this.#now() - since
      this.counts.longestStallMs = Math.max(this.counts.longestStallMs, stallMs)
      return stallMs
    }
    const timer = setInterval(() => {
      const stallMs = look()
      if (stallMs > STALL_MS_MAX) request.destroy(new BrokenRead(`no byte and no error for ${Math.round(stallMs)} ms`))
    }, LOOK_EVERY_MS)
    return {
      moved: () => {
        look()
        since = this.#now()
      },
      stop: () => {
        clearInterval(timer)
        look()
      },
    }
  }

  /** Stands still while the gateway is made to. */
  #now(): number {
    return performance.now() - this.#options.excusedMs()
  }
}

function fatal(error: Error): BrokenRead {
  return error instanceof BrokenRead ? error : new BrokenRead(`the gateway is gone: ${error.message}`, { cause: error })
}

/** 503 is what a client is told while a node is away; all else says something that is not true. */
async function refusal(response: IncomingMessage): Promise<string | BrokenRead> {
  response.setEncoding('utf8')
  let text = ''
  for await (const chunk of response) text += chunk as string
  const code = /<Code>(?<code>\w+)<\/Code>/.exec(text)?.groups?.['code'] ?? 'no code'
  const status = response.statusCode ?? 0
  return status === 503 ? `503 ${code}` : new BrokenRead(`answered ${status}: ${text.slice(0, ERROR_TEXT_MAX)}`)
}
