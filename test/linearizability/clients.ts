/**
 * Clients that work on a handful of keys at once over HTTP, as a seed says, and write down what they saw. What each does next depends
 * on the seed and on what it has read; how the clients interleave is the machine's doing.
 */
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { createKvClient, isKvError, type KvClient, type KvError } from '../../src/client/kv-client.ts'
import type { HistoryEntry } from './checker.ts'
import type { KvOperation, KvOutput, Seen } from './kv-model.ts'
import { Random } from '../model/random.ts'

export type KvHistory = HistoryEntry<KvOperation, KvOutput>[]

export interface ClientsOptions {
  /** Of the gateway that a client works with. */
  readonly url: (client: number) => string
  readonly bucket: string
  readonly accessKey: string
  readonly secretKey: string
  readonly seed: number
  readonly clients: number
  readonly operationsEach: number
  readonly largeValueBytes?: number
  /** How many of the values are that long. */
  readonly largeShare?: number | undefined
  /** Between two operations of a client, at most. */
  readonly pauseMsMax?: number
  /** How long a connection may be silent; by default as long as clients of the KV API wait. */
  readonly idleTimeoutMs?: number | undefined
  /** How long a gateway may be down. */
  readonly reconnectMsMax?: number | undefined
  /**
   * The gateway says which failed writes may have been made (docs/decisions/0016, C6). All others were not, and are left out of the history: so one that is seen all
   * the same was written by nobody. Told of each.
   */
  readonly onNotDone?: () => void
  /** Told after every operation; the killer counts. */
  readonly onOperation?: () => void
}

const KEYS = ['a', 'b', 'd/c', 'd/e/f'] as const
const COUNTER = 'n'
/** Each as often as it is likely. */
const KINDS = [
  ...Array<'get'>(5).fill('get'),
  ...Array<'cas'>(4).fill('cas'),
  ...Array<'put'>(3).fill('put'),
  ...Array<'transaction'>(3).fill('transaction'),
  ...Array<'increment'>(2).fill('increment'),
  'delete',
  'scan',
] as const
/** Some values do not fit into the metadata, so that segments take part. */
const LARGE_VALUE_BYTES = 6000
const LARGE_SHARE = 0.15
const RECONNECT_MS_MAX = 60_000

export async function runClients(options: ClientsOptions): Promise<KvHistory> {
  const history: KvHistory = []
  const workers = Array.from({ length: options.clients }, (_, index) => new Worker(options, index, history).run())
  await Promise.all(workers)
  return history
}

class Worker {
  readonly #options: ClientsOptions
  readonly #index: number
  readonly #history: KvHistory
  readonly #random: Random
  /** What this client last saw under a key, to compare and swap with. */
  readonly #seen = new Map<string, Seen | undefined>()
  #client: KvClient
  #url: string
  #written = 0

  constructor(options: ClientsOptions, index: number, history: KvHistory) {
    this.#options = options
    this.#index = index
    this.#history = history
    this.#random = new Random(options.seed * 1009 + index)
    this.#url = options.url(index)
    this.#client = this.#connect()
  }

