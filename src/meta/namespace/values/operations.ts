/** The operations of a transaction, one at a time. Each sees what those before it wrote. */
import { unreachable } from '../../../common/assert.ts'
import { NO_CONDITIONS } from '../../../common/conditions.ts'
import type { ByteString } from '../../../common/ids.ts'
import type { AckLevel, ObjectAttributes, ObjectVersion, StoredRun } from '../../../common/model.ts'
import type { Step } from '../context.ts'
import { expiryAfter } from '../expiry-rows.ts'
import { objectVersion } from '../object-version.ts'
import { writeVersion } from '../publish.ts'
import type { ObjectEntry } from '../records-objects.ts'
import { addRun } from '../references.ts'
import { removeIn } from '../remove.ts'
import { findPlace, liveEntry } from '../tree.ts'
import { readObjectInode } from '../versions.ts'
import { increment } from './counter.ts'

export interface PutOperation {
  readonly op: 'put'
  readonly key: string
  readonly body:
    | { readonly kind: 'inline'; readonly bytes: Uint8Array }
    | { readonly kind: 'run'; readonly run: StoredRun }
  readonly size: number
  readonly etag: string
  readonly attributes: ObjectAttributes
  readonly ttlMs: number | undefined
}

export interface IncrementOperation {
  readonly op: 'increment'
  readonly key: string
  readonly delta: bigint
  readonly ttlMs: number | undefined
}

export type ValueOperation =
  | { readonly op: 'get'; readonly key: string }
  | { readonly op: 'exists'; readonly key: string }
  | { readonly op: 'delete'; readonly key: string }
  | PutOperation
  | IncrementOperation

export type ValueOutcome =
  | { readonly op: 'get'; readonly version: ObjectVersion | undefined }
  | { readonly op: 'exists'; readonly exists: boolean }
  | { readonly op: 'delete'; readonly existed: boolean }
  | { readonly op: 'put'; readonly version: ObjectVersion }
  | { readonly op: 'increment'; readonly value: bigint; readonly version: ObjectVersion }

/** Who writes, and how safely. */
export interface Writer {
  readonly owner: string
  readonly ack: AckLevel
}

/** Whether its key may be a new one. */
export function makes(operation: ValueOperation): boolean {
  return operation.op === 'put' || operation.op === 'increment'
}

/** Whether it may write, and so takes inode ids. */
export function writes(operation: ValueOperation): boolean {
  return operation.op !== 'get' && operation.op !== 'exists'
}

export async function operate(
  step: Step,
  asked: { operation: ValueOperation; keyBytes: ByteString },
  writer: Writer,
): Promise<ValueOutcome> {
  const { operation, keyBytes } = asked
  const { key } = operation
  switch (operation.op) {
    case 'get': {
      const entry = await currentOf(step, keyBytes)
      return { op: 'get', version: entry && (await versionOf(step, key, entry)) }
    }
    case 'exists':
      return { op: 'exists', exists: (await currentOf(step, keyBytes)) !== undefined }
    case 'delete': {
      const { existed } = await removeIn(step, { key, keyBytes, conditions: NO_CONDITIONS, owner: writer.owner })
      return { op: 'delete', existed }
    }
    case 'put':
      return { op: 'put', version: await put(step, { operation, keyBytes }, writer) }
    case 'increment': {
      const current = await currentOf(step, keyBytes)
      return { op: 'increment', ...(await increment(step, { operation, keyBytes, current }, writer)) }
    }
    default:
      return unreachable(operation, 'operation of a transaction')
  }
}

/** The current version of a key, if it has one that has not expired. */
export async function currentOf(step: Step, keyBytes: ByteString): Promise<ObjectEntry | undefined> {
  const place = await findPlace(step.tx, step.bucket, keyBytes)
  return place && liveEntry(step.tx, place, step.nowMs)
}

export async function versionOf(step: Step, key: string, entry: ObjectEntry): Promise<ObjectVersion> {
  return objectVersion(step.bucket, key, entry, await readObjectInode(step.tx, entry.inode))
}

function put(
  step: Step,
  asked: { operation: PutOperation; keyBytes: ByteString },
  writer: Writer,
): Promise<ObjectVersion> {
  const { body, ttlMs, ...made } = asked.operation
  if (body.kind === 'run') addRun(step.tx, body.run, writer.ack)
  return writeVersion(step, {
    ...made,
    ...writer,
    keyBytes: asked.keyBytes,
    conditions: NO_CONDITIONS,
    checksum: undefined,
    partsCount: undefined,
    uploadId: undefined,
    expiresMs: expiryAfter(step, ttlMs),
    body: body.kind === 'inline' ? body : { kind: 'content', content: body.run.content },
  })
}
