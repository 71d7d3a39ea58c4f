/** The operations of a batch, whichever framing they came in, and how one of them is done. */
import { AssertionFailed, unreachable } from '../../common/assert.ts'
import { NO_CONDITIONS } from '../../common/conditions.ts'
import { TidegateError } from '../../common/errors.ts'
import type { AckLevel, Conditions, ObjectAttributes, ObjectVersion } from '../../common/model.ts'
import type { Store } from '../../store/doors.ts'
import type { ReaderId } from '../../store/types.ts'
import { problemOf } from '../http/problem.ts'
import type { RequestAccess } from './request-access.ts'
import { absentToUnmatched, unmatched } from './value-conditions.ts'
import { discardBody, type ValueBody } from './value-bytes.ts'

export const BATCH_OPERATIONS = ['get', 'put', 'delete', 'exists'] as const
export type BatchOperationName = (typeof BATCH_OPERATIONS)[number]

export interface PutOptions {
  readonly attributes: ObjectAttributes
  readonly conditions: Conditions
  readonly ttlMs: number | undefined
}

export type BatchOperation =
  | { readonly op: 'get' | 'exists'; readonly key: string }
  | { readonly op: 'delete'; readonly key: string; readonly conditions: Conditions }
  | ({ readonly op: 'put'; readonly key: string; readonly body: PutBody } & PutOptions)

/** Received already, or made of bytes at hand once it is this operation's turn. */
export type PutBody = ValueBody | (() => Promise<ValueBody>)

export type BatchOutcome =
  /** `reader` is open where the body does not lie inline: it is the caller's to close. */
  | { readonly op: 'get'; readonly version: ObjectVersion; readonly reader: ReaderId | undefined }
  | {
      readonly op: 'put'
      readonly etag: string
      readonly revision: number
      readonly expiresMs: number | undefined
    }
  | { readonly op: 'delete'; readonly existed: boolean; readonly revision: number }
  | { readonly op: 'exists'; readonly exists: boolean }
  | { readonly op: 'failed'; readonly status: number; readonly code: string; readonly detail: string }

export interface BatchContext {
  readonly store: Store
  readonly access: RequestAccess
  readonly bucket: string
  readonly ack: AckLevel | undefined
  /** Whether a value of so many bytes may be in the answer. */
  readonly hasRoomFor: (bytes: number) => boolean
}

export const BATCH_ACTIONS: Readonly<Record<BatchOperationName, string>> = {
  get: 's3:GetObject',
  put: 's3:PutObject',
  delete: 's3:DeleteObject',
  exists: 's3:GetObject',
}

/** What may happen in operation becomes an outcome. @throws only what is a bug */
export async function doOperation(context: BatchContext, operation: BatchOperation): Promise<BatchOutcome> {
  try {
    const { access, bucket } = context
    access.demand({ action: BATCH_ACTIONS[operation.op], bucket, key: operation.key })
    switch (operation.op) {
      case 'get':
        return await get(context, operation.key)
      case 'put':
        return await put(context, operation)
      case 'delete':
        return await remove(context, operation)
      case 'exists':
        return await exists(context, operation.key)
      default:
        return unreachable(operation, 'operation of a batch')
    }
  } catch (error) {
    // A no-op for a body that a put has taken over.
    const body = operation.op === 'put' ? operation.body : undefined
    if (typeof body === 'object') await discardBody(context.store.bodies, body)
    return failed(error)
  }
}

/** @throws what is a bug */
export function failed(error: unknown): BatchOutcome {
  const problem = error instanceof AssertionFailed ? undefined : problemOf(error)
  if (problem === undefined) throw error
  const { status, code, detail } = problem
  return { op: 'failed', status, code, detail }
}

async function get({ store, bucket, hasRoomFor }: BatchContext, key: string): Promise<BatchOutcome> {
  const address = { bucket, key }
  const found = await store.objects.head(address, NO_CONDITIONS)
  if (!hasRoomFor(found.size)) throw tooLarge(found)
  if (found.body.kind === 'inline') return { op: 'get', version: found, reader: undefined }
  const { version, reader } = await store.objects.open(address, NO_CONDITIONS)
  // It may be another object by now, or the same file with more in it.
  if (version.body.kind !== 'inline' && (version.size <= found.size || hasRoomFor(version.size))) {
    return { op: 'get', version, reader }
  }
  store.reading.close(reader)
  if (version.body.kind !== 'inline') throw tooLarge(version)
  return { op: 'get', version, reader: undefined }
}

function tooLarge({ key, size }: ObjectVersion): TidegateError {
  return new TidegateError(
    'EntityTooLarge',
    `the value of ${JSON.stringify(key)} has ${size} bytes, for which this answer has no room: get it by itself`,
  )
}

async function put(
  { store, access, bucket, ack }: BatchContext,
  { key, body, attributes, conditions, ttlMs }: Extract<BatchOperation, { op: 'put' }>,
): Promise<BatchOutcome> {
  const value = typeof body === 'function' ? await body() : body
  try {
    const { source, checksum } = value
    const owner = access.principal.id
    const request = { bucket, key, body: source, attributes, checksum, owner, conditions, ack, ttlMs }
    const { etag, revision, expiresMs } = await store.objects.put(request)
    return { op: 'put', etag, revision, expiresMs }
  } catch (error) {
    await discardBody(store.bodies, value)
    throw absentToUnmatched(error, conditions)
  }
}

async function remove(
  { store, bucket, ack }: BatchContext,
  { key, conditions }: Extract<BatchOperation, { op: 'delete' }>,
): Promise<BatchOutcome> {
  const { existed, revision } = await store.objects.delete({ bucket, key }, conditions, ack)
  if (!existed && conditions.ifMatch !== undefined) throw unmatched()
  return { op: 'delete', existed, revision }
}

async function exists({ store, bucket }: BatchContext, key: string): Promise<BatchOutcome> {
  const { exist } = await store.keyValues.exist(bucket, [key])
  return { op: 'exists', exists: exist[0] === true }
}
