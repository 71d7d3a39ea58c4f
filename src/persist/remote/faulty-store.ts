/**
 * A remote store that fails on purpose, around any other: what tests and drills put in front of the real one.
 *
 * The kinds of failure, as seen from the caller:
 *
 *   unavailable, slow-down, denied,       answered without anything done: 503 ServiceUnavailable, 503 SlowDown, 403 AccessDenied,
 *   conflict, precondition                409 ConditionalRequestConflict, 412 PreconditionFailed
 *   torn                                  the connection breaks midway. An upload leaves nothing, for a store never shows a part; a read
 *                                         has scribbled over some of the caller's buffers by then
 *   lost-acknowledgement                  everything is done, and an error is answered
 *
 * They come by switch (`down`, `revoked`), at the n-th call of a method from now (`failNth`), or by chance. Every call, failing ones too,
 * first takes `latencyMs`.
 */
import { unreachable } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { TidegateError, type ErrorCode } from '../../common/errors.ts'
import type { ReadControl, RemoteCapabilities, RemoteObject, RemoteStore } from './ports.ts'

export type RemoteMethod =
  | 'connect'
  | 'put'
  | 'putFile'
  | 'get'
  | 'read'
  | 'stat'
  | 'list'
  | 'remove'
  | 'abandonUploads'

export type RemoteFault =
  | 'unavailable'
  | 'slow-down'
  | 'denied'
  | 'conflict'
  | 'precondition'
  | 'torn'
  | 'lost-acknowledgement'

/** What fails at the moment. Changed at run time by whoever holds the store. */
export interface RemoteFaults {
  /** Nothing is answered but 503. */
  down: boolean
  /** The credentials were revoked: everything is answered with 403. */
  revoked: boolean
  /** Share of calls that fail, 0 to 1, each with one of `chanceKinds`. */
  chance: number
  chanceKinds: readonly RemoteFault[]
  /** Before each call. */
  latencyMs: () => number
}

const SCRIBBLE = 0xa5

export class FaultyStore implements RemoteStore {
  readonly faults: RemoteFaults = {
    down: false,
    revoked: false,
    chance: 0,
    chanceKinds: ['unavailable'],
    latencyMs: () => 0,
  }
  readonly #inner: RemoteStore
  readonly #clock: Clock
  readonly #random: () => number
  readonly #planned: { method: RemoteMethod; callsLeft: number; kind: RemoteFault }[] = []
  readonly #calls = new Map<RemoteMethod, number>()
  #failures = 0

  /** `random` gives numbers from 0 to below 1. */
  constructor(inner: RemoteStore, options: { readonly clock: Clock; readonly random: () => number }) {
    this.#inner = inner
    this.#clock = options.clock
    this.#random = options.random
  }

  get description(): string {
    return this.#inner.description
  }

  get capabilities(): RemoteCapabilities {
    return this.#inner.capabilities
  }

  /** Calls that failed on purpose. */
  get failures(): number {
    return this.#failures
  }

  calls(method: RemoteMethod): number {
    return this.#calls.get(method) ?? 0
  }

  /** The n-th call of the method from now fails, n from 1. */
  failNth(method: RemoteMethod, n: number, kind: RemoteFault): void {
    this.#planned.push({ method, callsLeft: n, kind })
  }

  async connect(): Promise<void> {
    await this.#call('connect', { what: 'connect' }, () => this.#inner.connect())
  }

  async stop(): Promise<void> {
    await this.#inner.stop()
  }

  async put(
    name: string,
    bytes: Uint8Array,
    condition?: { readonly ifAbsent: true } | { readonly ifMatch: string },
  ): Promise<{ etag: string }> {
    return await this.#call('put', { what: name }, () => this.#inner.put(name, bytes, condition))
  }

  async putFile(
    name: string,
    file: { readonly path: string; readonly bytes: number },
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#call('putFile', { what: name, signal }, () => this.#inner.putFile(name, file, signal))
  }

  async get(name: string, bytesMax: number): Promise<{ bytes: Buffer; etag: string } | undefined> {
    return await this.#call('get', { what: name }, () => this.#inner.get(name, bytesMax))
  }

