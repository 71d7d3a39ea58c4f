/** What `exists` and `match` have in common: a body with up to 10,000 keys, each of which must be readable. */
import type { FastifyRequest } from 'fastify'
import { countReceived } from './answers.ts'
import type { KvDoor } from './door.ts'
import type { BucketParams } from './parameters.ts'
import { RequestAccess } from './request-access.ts'

/** 10,000 of the longest keys, with every character escaped. */
export const KEY_LIST_BYTES_MAX: number = 64 * 1024 * 1024

export const KEY_LIST_BODY = {
  type: 'object',
  additionalProperties: false,
  required: ['keys'],
  properties: { keys: { type: 'array', maxItems: 10_000, items: { type: 'string', minLength: 1 } } },
} as const

export interface KeyList {
  readonly keys: readonly string[]
}

export type KeyListRequest = FastifyRequest<{ Params: BucketParams; Body: KeyList }>

/** @throws AccessDenied when there is one key that may not be read */
export function readableKeys(door: KvDoor, request: KeyListRequest): readonly string[] {
  countReceived(request)
  const { bucket } = request.params
  const { keys } = request.body
  const access = new RequestAccess(door.access, request)
  if (keys.length === 0) access.demand({ action: 's3:GetObject', bucket, key: '' })
  for (const key of keys) access.demand({ action: 's3:GetObject', bucket, key })
  return keys
}
