/**
 * One member of the cluster, by its endpoint: a channel that connects in the background, and calls over it. A call is only handed to a channel that is
 * connected, so that one which was never sent is known as such.
 *
 * A partition that swallows packets is noticed by pings on connections that carry a call. etcd closes connections that ping more often than every 5
 * seconds, or without a call (`--grpc-keepalive-min-time`).
 */
import { Client, Metadata, connectivityState, credentials as grpcCredentials } from '@grpc/grpc-js'
import type { ClientDuplexStream, ClientReadableStream } from '@grpc/grpc-js'
import { must } from '../../../common/assert.ts'
import type { Clock } from '../../../common/clock.ts'
import { Connecting } from './connecting.ts'
import { memberFailure, unsent } from './failures.ts'
import type { MemberFailure } from './failures.ts'
import type { Certificates } from './credentials.ts'
import type { Method } from './messages.ts'

const PING_EVERY_MS = 6_000
const PING_TIMEOUT_MS = 2_000
const RECONNECT_MS = { first: 100, most: 2_000 }
/** How long a member that did not answer is left alone: the first time, and at most. */
const REST_MS = { first: 500, most: 10_000 }

const CHANNEL_OPTIONS = {
  // An answer is as long as the caller's limit makes it; a watch's comes in parts.
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  'grpc.keepalive_time_ms': PING_EVERY_MS,
  'grpc.keepalive_timeout_ms': PING_TIMEOUT_MS,
  'grpc.keepalive_permit_without_calls': 0,
  'grpc.initial_reconnect_backoff_ms': RECONNECT_MS.first,
  'grpc.max_reconnect_backoff_ms': RECONNECT_MS.most,
  'grpc.use_local_subchannel_pool': 1,
  // Members are neighbours: nothing to them goes through a proxy that the environment names for the outside world.
  'grpc.enable_http_proxy': 0,
  // Only what HTTP/2 says was not looked at is sent again, by the transport itself.
  'grpc.service_config_disable_resolution': 1,
}

const PLAIN = { credentials: grpcCredentials.createInsecure(), channelOptions: {} }

export interface CallOptions {
  readonly timeoutMs: number
  readonly token?: string | undefined
  /** A member that knows no leader is to say so at once, and to end streams when it loses it. */
  readonly requireLeader?: boolean | undefined
}

interface StreamOptions extends Omit<CallOptions, 'timeoutMs'> {
  readonly timeoutMs?: number | undefined
}

export class Member {
  readonly endpoint: string
  readonly #address: string
  readonly #host: string
  readonly #certificates: Certificates | undefined
  readonly #clock: Clock
  readonly #underWay = new Set<{ cancel(): void }>()
  #client: Client | undefined
  #connecting: Connecting | undefined
  #isClosed = false
  #generation = 0
  #restUntilMs = -Infinity
  #restMs = REST_MS.first

  /** `endpoint`: `http://host:port`, or `https:` with certificates. */
  constructor(endpoint: string, options: { certificates: Certificates; clock: Clock }) {
    const url = new URL(endpoint)
    this.endpoint = endpoint
    this.#host = url.hostname.replace(/^\[(.*)\]$/, '$1')
    this.#address = `dns:${url.hostname}:${url.port === '' ? '2379' : url.port}`
    this.#certificates = url.protocol === 'https:' ? options.certificates : undefined
    this.#clock = options.clock
  }

  /** Connected, as far as is known; otherwise it is connecting from now on. */
  isReady(): boolean {
    if (this.#isClosed) return false
    return this.#inContext((client) => client.getChannel().getConnectivityState(true)) === connectivityState.READY
  }

  isResting(): boolean {
    return this.#clock.monotonicMs() < this.#restUntilMs
  }

  get restUntilMs(): number {
    return this.#restUntilMs
  }

  /** It did not answer: it is left alone for a moment, longer each time. */
  rest(): void {
    this.#restUntilMs = this.#clock.monotonicMs() + this.#restMs
    this.#restMs = Math.min(REST_MS.most, this.#restMs * 2)
  }

  answered(): void {
    this.#restUntilMs = -Infinity
    this.#restMs = REST_MS.first
  }

  /** Whether it is connected within that time. */
  connected(withinMs: number): Promise<boolean> {
    const deadlineMs = Date.now() + withinMs
    return new Promise((resolve) => {
      const wait = { cancel: () => resolve(false) }
      const settle = (isConnected: boolean): void => {
        this.#underWay.delete(wait)
        resolve(isConnected)
      }
      // Not `waitForReady`: it asks a channel that is closed to connect, which then does.
      const look = (late?: Error): void => {
        try {
          if (late !== undefined || this.#isClosed) return settle(false)
          if (this.isReady()) return settle(true)
          this.#inContext((client) => {
            const channel = client.getChannel()
            channel.watchConnectivityState(channel.getConnectivityState(false), deadlineMs, look)
          })
        } catch {
          settle(false)
        }
      }
      this.#underWay.add(wait)
      look()
    })
  }

