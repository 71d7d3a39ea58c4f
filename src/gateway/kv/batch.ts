/** `POST /kv/v1/{bucket}:batch`: many operations in one request, each with a status of its own. */
import { BATCH_CONTENT_TYPE, BATCH_FRAMES_MAX } from '../../common/batch-framing.ts'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { countReceived, sendJson } from './answers.ts'
import { isBinaryBatch, serveBinaryBatch } from './batch-binary.ts'
import { BATCH_VALUE_BYTES_JSON_MAX, encodeOutcome, parseBatch } from './batch-json.ts'
import { doOperation, failed, type BatchContext, type BatchOperation } from './batch-operation.ts'
import { BATCH_SCHEMA } from './batch-schema.ts'
import { ackOf, type KvDoor } from './door.ts'
import { KeyedLanes } from './keyed-lanes.ts'
import { demandKnownSender } from './known-sender.ts'
import type { BucketParams } from './parameters.ts'
import { RequestAccess } from './request-access.ts'

const REQUEST_BYTES_JSON_MAX = 16 * 1024 * 1024
/** Values in one JSON answer. */
const ANSWER_VALUE_BYTES_MAX = 16 * 1024 * 1024

export function registerBatchRoute(app: FastifyInstance, door: KvDoor): void {
  // The framing is taken apart as it comes, so the body reaches the handler unread.
  app.addContentTypeParser(BATCH_CONTENT_TYPE, (request, payload, done) => {
    request.exchange.sendContinue()
    done(null, payload)
  })
  app.post<{ Params: BucketParams }>(
    '/kv/v1/:bucket(^[^:/]+)::batch',
    {
      config: { operation: 'KvBatch' },
      schema: BATCH_SCHEMA,
      bodyLimit: REQUEST_BYTES_JSON_MAX,
      onRequest: demandKnownSender,
    },
    async (request, reply) => {
      const { bucket } = request.params
      const access = new RequestAccess(door.access, request)
      const context = { store: door.store, access, bucket, ack: ackOf(request) }
      if (isBinaryBatch(request.body))
        return await serveBinaryBatch({ request, reply, door, body: request.body }, context)
      return await serveJsonBatch({ request, reply, door }, context)
    },
  )
}

async function serveJsonBatch(
  { request, reply, door }: { request: FastifyRequest; reply: FastifyReply; door: KvDoor },
  context: Omit<BatchContext, 'hasRoomFor'>,
): Promise<FastifyReply> {
  countReceived(request)
  const { store, limits } = door
  const { hashInlineBytesMax } = limits
  const target = { bodies: store.bodies, hashInlineBytesMax, bucket: context.bucket }
  const operations = parseBatch(request.body, { limits, operationsMax: BATCH_FRAMES_MAX, target })
  let roomBytes = ANSWER_VALUE_BYTES_MAX
  const hasRoomFor = (bytes: number): boolean => {
    if (bytes > BATCH_VALUE_BYTES_JSON_MAX || bytes > roomBytes) return false
    if (!door.memory.take(request.exchange.response, bytes)) return false
    roomBytes -= bytes
    return true
  }
  const results = await doAll({ ...context, hasRoomFor }, operations)
  return sendJson(request, reply, `{"results":[${results.join(',')}]}`)
}

async function doAll(context: BatchContext, operations: readonly BatchOperation[]): Promise<string[]> {
  const lanes = new KeyedLanes()
  const results: Promise<string>[] = []
  for (const operation of operations) {
    if (lanes.full) await lanes.room()
    results.push(lanes.start(operation.key, () => doAndEncode(context, operation)))
  }
  return await Promise.all(results)
}

async function doAndEncode(context: BatchContext, operation: BatchOperation): Promise<string> {
  const { reading } = context.store
  const outcome = await doOperation(context, operation)
  try {
    return await encodeOutcome(reading, outcome)
  } catch (error) {
    return await encodeOutcome(reading, failed(error))
  }
}
