/** A transaction as JSON (docs/kv.md, "Transactions"): reading it, and writing what came of it. */
import { unreachable } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { Limits } from '../../common/limits.ts'
import type { ObjectAttributes } from '../../common/model.ts'
import type { Reading } from '../../store/doors.ts'
import type { TransactionCompare, TransactionOperation, TransactionOutcome } from '../../store/kv-types.ts'
import { expiryMember, valueMembers } from './batch-json.ts'
import { deltaOf } from './counter-delta.ts'
import { badMember, JsonMembers, listOf } from './json-members.ts'
import { attributesIn, keyOf, ttlMsOf, valueOf } from './operation-json.ts'
import { readValue } from './value-bytes.ts'

const ITEMS_MAX = 512
/** Values of gets; a larger one comes as null. */
const VALUE_BYTES_MAX = 1024 * 1024
/** Values in the request. */
const VALUES_BYTES_MAX = 16 * 1024 * 1024
const ANSWER_VALUE_BYTES_MAX = 16 * 1024 * 1024

const TARGETS = ['exists', 'revision', 'etag', 'value'] as const
const ORDERED = ['=', '!=', '<', '>'] as const
const EQUALITY = ['=', '!='] as const
const OPERATIONS = ['get', 'exists', 'put', 'delete', 'increment'] as const

const TRANSACTION_MEMBERS = new Set(['compare', 'then', 'else'])
const COMPARE_MEMBERS = new Set(['key', 'target', 'operator', 'operand'])
const OPERATION_MEMBERS: Readonly<Record<(typeof OPERATIONS)[number], ReadonlySet<string>>> = {
  get: new Set(['op', 'key']),
  exists: new Set(['op', 'key']),
  delete: new Set(['op', 'key']),
  put: new Set(['op', 'key', 'value', 'text', 'contentType', 'metadata', 'ttl']),
  increment: new Set(['op', 'key', 'delta', 'ttl']),
}

/** A put whose bytes are not with the store yet. */
export interface ParsedPut {
  readonly op: 'put'
  readonly key: string
  readonly bytes: Buffer
  readonly attributes: ObjectAttributes
  readonly ttlMs: number | undefined
}

export type ParsedOperation = Exclude<TransactionOperation, { op: 'put' }> | ParsedPut

export interface ParsedTransaction {
  readonly compares: readonly TransactionCompare[]
  readonly then: readonly ParsedOperation[]
  readonly else: readonly ParsedOperation[]
}

/** @throws InvalidArgument, TransactionTooLarge */
export function parseTransaction(body: unknown, limits: Limits): ParsedTransaction {
  const members = new JsonMembers(body, '')
  members.allowOnly(TRANSACTION_MEMBERS)
  const list = (name: string): readonly unknown[] => listOf(members.get(name) ?? [], name, Infinity)
  const [compare, then, otherwise] = [list('compare'), list('then'), list('else')]
  const items = compare.length + then.length + otherwise.length
  if (items > ITEMS_MAX) {
    throw new TidegateError('TransactionTooLarge', `${items} compares and operations are more than ${ITEMS_MAX}`)
  }
  const operation = (branch: string) => (value: unknown, index: number) =>
    parseOperation(new JsonMembers(value, `${branch}[${index}]`), limits)
  const parsed = {
    compares: compare.map((value, index) => parseCompare(new JsonMembers(value, `compare[${index}]`))),
    then: then.map(operation('then')),
    else: otherwise.map(operation('else')),
  }
  const bytes = valueBytesOf(parsed)
  if (bytes > VALUES_BYTES_MAX) {
    throw new TidegateError('TransactionTooLarge', `${bytes} bytes of values are more than ${VALUES_BYTES_MAX}`)
  }
  return parsed
}

function valueBytesOf({ compares, then, else: otherwise }: ParsedTransaction): number {
  let bytes = 0
  for (const compare of compares) if (compare.target === 'value') bytes += compare.operand.length
  for (const operation of [...then, ...otherwise]) if (operation.op === 'put') bytes += operation.bytes.length
  return bytes
}

function parseCompare(members: JsonMembers): TransactionCompare {
  members.allowOnly(COMPARE_MEMBERS)
  const key = keyOf(members)
  const target = members.oneOf('target', TARGETS)
  switch (target) {
    case 'exists':
      if (members.has('operator')) throw badMember(members.pathOf('operator'), 'has no meaning for "exists"')
      return { target, key, operand: members.truth('operand') }
    case 'revision': {
      const operand = members.get('operand')
      if (!Number.isSafeInteger(operand)) throw badMember(members.pathOf('operand'), 'is no revision')
      return { target, key, operator: members.oneOf('operator', ORDERED), operand: operand as number }
    }
    case 'etag':
      return { target, key, operator: members.oneOf('operator', EQUALITY), operand: members.text('operand') }
    case 'value':
      return { target, key, operator: members.oneOf('operator', EQUALITY), operand: members.base64('operand') }
    default:
      return unreachable(target, 'target of a compare')
  }
}

function parseOperation(members: JsonMembers, limits: Limits): ParsedOperation {
  const op = members.oneOf('op', OPERATIONS)
  members.allowOnly(OPERATION_MEMBERS[op])
  const key = keyOf(members)
  switch (op) {
    case 'get':
    case 'exists':
    case 'delete':
      return { op, key }
    case 'increment':
      return { op, key, delta: deltaOf(members), ttlMs: ttlMsOf(members) }
    case 'put': {
      const bytes = valueOf(members, Infinity)
      return { op, key, bytes, attributes: attributesIn(members, limits), ttlMs: ttlMsOf(members) }
    }
    default:
      return unreachable(op, 'operation of a transaction')
  }
}

/** The results in order. Closes all readers. `mayHold`: whether there is memory for a value. @throws DataLost */
export async function encodeOutcomes(
  reading: Reading,
  outcomes: readonly TransactionOutcome[],
  mayHold: (bytes: number) => boolean,
): Promise<string> {
  const results: string[] = []
  let roomBytes = ANSWER_VALUE_BYTES_MAX
  const takesRoom = (bytes: number): boolean => {
    if (bytes > VALUE_BYTES_MAX || bytes > roomBytes || !mayHold(bytes)) return false
    roomBytes -= bytes
    return true
  }
  try {
    for (const outcome of outcomes) results.push(await encodeOutcome(reading, outcome, takesRoom))
    return `[${results.join(',')}]`
  } finally {
    for (const outcome of outcomes) {
      if (outcome.op === 'get' && outcome.reader !== undefined) reading.close(outcome.reader)
    }
  }
}

async function encodeOutcome(
  reading: Reading,
  outcome: TransactionOutcome,
  takesRoom: (bytes: number) => boolean,
): Promise<string> {
  switch (outcome.op) {
    case 'get': {
      const { version, reader } = outcome
      if (version === undefined) return '{"exists":false}'
      const shown = takesRoom(version.size)
      const stored = shown && reader !== undefined ? await readValue(reading, reader, version.size) : undefined
      const inline = shown && version.body.kind === 'inline' ? version.body.bytes : undefined
      return `{"exists":true,${valueMembers(version, stored ?? inline)}}`
    }
    case 'exists':
      return `{"exists":${outcome.exists}}`
    case 'delete':
      return `{"existed":${outcome.existed}}`
    case 'put': {
      const { etag, revision, expiresMs } = outcome.version
      return `{"etag":"${etag}","revision":${revision}${expiryMember(expiresMs)}}`
    }
    case 'increment':
      return `{"value":"${outcome.value}","revision":${outcome.version.revision}}`
    default:
      return unreachable(outcome, 'outcome of a transaction')
  }
}
