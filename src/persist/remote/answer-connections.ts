/** Connections of `AnswerConnection`, kept for the next request. How many there are is bounded by who asks: one for each call. */
import { assert } from '../../common/assert.ts'
import { LengthMissing, AnswerConnection, type Answer, type Origin, type Sink } from './answer-connection.ts'

/** A request as the SDK has signed it. */
export interface SignedRequest {
  readonly protocol: string
  readonly hostname: string
  readonly port?: number | undefined
  readonly path: string
  readonly query?: Readonly<Record<string, string | readonly string[] | null>> | undefined
  readonly headers: Readonly<Record<string, string>>
}

const IDLE_MAX = 32

export class AnswerConnections {
  /** Of an origin, the one used last at the end: its congestion window is wide. */
  readonly #idle = new Map<string, AnswerConnection[]>()
  readonly #all = new Set<AnswerConnection>()
  #areUsable = true

  /** False once an answer came that cannot be read here: such a store, or what stands before it, will give more of them. */
  get areUsable(): boolean {
    return this.#areUsable
  }

  /** Asks, and pours a body of data into the sink. What it was poured into is not touched any more once this settled. */
  async get(request: SignedRequest, sink: Sink, signal: AbortSignal): Promise<Answer> {
    const origin = originOf(request)
    const head = requestHead(request)
    const key = `${origin.isTls} ${origin.host} ${origin.port}`
    for (;;) {
      // The SDK does not heed its signal at every step: what comes too late opens no connection, which nobody would close.
      signal.throwIfAborted()
      const connection = this.#idleOf(key) ?? this.#open(origin)
      try {
        const answer = await connection.get(head, sink, signal)
        this.#keep(key, connection)
        return answer
      } catch (error) {
        if (error instanceof LengthMissing) this.#areUsable = false
        // Nothing was answered on a connection that had been idle: that says nothing about the store.
        if (!connection.isStale) throw error
      }
    }
  }

  /** Whatever is under way fails. */
  destroy(): void {
    for (const connection of this.#all) connection.destroy()
    this.#idle.clear()
  }

  #idleOf(key: string): AnswerConnection | undefined {
    const idle = this.#idle.get(key)
    for (let last = idle?.pop(); last; last = idle?.pop()) if (last.isIdle) return last
    return undefined
  }

  #open(origin: Origin): AnswerConnection {
    const connection = new AnswerConnection(origin, () => void this.#all.delete(connection))
    this.#all.add(connection)
    return connection
  }

  #keep(key: string, connection: AnswerConnection): void {
    if (!connection.isIdle) return
    const idle = this.#idle.get(key) ?? []
    this.#idle.set(key, idle)
    if (idle.length < IDLE_MAX) idle.push(connection)
    else connection.destroy()
  }
}

function originOf({ protocol, hostname, port }: SignedRequest): Origin {
  const isTls = protocol === 'https:'
  // An IPv6 address stands in brackets in a URL.
  return { isTls, host: hostname.replace(/^\[(.*)\]$/, '$1'), port: port ?? (isTls ? 443 : 80) }
}

function requestHead({ path, query = {}, headers }: SignedRequest): string {
  const parameters = Object.entries(query).flatMap(([name, value]) =>
    value === null ? [escapeUri(name)] : [value].flat().map((one) => `${escapeUri(name)}=${escapeUri(one)}`),
  )
  const target = parameters.length === 0 ? path : `${path}?${parameters.join('&')}`
  const lines = [`GET ${target} HTTP/1.1`, ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`)]
  assert(!lines.some((line) => /[\r\n]/.test(line)), 'a line of the request is one line')
  return `${lines.join('\r\n')}\r\n\r\n`
}

/** As it was signed. */
function escapeUri(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`)
}
