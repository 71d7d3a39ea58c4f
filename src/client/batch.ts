/** Many operations in one request, in the binary framing (src/common/batch-framing.ts). */
import type { IncomingMessage } from 'node:http'
import {
  BATCH_CODES,
  BATCH_CONTENT_TYPE,
  BATCH_FIELD_BYTES_MAX,
  BATCH_FRAMES_MAX,
  BATCH_VALUE_BYTES_MAX,
  BatchReader,
  encodeBatchFrame,
  encodeBatchHead,
  type BatchFields,
  type BatchFrame,
} from '../common/batch-framing.ts'
import { badAnswer, brokenOff, KvError } from './errors.ts'
import { conditionOf } from './names.ts'
import type { KvTransport } from './transport.ts'
import type { BatchOperation, BatchResult, WriteOptions } from './types.ts'

/** Requests up to this are one piece for the socket; larger ones go out as they are, without a copy of their values. */
const ONE_PIECE_BYTES_MAX = 64 * 1024
const NEW_KEY_BYTES_MAX = 1024
/** What the mount made may have longer keys. */
const KEY_BYTES_MAX: number = 8 * 1024
/** What a field takes beside its own bytes, generously. */
const FIELD_OVERHEAD_BYTES = 8

export class KvBatches {
  readonly #transport: KvTransport
  readonly #bucketPath: string

  constructor(transport: KvTransport, bucketPath: string) {
    this.#transport = transport
    this.#bucketPath = bucketPath
  }

  async batch(operations: readonly BatchOperation[], options: WriteOptions): Promise<BatchResult[]> {
    const message = await this.#transport.open({
      method: 'POST',
      path: `${this.#bucketPath}:batch`,
      headers: {
        'content-type': BATCH_CONTENT_TYPE,
        ...(options.ack === undefined ? {} : { 'x-tidegate-ack': options.ack }),
      },
      body: encodedBatch(operations),
      idempotent: operations.every(({ op }) => op === 'get' || op === 'exists'),
      signal: options.signal,
    })
    const results = await decodedResults(message, options.signal)
    if (results.length !== operations.length) throw badAnswer('a batch with another number of results')
    return results.map(({ frame, value }, index) => resultFrom(operations[index]?.op, frame, value))
  }
}

function encodedBatch(operations: readonly BatchOperation[]): Uint8Array[] {
  if (operations.length > BATCH_FRAMES_MAX) {
    refuse('InvalidArgument', `${operations.length} operations are more than ${BATCH_FRAMES_MAX}`)
  }
  const pieces: Uint8Array[] = [encodeBatchHead('request', operations.length)]
  for (const operation of operations) {
    const { op, key } = operation
    const keyBytesMax = op === 'put' ? NEW_KEY_BYTES_MAX : KEY_BYTES_MAX
    if (Buffer.byteLength(key) > keyBytesMax) refuse('KeyTooLong', `a key of more than ${keyBytesMax} bytes`)
    const value = op === 'put' ? bytesOf(operation.value) : undefined
    const valueBytes = value?.length ?? 0
    if (valueBytes > BATCH_VALUE_BYTES_MAX) {
      refuse(
        'EntityTooLarge',
        `the value of ${JSON.stringify(key)} is over ${BATCH_VALUE_BYTES_MAX} bytes: put it by itself`,
      )
    }
    const fields = fieldsOf(operation)
    pieces.push(encodeBatchFrame({ code: BATCH_CODES[op], key, fields, valueBytes }))
    if (value !== undefined && valueBytes > 0) pieces.push(value)
  }
  const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0)
  return bytes <= ONE_PIECE_BYTES_MAX ? [Buffer.concat(pieces, bytes)] : pieces
}

function bytesOf(value: Uint8Array | string): Uint8Array {
  return typeof value === 'string' ? Buffer.from(value) : value
}

function fieldsOf(operation: BatchOperation): BatchFields {
  if (operation.op === 'get' || operation.op === 'exists') return {}
  const fields: BatchFields = {}
  const ifMatch = conditionOf(operation.ifMatch)
  if (ifMatch !== undefined) fields.ifMatch = ifMatch
  if (operation.op === 'delete') return fields
  const { ifNoneMatch, contentType, metadata, ttlSeconds } = operation
  const none = conditionOf(ifNoneMatch)
  if (none !== undefined) fields.ifNoneMatch = none
  if (contentType !== undefined) fields.contentType = contentType
  if (metadata !== undefined) fields.metadata = { ...metadata }
  if (ttlSeconds !== undefined) fields.ttlMs = Math.round(ttlSeconds * 1000)
  if (fieldBytes(fields) > BATCH_FIELD_BYTES_MAX) refuse('InvalidArgument', `too much metadata for ${operation.key}`)
  return fields
}

function fieldBytes(fields: BatchFields): number {
  const texts = [
    fields.contentType,
    fields.ifMatch,
    fields.ifNoneMatch,
    ...Object.entries(fields.metadata ?? {}).flat(),
  ]
  return texts.reduce(
    (sum, text) => sum + Buffer.byteLength(text ?? '') + FIELD_OVERHEAD_BYTES,
    FIELD_OVERHEAD_BYTES * 2,
  )
}

function refuse(code: 'InvalidArgument' | 'KeyTooLong' | 'EntityTooLarge', detail: string): never {
  throw new KvError({ code, status: 0, detail })
}

interface Result {
  readonly frame: BatchFrame
  value: Uint8Array
}

const EMPTY = Buffer.alloc(0)

/** A value that came in one piece stays a view of it. */
async function decodedResults(message: IncomingMessage, signal: AbortSignal | undefined): Promise<Result[]> {
  if (message.headers['content-type'] !== BATCH_CONTENT_TYPE) {
    message.destroy()
    throw badAnswer(`a batch answered with ${message.headers['content-type']}`)
  }
  const reader = new BatchReader('answer')
  const results: Result[] = []
  const pieces: Uint8Array[] = []
  const take = (chunk: Buffer): void => {
    for (const piece of reader.read(chunk)) {
      if (piece.kind === 'frame') results.push({ frame: piece.frame, value: EMPTY })
      if (piece.kind !== 'value') continue
      pieces.push(piece.bytes)
      const result = results.at(-1)
      if (!piece.last || result === undefined) continue
      result.value = pieces.length === 1 ? piece.bytes : Buffer.concat(pieces)
      pieces.length = 0
    }
  }
  try {
    for await (const chunk of message) take(chunk as Buffer)
    reader.end()
    return results
  } catch (error) {
    throw brokenOff(error, 'a batch broke off', signal)
  }
}

function resultFrom(op: BatchOperation['op'] | undefined, frame: BatchFrame, value: Uint8Array): BatchResult {
  const { code: status, fields, valueBytes } = frame
  const got = op === 'get' && status === 200
  return {
    status,
    code: fields.errorCode,
    detail: fields.errorDetail,
    value: got ? value : undefined,
    etag: fields.etag,
    revision: fields.revision,
    size: got ? valueBytes : undefined,
    contentType: fields.contentType,
    modified: dateOf(fields.modifiedMs),
    expires: dateOf(fields.expiresMs),
    metadata: fields.metadata,
    exists: fields.exists,
    existed: fields.existed,
  }
}

function dateOf(ms: number | undefined): Date | undefined {
  return ms === undefined ? undefined : new Date(ms)
}