  async read(name: string, offset: number, into: readonly Uint8Array[], control?: ReadControl): Promise<number> {
    const signal = control?.signal
    const onTorn = (): void => into.forEach((buffer, index) => index % 2 === 0 && buffer.fill(SCRIBBLE))
    return await this.#call('read', { what: name, signal, onTorn }, () => this.#inner.read(name, offset, into, control))
  }

  async stat(name: string, control?: ReadControl): Promise<RemoteObject | undefined> {
    return await this.#call('stat', { what: name, signal: control?.signal }, () => this.#inner.stat(name, control))
  }

  async list(prefix: string, after: string | undefined, limit: number): Promise<RemoteObject[]> {
    return await this.#call('list', { what: `${prefix}*` }, () => this.#inner.list(prefix, after, limit))
  }

  async remove(names: readonly string[]): Promise<void> {
    await this.#call('remove', { what: names[0] ?? 'nothing' }, () => this.#inner.remove(names))
  }

  async abandonUploads(begunBeforeMs: number): Promise<number> {
    return await this.#call('abandonUploads', { what: 'uploads' }, () => this.#inner.abandonUploads(begunBeforeMs))
  }

  async #call<T>(
    method: RemoteMethod,
    call: { readonly what: string; readonly signal?: AbortSignal | undefined; readonly onTorn?: () => void },
    work: () => Promise<T>,
  ): Promise<T> {
    this.#calls.set(method, this.calls(method) + 1)
    const fault = this.#faultFor(method)
    const latencyMs = this.faults.latencyMs()
    if (latencyMs > 0) await this.#clock.sleep(latencyMs, call.signal)
    if (fault === undefined) return await work()
    this.#failures++
    switch (fault) {
      case 'lost-acknowledgement':
        await work()
        break
      case 'torn':
        call.onTorn?.()
        break
      case 'unavailable':
      case 'slow-down':
      case 'denied':
      case 'conflict':
      case 'precondition':
        break
      default:
        unreachable(fault, 'fault of a remote store')
    }
    throw failureOf(fault, `${method} ${call.what}`)
  }

  /** Decided when the call begins, so that a plan counts calls in the order in which they are made. */
  #faultFor(method: RemoteMethod): RemoteFault | undefined {
    let planned: RemoteFault | undefined
    for (const plan of this.#planned) {
      if (plan.method === method && --plan.callsLeft === 0) planned = plan.kind
    }
    this.#planned.splice(0, this.#planned.length, ...this.#planned.filter(({ callsLeft }) => callsLeft > 0))
    if (this.faults.down) return 'unavailable'
    if (this.faults.revoked) return 'denied'
    if (planned !== undefined || this.faults.chance === 0 || this.#random() >= this.faults.chance) return planned
    const { chanceKinds } = this.faults
    return chanceKinds[Math.floor(this.#random() * chanceKinds.length)]
  }
}

interface Answer {
  readonly code: ErrorCode
  readonly status?: number
  readonly remoteCode?: string
}

/** As the S3 driver would have it. */
const ANSWERS = {
  unavailable: { code: 'Unavailable', status: 503, remoteCode: 'ServiceUnavailable' },
  'slow-down': { code: 'SlowDown', status: 503, remoteCode: 'SlowDown' },
  denied: { code: 'AccessDenied', status: 403, remoteCode: 'AccessDenied' },
  conflict: { code: 'Unavailable', status: 409, remoteCode: 'ConditionalRequestConflict' },
  precondition: { code: 'PreconditionFailed', status: 412, remoteCode: 'PreconditionFailed' },
  torn: { code: 'Unavailable', remoteCode: 'ECONNRESET' },
  'lost-acknowledgement': { code: 'Unavailable', remoteCode: 'ECONNRESET' },
} as const satisfies Readonly<Record<RemoteFault, Answer>>

function failureOf(fault: RemoteFault, what: string): TidegateError {
  const { code, ...details } = ANSWERS[fault]
  return new TidegateError(code, `${what} failed on purpose (${fault})`, { details })
}
