/**
 * A batch in the binary framing (../../common/batch-framing.ts).
 *
 * Operations are done while the request still comes; nothing is answered before all of it is here, so that a client which reads
 * only once it has written everything cannot block itself. Until then a value that was got is an open reader, not bytes. So what a
 * request holds in memory is bounded, whatever its size: heads of operations, values of puts under way up to
 * `hashInlineBytesMax`, and what the store lends to the one body that streams.
 *
 * Results go out in order. A value that cannot be read once its head is sent cuts the answer short, which the client sees
 * by the count of frames. A request that breaks off, or breaks the framing, is answered with that problem; operations that
 * came before the broken place may have been done.
 */
import { Readable } from 'node:stream'
import { assert, unreachable } from '../../common/assert.ts'
import {
  BATCH_CODES,
  BATCH_CONTENT_TYPE,
  BATCH_FIELD_BYTES_MAX,
  BATCH_VALUE_BYTES_MAX,
  encodeBatchFrame,
  encodeBatchHead,
  lengthOfFields,
  type BatchFields,
  type BatchFrame,
} from '../../common/batch-framing.ts'
import { TidegateError } from '../../common/errors.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { sendContent } from '../http/body/send.ts'
import type { ObjectVersion } from '../../common/model.ts'
import type { Reading } from '../../store/doors.ts'
import type { ReaderId } from '../../store/types.ts'
import {
  BATCH_ACTIONS,
  BATCH_OPERATIONS,
  doOperation,
  failed,
  type BatchContext,
  type BatchOperation,
  type BatchOperationName,
  type BatchOutcome,
} from './batch-operation.ts'
import { authenticatedOf, type KvDoor } from './door.ts'
import { FrameSource } from './frame-source.ts'
import { KeyedLanes } from './keyed-lanes.ts'
import { TTL_SECONDS_MAX } from './operation-json.ts'
import { RawAnswer } from './raw-answer.ts'
import { CONTENT_TYPE_DEFAULT, attributesOf } from './value-attributes.ts'
import { bodyConditions } from './value-conditions.ts'
import { smallBody, streamedBody, type BodyTarget, type ValueBody } from './value-bytes.ts'

/** Results are put together until they are worth a write. */
const WRITE_BYTES_MIN = 64 * 1024

/** A body that no parser has read. */
export function isBinaryBatch(body: unknown): body is Readable {
  return body instanceof Readable
}

export interface BinaryBatchCall {
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  readonly door: KvDoor
  readonly body: Readable
}

export async function serveBinaryBatch(
  { request, reply, door, body }: BinaryBatchCall,
  context: Omit<BatchContext, 'hasRoomFor'>,
): Promise<FastifyReply> {
  if (authenticatedOf(request).payload.kind !== 'unsigned') {
    // What is signed of a body holds only at its end, and by then much would be done (lesson 5.1.7).
    throw new TidegateError('InvalidRequest', 'a binary batch cannot have a signed body: sign UNSIGNED-PAYLOAD')
  }
  const { exchange } = request
  const { reading } = door.store
  const hasRoomFor = (bytes: number): boolean => bytes <= BATCH_VALUE_BYTES_MAX
  const intake = new BatchIntake(door, { ...context, hasRoomFor })
  const frames = new FrameSource(body, { exchange, idleMsMax: door.bodyIdleMsMax })
  try {
    await intake.run(frames)
    const outcomes = await Promise.all(intake.outcomes)
    const answer = new RawAnswer(request, reply, BATCH_CONTENT_TYPE)
    await sendOutcomes(answer, reading, outcomes).catch((error: unknown) => door.sendProblem(exchange, error))
    return reply
  } finally {
    await frames.close()
    await closeReaders(reading, intake.outcomes)
  }
}

/** Takes the request apart and starts its operations. */
class BatchIntake {
  readonly outcomes: Promise<BatchOutcome>[] = []
  readonly #door: KvDoor
  readonly #context: BatchContext
  readonly #lanes = new KeyedLanes()

