/** Transactions and counters: JSON, in which bytes are base64 and 64-bit numbers are strings. */
import { badAnswer } from './errors.ts'
import type { KvTransport } from './transport.ts'
import type {
  Transaction,
  TransactionCompare,
  TransactionOperation,
  TransactionOutcome,
  TransactionResult,
  WriteOptions,
} from './types.ts'

interface Outcome {
  readonly exists?: boolean
  readonly existed?: boolean
  readonly value?: string | null
  readonly etag?: string
  readonly revision?: number
  readonly size?: number
  readonly contentType?: string
}

interface Answer {
  readonly succeeded: boolean
  readonly revision: number
  readonly results: readonly Outcome[]
}

export class KvTransactions {
  readonly #transport: KvTransport
  readonly #bucketPath: string

  constructor(transport: KvTransport, bucketPath: string) {
    this.#transport = transport
    this.#bucketPath = bucketPath
  }

  async transact(transaction: Transaction, options: WriteOptions): Promise<TransactionResult> {
    const { compare = [], then = [], else: otherwise = [] } = transaction
    const body = {
      compare: compare.map(encodedCompare),
      // oxlint-disable-next-line unicorn/no-thenable -- the API's word; nobody awaits it
      then: then.map(encodedOperation),
      else: otherwise.map(encodedOperation),
    }
    const answer = (await this.#post('txn', body, options)) as Answer
    const done = answer.succeeded ? then : otherwise
    if (answer.results.length !== done.length) throw badAnswer('a transaction with another number of results')
    return {
      succeeded: answer.succeeded,
      revision: answer.revision,
      results: done.map((operation, index) => outcomeFrom(operation.op, answer.results[index] ?? {})),
    }
  }

  async increment(
    key: string,
    delta: bigint | number,
    options: WriteOptions & { readonly ttlSeconds?: number | undefined },
  ): Promise<{ readonly value: bigint; readonly revision: number }> {
    const body = { key, delta: String(delta), ttl: options.ttlSeconds }
    const answer = (await this.#post('increment', body, options)) as { value: string; revision: number }
    return { value: BigInt(answer.value), revision: answer.revision }
  }

  #post(operation: 'txn' | 'increment', body: unknown, options: WriteOptions): Promise<unknown> {
    const call = {
      method: 'POST',
      path: `${this.#bucketPath}:${operation}`,
      headers: options.ack === undefined ? {} : { 'x-tidegate-ack': options.ack },
      idempotent: false,
      signal: options.signal,
    }
    return this.#transport.json(call, body)
  }
}

function base64Of(value: Uint8Array | string): string {
  const bytes =
    typeof value === 'string' ? Buffer.from(value) : Buffer.from(value.buffer, value.byteOffset, value.length)
  return bytes.toString('base64')
}

function encodedCompare(compare: TransactionCompare): unknown {
  return compare.target === 'value' ? { ...compare, operand: base64Of(compare.operand) } : compare
}

function encodedOperation(operation: TransactionOperation): unknown {
  switch (operation.op) {
    case 'put': {
      const { ttlSeconds, value, ...rest } = operation
      return { ...rest, value: base64Of(value), ttl: ttlSeconds }
    }
    case 'increment':
      return { op: 'increment', key: operation.key, delta: String(operation.delta), ttl: operation.ttlSeconds }
    case 'get':
    case 'exists':
    case 'delete':
      return { op: operation.op, key: operation.key }
  }
}

function outcomeFrom(op: TransactionOperation['op'], outcome: Outcome): TransactionOutcome {
  const { value, etag = '', revision = 0 } = outcome
  switch (op) {
    case 'get':
      return {
        op,
        exists: outcome.exists === true,
        value: typeof value === 'string' ? Buffer.from(value, 'base64') : undefined,
        etag: outcome.etag,
        revision: outcome.revision,
        size: outcome.size,
        contentType: outcome.contentType,
      }
    case 'exists':
      return { op, exists: outcome.exists === true }
    case 'delete':
      return { op, existed: outcome.existed === true }
    case 'put':
      return { op, etag, revision }
    case 'increment':
      return { op, value: BigInt(value ?? 0), revision }
  }
}
