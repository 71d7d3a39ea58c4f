/** Scans, transactions, presence and pins of the store in memory (see fake-store.ts). */
import { createHash } from 'node:crypto'
import { TidegateError } from '../../src/common/errors.ts'
import type { ListedObject, ObjectAttributes, ObjectVersion } from '../../src/common/model.ts'
import type { KeyValues } from '../../src/store/doors.ts'
import type {
  ScannedValue,
  TransactionCompare,
  TransactionOperation,
  TransactionOutcome,
  TransactionRequest,
} from '../../src/store/kv-types.ts'
import type { BodySource } from '../../src/store/types.ts'

/** A current object and its bytes. */
export interface FakeObject {
  readonly version: ObjectVersion
  readonly bytes: Buffer
}

export interface FakePublish {
  readonly bucket: string
  readonly key: string
  readonly owner: string
  readonly attributes: ObjectAttributes
  readonly bytes: Buffer
  readonly expiresMs: number | undefined
  /** Shared by all that one transaction writes. */
  readonly revision: number
}

/** What the fake store lends to its parts. */
export interface FakeObjects {
  nowMs(): number
  revision(): number
  nextRevision(): number
  /** Current objects in key order. @throws NoSuchBucket */
  sorted(bucket: string): FakeObject[]
  find(bucket: string, key: string): FakeObject | undefined
  take(body: BodySource): Buffer
  publish(request: FakePublish): ObjectVersion
  remove(bucket: string, key: string, revision: number): boolean
  openReader(object: FakeObject): number
  listed(version: ObjectVersion): ListedObject
}

const NO_ATTRIBUTES: ObjectAttributes = {
  headers: { contentType: 'text/plain' },
  userMetadata: {},
  tags: {},
  storageClass: 'STANDARD',
}
const COUNTER = /^(0|-?[1-9]\d{0,18})$/
const [COUNTER_MIN, COUNTER_MAX] = [-(2n ** 63n), 2n ** 63n - 1n]

export function fakeKeyValues(objects: FakeObjects, pins: Map<string, number>): KeyValues {
  return {
    scan: async (request) => {
      const { bucket, prefix, start, end, after, reverse, limit, values, valueBytesMax } = request
      const found = objects.sorted(bucket).filter(({ version: { key } }) => {
        if (!key.startsWith(prefix) || (start !== '' && less(key, start)) || (end !== '' && !less(key, end)))
          return false
        return after === undefined || (reverse ? less(key, after) : less(after, key))
      })
      if (reverse) found.reverse()
      const page = found.slice(0, limit)
      const keys = page.map((object) => {
        const wanted = values && object.version.size <= valueBytesMax
        return { ...objects.listed(object.version), value: wanted ? scannedValue(objects, object) : undefined }
      })
      const next = found.length > page.length ? page.at(-1)?.version.key : undefined
      return { keys, next, revision: objects.revision() }
    },
    transact: async (request) => transact(objects, request),
    exist: async (bucket, keys) => {
      objects.sorted(bucket)
      return { exist: keys.map((key) => objects.find(bucket, key) !== undefined), revision: objects.revision() }
    },
    countLeading: async (bucket, keys) => {
      objects.sorted(bucket)
      const missing = keys.findIndex((key) => objects.find(bucket, key) === undefined)
      return { count: missing < 0 ? keys.length : missing, revision: objects.revision() }
    },
    pin: async ({ bucket, key }, durationMs) => {
      const object = objects.find(bucket, key)
      if (!object) throw new TidegateError('NoSuchKey', key)
      if (durationMs === 0) pins.delete(`${bucket}/${key}`)
      else pins.set(`${bucket}/${key}`, objects.nowMs() + durationMs)
      const { body, size } = object.version
      return { bytes: durationMs === 0 || body.kind === 'inline' ? 0 : size }
    },
  }
}

