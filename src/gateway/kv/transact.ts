/** `POST /kv/v1/{bucket}:txn`: compares, and one of two lists of operations, in one transaction. */
import type { FastifyInstance } from 'fastify'
import type { TransactionOperation } from '../../store/kv-types.ts'
import { countReceived, sendJson } from './answers.ts'
import { ackOf, type KvDoor } from './door.ts'
import { demandKnownSender } from './known-sender.ts'
import type { BucketParams } from './parameters.ts'
import { RequestAccess } from './request-access.ts'
import { encodeOutcomes, parseTransaction, type ParsedOperation, type ParsedTransaction } from './transact-json.ts'
import { TRANSACTION_SCHEMA } from './transact-schema.ts'
import { discardBody, valueBody, type ValueBody } from './value-bytes.ts'

/** 16 MiB of values in base64, and what is around them. */
const REQUEST_BYTES_MAX = 24 * 1024 * 1024

const ACTIONS: Readonly<Record<TransactionOperation['op'], readonly string[]>> = {
  get: ['s3:GetObject'],
  exists: ['s3:GetObject'],
  put: ['s3:PutObject'],
  delete: ['s3:DeleteObject'],
  increment: ['s3:GetObject', 's3:PutObject'],
}

export function registerTransactRoute(app: FastifyInstance, door: KvDoor): void {
  const { keyValues, reading, bodies } = door.store
  app.post<{ Params: BucketParams }>(
    '/kv/v1/:bucket(^[^:/]+)::txn',
    {
      config: { operation: 'KvTransact' },
      schema: TRANSACTION_SCHEMA,
      bodyLimit: REQUEST_BYTES_MAX,
      onRequest: demandKnownSender,
    },
    async (request, reply) => {
      countReceived(request)
      const { bucket } = request.params
      const parsed = parseTransaction(request.body, door.limits)
      const access = new RequestAccess(door.access, request)
      authorizeAll(access, bucket, parsed)
      const ack = ackOf(request)
      const owner = access.principal.id
      const puts: ValueBody[] = []
      try {
        const then = await withBodies(door, { bucket, operations: parsed.then, puts })
        const otherwise = await withBodies(door, { bucket, operations: parsed.else, puts })
        const transaction = { bucket, compares: parsed.compares, then, else: otherwise, owner, ack }
        const { succeeded, outcomes, revision } = await keyValues.transact(transaction)
        const mayHold = (bytes: number): boolean => door.memory.take(request.exchange.response, bytes)
        const results = await encodeOutcomes(reading, outcomes, mayHold)
        return sendJson(request, reply, `{"succeeded":${succeeded},"revision":${revision},"results":${results}}`)
      } finally {
        // A no-op for those that the transaction has taken over.
        for (const put of puts) await discardBody(bodies, put)
      }
    },
  )
}

/** Every key of both branches: whether the other one would be allowed must not depend on what a compare finds. @throws AccessDenied */
function authorizeAll(
  access: RequestAccess,
  bucket: string,
  { compares, then, else: otherwise }: ParsedTransaction,
): void {
  const items = compares.length + then.length + otherwise.length
  // Even an empty transaction tells whether there is such a bucket.
  if (items === 0) access.demand({ action: 's3:GetObject', bucket, key: '' })
  for (const { key } of compares) access.demand({ action: 's3:GetObject', bucket, key })
  for (const { op, key } of [...then, ...otherwise]) {
    for (const action of ACTIONS[op]) access.demand({ action, bucket, key })
  }
}

async function withBodies(
  { store, limits }: KvDoor,
  { bucket, operations, puts }: { bucket: string; operations: readonly ParsedOperation[]; puts: ValueBody[] },
): Promise<TransactionOperation[]> {
  const { bodies } = store
  const { hashInlineBytesMax } = limits
  const prepared: TransactionOperation[] = []
  for (const operation of operations) {
    if (operation.op !== 'put') {
      prepared.push(operation)
      continue
    }
    const { bytes, ...rest } = operation
    const body = await valueBody({ bodies, hashInlineBytesMax, bucket, key: operation.key }, bytes)
    puts.push(body)
    prepared.push({ ...rest, body: body.source })
  }
  return prepared
}
