/** Clients that work on a handful of objects at once through S3, as a seed says, and write down what they saw. */
import { hash } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { Random } from '../model/random.ts'
import type { GatewayDoors } from '../support/gateway-process.ts'
import { errorCodeOf, type RawResponse } from '../support/raw-http.ts'
import { sendSigned, type HandMadeCall } from '../support/signed-calls.ts'
import type { S3Entry, S3Operation, S3Output } from './s3-model.ts'

export interface S3ClientsOptions {
  /** That a client works with now. */
  readonly gateway: (client: number) => GatewayDoors
  readonly bucket: string
  readonly seed: number
  readonly clients: number
  readonly operationsEach: number
  readonly pauseMsMax: number
  /** How long a gateway may be down. */
  readonly reconnectMsMax?: number | undefined
  /** Every other value is that long. */
  readonly largeValueBytes?: number | undefined
  /** Codes of refusals that are to be expected: nothing was done. */
  readonly refusals?: readonly string[]
  readonly onOperation: () => void
  /** Told of each that the gateway says was not done; they are left out of the history. */
  readonly onNotDone: () => void
}

const KEYS = ['x', 'y', 'z/w'] as const
/** Each as often as it is likely. */
const KINDS = ['get', 'get', 'get', 'get', 'if-match', 'if-match', 'if-none-match', 'put', 'delete', 'list'] as const
const RECONNECT_MS_MAX = 60_000
const RECONNECT_PAUSE_MS = 50

export async function runS3Clients(options: S3ClientsOptions): Promise<S3Entry[]> {
  const history: S3Entry[] = []
  /** By ETag, of all that anybody has tried to write. */
  const values = new Map<string, string>()
  const clients = Array.from({ length: options.clients }, (_, index) => new S3Client(options, index, values))
  await Promise.all(clients.map((client) => client.run(history)))
  return history
}

class S3Client {
  readonly #options: S3ClientsOptions
  readonly #index: number
  readonly #values: Map<string, string>
  readonly #random: Random
  /** What this client last saw under a key. */
  readonly #seen = new Map<string, string | undefined>()
  #written = 0

  constructor(options: S3ClientsOptions, index: number, values: Map<string, string>) {
    this.#options = options
    this.#index = index
    this.#values = values
    this.#random = new Random(options.seed * 2003 + index)
  }

  async run(history: S3Entry[]): Promise<void> {
    const { operationsEach, pauseMsMax, onOperation, onNotDone } = this.#options
    for (let done = 0; done < operationsEach; done++) {
      const operation = this.#next()
      const calledAt = performance.now()
      const output = await this.#perform(operation)
      if (output === 'not done') onNotDone()
      else
        history.push({ operation, calledAt, returnedAt: output === undefined ? Infinity : performance.now(), output })
      onOperation()
      await sleep(this.#random.below(pauseMsMax))
    }
  }

  #next(): S3Operation {
    const key = this.#random.pick(KEYS)
    const kind = this.#random.pick(KINDS)
    switch (kind) {
      case 'get':
      case 'delete':
        return { kind, key }
      case 'list':
        return { kind }
      case 'put':
        return { kind, key, value: this.#value(), expected: undefined }
      case 'if-none-match':
        return { kind: 'put', key, value: this.#value(), expected: null }
      case 'if-match':
        return { kind: 'put', key, value: this.#value(), expected: this.#seen.get(key) ?? null }
    }
  }

  #value(): string {
    const { largeValueBytes = 0 } = this.#options
    const isLarge = this.#written % 2 === 1
    const value = `s${this.#index}.${this.#written++}`.padEnd(isLarge ? largeValueBytes : 0, '.')
    this.#values.set(etagOf(value), value)
    return value
  }

  /** Undefined when it is not known whether it was done. */
  async #perform(operation: S3Operation): Promise<S3Output | 'not done' | undefined> {
    const response = await this.#send(callOf(this.#options.bucket, operation))
    if (response === undefined) return undefined
    if (response.status === 503) return /<outcome>unknown</.test(response.body.toString()) ? undefined : 'not done'
    // Somebody else was writing the same key, or there is no room.
    if (response.status === 409 || response.status === 507) return 'not done'
    if (this.#options.refusals?.includes(errorCodeOf(response)) === true) return 'not done'
    const output = this.#outputOf(operation, response)
    if (output === undefined)
      throw new Error(`${JSON.stringify(operation)}: ${response.status} ${errorCodeOf(response)}`)
    return output
  }

  /** Undefined when no answer came. One that could not be sent is tried again: the gateway is down for a moment. */
  async #send(call: HandMadeCall): Promise<RawResponse | undefined> {
    const deadline = performance.now() + (this.#options.reconnectMsMax ?? RECONNECT_MS_MAX)
    for (;;) {
      try {
        return await sendSigned(this.#options.gateway(this.#index), call)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ECONNREFUSED') return undefined
        if (performance.now() > deadline) throw error
      }
      await sleep(RECONNECT_PAUSE_MS)
    }
  }

  #outputOf(operation: S3Operation, response: RawResponse): S3Output | undefined {
    const { status } = response
    switch (operation.kind) {
      case 'get': {
        if (status !== 200 && status !== 404) return undefined
        const value = status === 200 ? response.body.toString() : undefined
        this.#seen.set(operation.key, value)
        return { kind: 'found', value }
      }
      case 'delete':
        if (status !== 204) return undefined
        this.#seen.set(operation.key, undefined)
        return { kind: 'deleted' }
      case 'put':
        if (status === 412 || (status === 404 && operation.expected != null)) return { kind: 'refused' }
        if (status !== 200) return undefined
        this.#seen.set(operation.key, operation.value)
        return { kind: 'written' }
      case 'list':
        return status === 200 ? { kind: 'listed', values: this.#listed(response.body.toString()) } : undefined
    }
  }

  #listed(xml: string): Record<string, string> {
    const listed = [
      ...xml.matchAll(/<Contents>.*?<Key>(.*?)<\/Key>.*?<ETag>&quot;(.*?)&quot;<\/ETag>.*?<\/Contents>/gs),
    ]
    return Object.fromEntries(listed.map(([, key, etag = '']) => [key, this.#values.get(etag) ?? `of nobody: ${etag}`]))
  }
}

function callOf(bucket: string, operation: S3Operation): HandMadeCall {
  if (operation.kind === 'list') return { method: 'GET', target: `/${bucket}?list-type=2` }
  const target = `/${bucket}/${operation.key}`
  if (operation.kind !== 'put') return { method: operation.kind.toUpperCase(), target }
  const { value, expected } = operation
  const headers: Record<string, string> =
    expected === undefined ? {} : expected === null ? { 'if-none-match': '*' } : { 'if-match': `"${etagOf(expected)}"` }
  return { method: 'PUT', target, headers, body: value }
}

function etagOf(value: string): string {
  return hash('md5', value, 'hex')
}
