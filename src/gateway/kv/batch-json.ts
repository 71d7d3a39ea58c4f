/** A batch as JSON (docs/kv.md, "Batch"). What is malformed is refused before anything of it is done. */
import { must, unreachable } from '../../common/assert.ts'
import type { Limits } from '../../common/limits.ts'
import type { ObjectVersion } from '../../common/model.ts'
import type { Reading } from '../../store/doors.ts'
import { bodyConditions } from './value-conditions.ts'
import {
  BATCH_OPERATIONS,
  type BatchOperation,
  type BatchOperationName,
  type BatchOutcome,
  type PutBody,
} from './batch-operation.ts'
import { JsonMembers, listOf } from './json-members.ts'
import { attributesIn, keyOf, ttlMsOf, valueOf } from './operation-json.ts'
import { CONTENT_TYPE_DEFAULT } from './value-attributes.ts'
import { readValue, valueBody, type BodyTarget } from './value-bytes.ts'

export const BATCH_VALUE_BYTES_JSON_MAX: number = 1024 * 1024

const MEMBERS: Readonly<Record<BatchOperationName, ReadonlySet<string>>> = {
  get: new Set(['op', 'key']),
  exists: new Set(['op', 'key']),
  delete: new Set(['op', 'key', 'ifMatch']),
  put: new Set(['op', 'key', 'value', 'text', 'contentType', 'metadata', 'ttl', 'ifMatch', 'ifNoneMatch']),
}

export interface BatchParsing {
  readonly limits: Limits
  readonly operationsMax: number
  readonly target: Omit<BodyTarget, 'key'>
}

/** @throws InvalidArgument, EntityTooLarge */
export function parseBatch(body: unknown, parsing: BatchParsing): readonly BatchOperation[] {
  const members = new JsonMembers(body, '')
  members.allowOnly(new Set(['operations']))
  const operations = listOf(members.get('operations'), 'operations', parsing.operationsMax)
  return operations.map((value, index) => parseOperation(new JsonMembers(value, `operations[${index}]`), parsing))
}

function parseOperation(members: JsonMembers, { limits, target }: BatchParsing): BatchOperation {
  const op = members.oneOf('op', BATCH_OPERATIONS)
  members.allowOnly(MEMBERS[op])
  const key = keyOf(members)
  if (op === 'get' || op === 'exists') return { op, key }
  const ifMatch = members.optionalText('ifMatch')
  const ifNoneMatch = members.optionalText('ifNoneMatch')
  const conditions = bodyConditions({ ifMatch, ifNoneMatch })
  if (op === 'delete') return { op, key, conditions }
  const bytes = valueOf(members, BATCH_VALUE_BYTES_JSON_MAX)
  const body: PutBody = () => valueBody({ ...target, key }, bytes)
  return { op, key, body, attributes: attributesIn(members, limits), conditions, ttlMs: ttlMsOf(members) }
}

/** One result. Reads the value of a get, and closes its reader. @throws DataLost */
export async function encodeOutcome(reading: Reading, outcome: BatchOutcome): Promise<string> {
  if (outcome.op !== 'get') return encodeWithoutValue(outcome)
  const { version, reader } = outcome
  if (version.body.kind === 'inline') return gotValue(version, version.body.bytes)
  const opened = must(reader, 'reader of a content')
  try {
    return gotValue(version, await readValue(reading, opened, version.size))
  } finally {
    reading.close(opened)
  }
}

function encodeWithoutValue(outcome: Exclude<BatchOutcome, { op: 'get' }>): string {
  switch (outcome.op) {
    case 'put': {
      const { etag, revision, expiresMs } = outcome
      return `{"status":200,"etag":"${etag}","revision":${revision}${expiryMember(expiresMs)}}`
    }
    case 'delete':
      return `{"status":204,"existed":${outcome.existed},"revision":${outcome.revision}}`
    case 'exists':
      return `{"status":200,"exists":${outcome.exists}}`
    case 'failed': {
      const { status, code, detail } = outcome
      return JSON.stringify({ status, code, detail })
    }
    default:
      return unreachable(outcome, 'outcome')
  }
}

function gotValue(version: ObjectVersion, bytes: Uint8Array): string {
  return `{"status":200,${valueMembers(version, bytes)}}`
}

/** What a got value is shown as, in batches and transactions; `bytes` undefined for one that is too large to be shown. */
export function valueMembers(version: ObjectVersion, bytes: Uint8Array | undefined): string {
  const { etag, revision, size, mtimeMs, expiresMs, attributes } = version
  // Base64, numbers and ETags hold nothing that JSON escapes.
  const value = bytes === undefined ? 'null' : `"${base64Of(bytes)}"`
  const contentType = JSON.stringify(attributes.headers.contentType ?? CONTENT_TYPE_DEFAULT)
  const modified = new Date(mtimeMs).toISOString()
  return (
    `"value":${value},"etag":"${etag}","revision":${revision},"size":${size},"contentType":${contentType},` +
    `"modified":"${modified}"${expiryMember(expiresMs)}${metadataMember(attributes.userMetadata)}`
  )
}

export function base64Of(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** With its comma, or empty. */
export function expiryMember(expiresMs: number | undefined): string {
  return expiresMs === undefined ? '' : `,"expires":"${new Date(expiresMs).toISOString()}"`
}

/** With its comma, or empty. */
export function metadataMember(metadata: Readonly<Record<string, string>>): string {
  for (const _ in metadata) return `,"metadata":${JSON.stringify(metadata)}`
  return ''
}