function scannedValue(objects: FakeObjects, object: FakeObject): ScannedValue {
  const { attributes, body } = object.version
  if (body.kind === 'inline') return { attributes, body }
  return { attributes, body: { kind: 'content', reader: objects.openReader(object) } }
}

/** Two rounds: the first finds out whether all of it can be done, the second does it; nothing runs in between. */
function transact(objects: FakeObjects, request: TransactionRequest): Awaited<ReturnType<KeyValues['transact']>> {
  objects.sorted(request.bucket)
  const succeeded = request.compares.every((compare) => holds(compare, objects.find(request.bucket, compare.key)))
  const operations = succeeded ? request.then : request.else
  const written = operations.flatMap(({ op, key }) => (op === 'get' || op === 'exists' ? [] : [key]))
  const twice = written.find((key, index) => written.indexOf(key) !== index)
  if (twice !== undefined) throw new TidegateError('InvalidArgument', `the key ${twice} is written twice`)
  for (const operation of operations) {
    if (operation.op === 'increment') counted(operation, objects.find(request.bucket, operation.key))
  }
  const revision = written.length > 0 ? objects.nextRevision() : objects.revision()
  const outcomes = operations.map((operation) => perform(objects, { request, operation, revision }))
  return { succeeded, outcomes, revision }
}

function holds(compare: TransactionCompare, object: FakeObject | undefined): boolean {
  switch (compare.target) {
    case 'exists':
      return compare.operand === (object !== undefined)
    case 'revision': {
      const difference = (object?.version.revision ?? 0) - compare.operand
      const outcomes = { '=': difference === 0, '!=': difference !== 0, '<': difference < 0, '>': difference > 0 }
      return outcomes[compare.operator]
    }
    case 'etag':
      return (object?.version.etag === compare.operand) === (compare.operator === '=')
    case 'value':
      return (object?.bytes.equals(compare.operand) ?? false) === (compare.operator === '=')
  }
}

function perform(
  objects: FakeObjects,
  { request, operation, revision }: { request: TransactionRequest; operation: TransactionOperation; revision: number },
): TransactionOutcome {
  const { bucket, owner } = request
  const { key } = operation
  const object = objects.find(bucket, key)
  const expiry = (ttlMs: number | undefined): number | undefined =>
    ttlMs === undefined ? undefined : objects.nowMs() + ttlMs
  switch (operation.op) {
    case 'get': {
      const reader = object?.version.body.kind === 'content' ? objects.openReader(object) : undefined
      return { op: 'get', version: object?.version, reader }
    }
    case 'exists':
      return { op: 'exists', exists: object !== undefined }
    case 'delete':
      return { op: 'delete', existed: objects.remove(bucket, key, revision) }
    case 'put': {
      const { attributes, ttlMs } = operation
      const bytes = objects.take(operation.body)
      const expiresMs = expiry(ttlMs)
      return { op: 'put', version: objects.publish({ bucket, key, owner, attributes, bytes, expiresMs, revision }) }
    }
    case 'increment': {
      const value = counted(operation, object)
      const attributes = object?.version.attributes ?? NO_ATTRIBUTES
      const expiresMs = expiry(operation.ttlMs) ?? object?.version.expiresMs
      const bytes = Buffer.from(String(value))
      const version = objects.publish({ bucket, key, owner, attributes, bytes, expiresMs, revision })
      return { op: 'increment', value, version }
    }
  }
}

function counted({ key, delta }: { key: string; delta: bigint }, object: FakeObject | undefined): bigint {
  const text = object?.bytes.toString('latin1') ?? '0'
  if (!COUNTER.test(text)) throw new TidegateError('InvalidCounter', `${key} holds no number`)
  const value = BigInt(text) + delta
  if (value < COUNTER_MIN || value > COUNTER_MAX) throw new TidegateError('InvalidCounter', `${key} would overflow`)
  return value
}

function less(a: string, b: string): boolean {
  return Buffer.compare(Buffer.from(a), Buffer.from(b)) < 0
}

export function md5(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex')
}