  async run(): Promise<void> {
    for (let done = 0; done < this.#options.operationsEach; done++) {
      const operation = this.#next()
      const calledAt = performance.now()
      const output = await this.#perform(operation)
      if (output !== 'not done') {
        const returnedAt = output === undefined ? Infinity : performance.now()
        this.#history.push({ operation, calledAt, returnedAt, output })
      }
      this.#options.onOperation?.()
      if (output === undefined) await this.#reconnect()
      const { pauseMsMax } = this.#options
      if (pauseMsMax !== undefined) await sleep(this.#random.below(pauseMsMax))
    }
    this.#client.close()
  }

  #connect(): KvClient {
    const { bucket, accessKey, secretKey, idleTimeoutMs } = this.#options
    // Repeating a request whose answer was lost would be two operations where the history has one.
    return createKvClient({ url: this.#url, bucket, accessKey, secretKey, retries: 0, idleTimeoutMs })
  }

  /** The gateway was killed: waits for the next one. */
  async #reconnect(): Promise<void> {
    const deadline = performance.now() + (this.#options.reconnectMsMax ?? RECONNECT_MS_MAX)
    for (;;) {
      await sleep(20)
      this.#client.close()
      this.#url = this.#options.url(this.#index)
      this.#client = this.#connect()
      try {
        await this.#client.exists(['probe'])
        return
      } catch (error) {
        if (performance.now() > deadline) throw error
      }
    }
  }

  #next(): KvOperation {
    const key = this.#key()
    switch (this.#random.pick(KINDS)) {
      case 'get':
        return { kind: 'get', key: this.#random.chance(0.2) ? COUNTER : key }
      case 'put':
        return { kind: 'put', key, value: this.#value() }
      case 'delete':
        return { kind: 'delete', key }
      case 'cas':
        return { kind: 'cas', key, expected: this.#seen.get(key)?.value, value: this.#value() }
      case 'increment':
        return { kind: 'increment', key: COUNTER, delta: this.#random.below(9) + 1 }
      case 'transaction':
        return this.#transaction(key)
      case 'scan':
        return { kind: 'scan' }
    }
  }

  #transaction(key: string): KvOperation {
    const other = this.#key()
    const compared = other === key ? [key] : [key, other]
    return {
      kind: 'transaction',
      compares: compared.map((name) => ({ key: name, expected: this.#seen.get(name)?.value })),
      puts: compared.map((name) => ({ key: name, value: this.#value() })),
    }
  }

  #key(): string {
    return this.#random.pick(KEYS)
  }

  #value(): string {
    const name = `${this.#index}.${this.#written++}`
    return this.#random.chance(this.#options.largeShare ?? LARGE_SHARE)
      ? name.padEnd(this.#options.largeValueBytes ?? LARGE_VALUE_BYTES, '.')
      : name
  }

  /** Undefined when it is not known whether it was done. */
  async #perform(operation: KvOperation): Promise<KvOutput | 'not done' | undefined> {
    try {
      return await this.#send(operation)
    } catch (error) {
      if (isKvError(error, 'PreconditionFailed')) return { kind: 'refused' }
      const { onNotDone } = this.#options
      if (onNotDone && isKvError(error) && isNotDone(error)) {
        onNotDone()
        return 'not done'
      }
      if (isKvError(error, 'NoAnswer') || isKvError(error, 'Unavailable')) return undefined
      throw error
    }
  }

  async #send(operation: KvOperation): Promise<KvOutput> {
    const client = this.#client
    switch (operation.kind) {
      case 'get': {
        const found = await client.get(operation.key)
        return {
          kind: 'found',
          seen: this.#saw(operation.key, found && { value: found.text(), revision: found.revision }),
        }
      }
      case 'put': {
        const { revision } = await client.put(operation.key, operation.value)
        this.#saw(operation.key, { value: operation.value, revision })
        return { kind: 'written', revision }
      }
      case 'delete': {
        const { existed, revision } = await client.delete(operation.key)
        this.#saw(operation.key, undefined)
        return { kind: 'deleted', existed, revision }
      }
      case 'cas': {
        const seen = this.#seen.get(operation.key)
        const condition = seen === undefined ? { ifNoneMatch: '*' } : { ifMatch: seen.revision }
        const { revision } = await client.put(operation.key, operation.value, condition)
        this.#saw(operation.key, { value: operation.value, revision })
        return { kind: 'written', revision }
      }
      case 'increment': {
        const { value, revision } = await client.increment(operation.key, operation.delta)
        return { kind: 'written', revision, value: String(value) }
      }
      case 'transaction':
        return await this.#transact(operation)
      case 'scan': {
        const { entries } = await client.scanPage({ values: true })
        return {
          kind: 'scanned',
          seen: entries.map(({ key, value, revision }) => ({ key, value: String(value), revision })),
        }
      }
    }
  }

  async #transact(operation: Extract<KvOperation, { kind: 'transaction' }>): Promise<KvOutput> {
    const { succeeded, revision, results } = await this.#client.transaction({
      compare: operation.compares.map(({ key, expected }) =>
        expected === undefined
          ? { key, target: 'exists', operand: false }
          : { key, target: 'value', operator: '=', operand: expected },
      ),
      then: operation.puts.map((put) => ({ op: 'put', ...put })),
      else: operation.compares.map(({ key }) => ({ op: 'get', key })),
    })
    if (succeeded) {
      for (const { key, value } of operation.puts) this.#saw(key, { value, revision })
      return { kind: 'written', revision }
    }
    const seen = results.map((result, index) => {
      if (result.op !== 'get') throw new Error('the else branch only gets')
      const found = result.exists ? { value: String(result.value), revision: result.revision ?? 0 } : undefined
      return this.#saw(operation.compares[index]?.key ?? '', found)
    })
    return { kind: 'read', seen }
  }

  #saw(key: string, seen: Seen | undefined): Seen | undefined {
    this.#seen.set(key, seen)
    return seen
  }
}

/** It says which failed writes may have been made; where there is no room none was. */
function isNotDone({ status, problem }: KvError): boolean {
  return status === 507 || (status === 503 && problem['outcome'] !== 'unknown')
}