  /** @throws MemberFailure */
  call<Request, Response>(
    method: Method<Request, Response>,
    message: Partial<Request>,
    options: CallOptions,
  ): Promise<Response> {
    if (!this.isReady()) return Promise.reject(this.#notConnected())
    return new Promise((resolve, reject) => {
      const { path, encode, decode } = method
      const deadline = Date.now() + options.timeoutMs
      const call = this.#inContext((client) =>
        client.makeUnaryRequest(path, encode, decode, message, metadataOf(options), { deadline }, (error, response) => {
          this.#underWay.delete(call)
          if (error !== null) reject(memberFailure(this.endpoint, error))
          else resolve(response as Response)
        }),
      )
      this.#underWay.add(call)
    })
  }

  /** One message there, many back. Whoever opens it listens, for errors too. @throws MemberFailure */
  download<Request, Response>(
    method: Method<Request, Response>,
    message: Partial<Request>,
    options: CallOptions,
  ): ClientReadableStream<Response> {
    if (!this.isReady()) throw this.#notConnected()
    const deadline = Date.now() + options.timeoutMs
    const { path, encode, decode } = method
    return this.#kept(
      this.#inContext((client) =>
        client.makeServerStreamRequest(path, encode, decode, message, metadataOf(options), { deadline }),
      ),
    )
  }

  /** Whoever opens it listens, for errors too, and cancels it: without `timeoutMs` it has no end. @throws MemberFailure */
  stream<Request, Response>(
    method: Method<Request, Response>,
    options: StreamOptions,
  ): ClientDuplexStream<Partial<Request>, Response> {
    if (!this.isReady()) throw this.#notConnected()
    const { path, encode, decode } = method
    const deadline = options.timeoutMs === undefined ? Infinity : Date.now() + options.timeoutMs
    return this.#kept(
      this.#inContext((client) =>
        client.makeBidiStreamRequest(path, encode, decode, metadataOf(options), { deadline }),
      ),
    )
  }

  /** What is under way fails. For good. */
  close(): void {
    this.#isClosed = true
    for (const call of this.#underWay) call.cancel()
    this.#client?.close()
    this.#connecting?.end()
    this.#client = undefined
  }

  /** Everything that may make the channel connect. @throws MemberFailure */
  #inContext<T>(work: (client: Client) => T): T {
    const client = this.#channel()
    return must(this.#connecting, 'connections of a channel').during(() => work(client))
  }

  /** A new one when the certificates have changed; calls that are under way end on the old one. @throws MemberFailure */
  #channel(): Client {
    const generation = this.#certificates?.generation() ?? 0
    if (this.#client !== undefined && generation === this.#generation) return this.#client
    this.#generation = generation
    try {
      const { credentials, channelOptions } = this.#certificates?.credentials(this.#host) ?? PLAIN
      const client = new Client(this.#address, credentials, { ...CHANNEL_OPTIONS, ...channelOptions })
      const [oldClient, oldConnecting] = [this.#client, this.#connecting]
      this.#client = client
      this.#connecting = new Connecting(this.#clock)
      oldClient?.close()
      oldConnecting?.end()
    } catch (error) {
      // Files that are being replaced, one after the other: they change once more.
      if (this.#client === undefined) throw unsent(`${this.endpoint}: ${(error as Error).message}`)
    }
    return this.#client
  }

  #kept<Call extends { cancel(): void; on(event: 'status', listener: () => void): unknown }>(call: Call): Call {
    this.#underWay.add(call)
    call.on('status', () => this.#underWay.delete(call))
    return call
  }

  failure(error: unknown): MemberFailure {
    return memberFailure(this.endpoint, error)
  }

  #notConnected(): MemberFailure {
    return unsent(`${this.endpoint}: not connected`)
  }
}

function metadataOf(options: StreamOptions): Metadata {
  const metadata = new Metadata()
  if (options.token !== undefined) metadata.set('token', options.token)
  if (options.requireLeader === true) metadata.set('hasleader', 'true')
  return metadata
}