  constructor(door: KvDoor, context: BatchContext) {
    this.#door = door
    this.#context = context
  }

  /** Resolves when all operations have been started. @throws what is wrong with the request itself */
  async run(frames: FrameSource): Promise<void> {
    for (let frame = await frames.next(); frame !== undefined; frame = await frames.next()) {
      const task = await this.#prepare(frame, frames)
      if (this.#lanes.full) await this.#lanes.room()
      this.outcomes.push(this.#lanes.start(frame.key, task))
    }
  }

  async #prepare(frame: BatchFrame, frames: FrameSource): Promise<() => Promise<BatchOutcome>> {
    try {
      const operation = await this.#operation(frame, frames)
      return () => doOperation(this.#context, operation)
    } catch (error) {
      if (frames.broken) throw error
      const outcome = failed(error)
      return () => Promise.resolve(outcome)
    }
  }

  async #operation(frame: BatchFrame, frames: FrameSource): Promise<BatchOperation> {
    const { key, fields, code, valueBytes } = frame
    const op = OPERATION_BY_CODE.get(code)
    if (op === undefined) throw new TidegateError('InvalidRequest', `there is no operation ${code}`)
    allowOnly(fields, op)
    if (op !== 'put' && valueBytes > 0) throw new TidegateError('InvalidArgument', `a ${op} has no value`)
    if (op === 'get' || op === 'exists') return { op, key }
    const { ifMatch, ifNoneMatch } = fields
    const conditions = bodyConditions({ ifMatch, ifNoneMatch })
    if (op === 'delete') return { op, key, conditions }
    const { access, bucket } = this.#context
    // Before room is taken for the value.
    access.demand({ action: BATCH_ACTIONS.put, bucket, key })
    const { contentType, metadata, ttlMs } = fields
    const attributes = attributesOf({ contentType, metadata }, this.#door.limits)
    if (ttlMs !== undefined && (ttlMs < 1 || ttlMs > TTL_SECONDS_MAX * 1000)) {
      throw new TidegateError('InvalidArgument', `ttlMs ${ttlMs} is not between 1 and ${TTL_SECONDS_MAX * 1000}`)
    }
    return { op, key, conditions, attributes, ttlMs, body: await this.#receive(frame, frames) }
  }

  async #receive({ key, valueBytes }: BatchFrame, frames: FrameSource): Promise<ValueBody> {
    const { store, limits } = this.#door
    const { hashInlineBytesMax } = limits
    const target: BodyTarget = { bodies: store.bodies, hashInlineBytesMax, bucket: this.#context.bucket, key }
    if (valueBytes > hashInlineBytesMax) return await streamedBody(target, valueBytes, frames.value())
    const bytes = Buffer.allocUnsafe(valueBytes)
    let filled = 0
    for await (const piece of frames.value()) {
      bytes.set(piece, filled)
      filled += piece.length
    }
    return smallBody(bytes)
  }
}

const OPERATION_BY_CODE: ReadonlyMap<number, BatchOperationName> = new Map(
  BATCH_OPERATIONS.map((name) => [BATCH_CODES[name], name]),
)

const FIELDS: Readonly<Record<BatchOperationName, ReadonlySet<string>>> = {
  get: new Set(),
  exists: new Set(),
  delete: new Set(['ifMatch']),
  put: new Set(['contentType', 'metadata', 'ttlMs', 'ifMatch', 'ifNoneMatch']),
}

/** @throws InvalidArgument */
function allowOnly(fields: BatchFields, op: BatchOperationName): void {
  for (const name of Object.keys(fields)) {
    if (!FIELDS[op].has(name)) throw new TidegateError('InvalidArgument', `a ${op} has no field ${name}`)
  }
}

async function sendOutcomes(answer: RawAnswer, reading: Reading, outcomes: readonly BatchOutcome[]): Promise<void> {
  let pieces: Uint8Array[] = [encodeBatchHead('answer', outcomes.length)]
  let bytes = 0
  const flush = async (): Promise<void> => {
    await answer.write(Buffer.concat(pieces))
    pieces = []
    bytes = 0
  }
  for (const done of outcomes) {
    if (answer.gone) return
    const outcome = sendable(done)
    if (outcome.op === 'get' && outcome.reader !== undefined) {
      const { version, reader } = outcome
      await flush()
      await sendStored(answer, reading, { version, reader })
      continue
    }
    for (const piece of encodeOutcome(outcome)) {
      pieces.push(piece)
      bytes += piece.length
    }
    if (bytes >= WRITE_BYTES_MIN) await flush()
  }
  await flush()
  answer.end()
}

/** A value that does not come with its version. If not even its first bytes can be had, the result says so. */
async function sendStored(
  answer: RawAnswer,
  reading: Reading,
  { version, reader }: { version: ObjectVersion; reader: ReaderId },
): Promise<void> {
  let begun = false
  const begin = (): void => {
    begun = true
    answer.writeNow(gotHead(version))
  }
  try {
    answer.counted(await sendContent(answer.response, reading, { reader, offset: 0, length: version.size, begin }))
  } catch (error) {
    if (begun) throw error
    await answer.write(Buffer.concat(encodeOutcome(failed(error))))
  }
}

function encodeOutcome(outcome: BatchOutcome): Uint8Array[] {
  if (outcome.op === 'get') {
    const { version } = outcome
    assert(version.body.kind === 'inline', 'a content is streamed')
    return [gotHead(version), version.body.bytes]
  }
  return [encodeBatchFrame({ ...resultOf(outcome), key: '', valueBytes: 0 })]
}

/** HTTP takes a longer content type than the framing has room for. */
function sendable(outcome: BatchOutcome): BatchOutcome {
  if (outcome.op !== 'get') return outcome
  const bytes = lengthOfFields(gotFields(outcome.version))
  if (bytes <= BATCH_FIELD_BYTES_MAX) return outcome
  const message = `the value has ${bytes} bytes of attributes, for which the framing has no room: get it by itself`
  return failed(new TidegateError('EntityTooLarge', message))
}

function gotHead(version: ObjectVersion): Buffer {
  return encodeBatchFrame({ code: 200, key: '', fields: gotFields(version), valueBytes: version.size })
}

function gotFields({ etag, revision, mtimeMs, expiresMs, attributes }: ObjectVersion): BatchFields {
  const { contentType = CONTENT_TYPE_DEFAULT } = attributes.headers
  const metadata = attributes.userMetadata
  return { contentType, metadata, etag, revision, modifiedMs: Math.floor(mtimeMs), ...expiry(expiresMs) }
}

function resultOf(outcome: Exclude<BatchOutcome, { op: 'get' }>): { code: number; fields: BatchFields } {
  switch (outcome.op) {
    case 'put': {
      const { etag, revision, expiresMs } = outcome
      return { code: 200, fields: { etag, revision, ...expiry(expiresMs) } }
    }
    case 'delete':
      return { code: 204, fields: { existed: outcome.existed, revision: outcome.revision } }
    case 'exists':
      return { code: 200, fields: { exists: outcome.exists } }
    case 'failed': {
      const { status, code: errorCode, detail } = outcome
      return { code: status, fields: { errorCode, errorDetail: detail.slice(0, DETAIL_LENGTH_MAX) } }
    }
    default:
      return unreachable(outcome, 'outcome')
  }
}

const DETAIL_LENGTH_MAX = 2000

function expiry(expiresMs: number | undefined): Pick<BatchFields, 'expiresMs'> {
  return expiresMs === undefined ? {} : { expiresMs: Math.ceil(expiresMs) }
}

/** Of every value that was got, sent or not. */
async function closeReaders(reading: Reading, outcomes: readonly Promise<BatchOutcome>[]): Promise<void> {
  for (const settled of await Promise.allSettled(outcomes)) {
    if (settled.status !== 'fulfilled' || settled.value.op !== 'get') continue
    if (settled.value.reader !== undefined) reading.close(settled.value.reader)
  }
}
