/**
 * Counters: values that are a decimal number in ASCII, between -2^63 and 2^63 - 1, with or without a sign. They lie in the
 * inode record, so adding is reading and writing a row in one transaction, and a hundred at once add up.
 */
import { hash } from 'node:crypto'
import { NO_CONDITIONS } from '../../../common/conditions.ts'
import { TidegateError } from '../../../common/errors.ts'
import type { ByteString } from '../../../common/ids.ts'
import type { ObjectAttributes, ObjectVersion } from '../../../common/model.ts'
import type { Step } from '../context.ts'
import { expiryAfter } from '../expiry-rows.ts'
import { writeVersion } from '../publish.ts'
import type { ObjectEntry, ObjectInode } from '../records-objects.ts'
import { readObjectInode } from '../versions.ts'
import type { IncrementOperation, Writer } from './operations.ts'

const VALUE_MIN = -(2n ** 63n)
const VALUE_MAX = 2n ** 63n - 1n
const DECIMAL = /^-?[0-9]+$/

const NEW_COUNTER: ObjectAttributes = {
  headers: { contentType: 'text/plain; charset=utf-8' },
  userMetadata: {},
  tags: {},
  storageClass: 'STANDARD',
}

/** @throws InvalidCounter when what is there is no such number, or the sum would not be one */
export async function increment(
  step: Step,
  asked: { operation: IncrementOperation; keyBytes: ByteString; current: ObjectEntry | undefined },
  writer: Writer,
): Promise<{ value: bigint; version: ObjectVersion }> {
  const { key, delta, ttlMs } = asked.operation
  const { current } = asked
  const before = current && (await readObjectInode(step.tx, current.inode))
  const value = (before ? counterValue(key, before) : 0n) + delta
  if (value < VALUE_MIN || value > VALUE_MAX) throw invalidCounter(key, `cannot hold ${value}`)
  const text = value.toString()
  const version = await writeVersion(step, {
    key,
    ...writer,
    keyBytes: asked.keyBytes,
    conditions: NO_CONDITIONS,
    size: text.length,
    etag: hash('md5', text, 'hex'),
    attributes: before?.attributes ?? NEW_COUNTER,
    checksum: undefined,
    partsCount: undefined,
    uploadId: undefined,
    expiresMs: ttlMs === undefined ? current?.expiresMs : expiryAfter(step, ttlMs),
    body: { kind: 'inline', bytes: new TextEncoder().encode(text) },
  })
  return { value, version }
}

function counterValue(key: string, inode: ObjectInode): bigint {
  const text = inode.body.kind === 'inline' ? Buffer.from(inode.body.bytes).toString('latin1') : ''
  const value = DECIMAL.test(text) ? BigInt(text) : undefined
  if (value === undefined || value < VALUE_MIN || value > VALUE_MAX) throw invalidCounter(key, 'is not a counter')
  return value
}

function invalidCounter(key: string, what: string): TidegateError {
  return new TidegateError('InvalidCounter', `the value of ${JSON.stringify(key)} ${what}`, { details: { key } })
}
