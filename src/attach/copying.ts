/**
 * CopyObject within one attached bucket, of an object that lies outside: the external store copies it, before it is acknowledged
 * (docs/decisions/0015, Refused). A reference here would go when somebody outside overwrites the source, and its bytes would go through this node twice.
 *
 * The copy is conditional on the source's ETag and on what was known to lie at the target. Where the store cannot decide that, or the target was changed here and
 * waits to be carried out, it is not made so: the store copies by bytes then.
 */
import { checkConditions } from '../common/conditions.ts'
import { isTidegateError, TidegateError } from '../common/errors.ts'
import type { ObjectVersion } from '../common/model.ts'
import type { Commit, Metadata } from '../store/ports.ts'
import type { Attached } from './attached.ts'
import type { Freshness } from './freshness.ts'
import type { AttachedNames, Expected, ExternalBody, MergedOne } from './ports.ts'

export type CopyNames = Pick<AttachedNames, 'dirtyState' | 'mergeOne' | 'revision'>

export interface CopyParts {
  readonly metadata: Metadata
  readonly freshness: Freshness
  readonly names: CopyNames
}

type CopyRequest = Parameters<Metadata['copy']>[0]
type Copied = Awaited<ReturnType<Metadata['copy']>>

interface Planned {
  readonly source: ObjectVersion
  readonly body: ExternalBody
  readonly expected: Expected
}

/** What somebody outside changes faster than that is his. */
const ATTEMPTS_MAX = 3

/**
 * Both keys have been made fresh. Undefined: it is to be made some other way.
 * @throws PreconditionFailed, NoSuchKey as the conditions say; ConditionalRequestConflict when things change too fast outside
 */
export async function copyOutside(
  parts: CopyParts,
  attached: Attached,
  request: CopyRequest,
): Promise<Copied | undefined> {
  const { freshness } = parts
  const { bucketId } = attached.record
  // A change of the attributes is one of metadata, and goes out as any other.
  if (request.source.key === request.key) return undefined
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const planned = await plan(parts, attached, request)
    if (!planned) return undefined
    const outcome = await copyThere(attached, request, planned)
    if (outcome === 'not possible') return undefined
    if (outcome === 'done') return await settled(parts, attached, { request, source: planned.source })
    for (const key of [request.key, request.source.key, planned.body.key]) freshness.forget(bucketId, key)
    await freshness.ensureKeys(attached, [request.key, request.source.key], { described: true })
  }
  throw changesTooFast(request)
}

async function plan(
  { metadata, names }: CopyParts,
  { record, capabilities }: Attached,
  request: CopyRequest,
): Promise<Planned | undefined> {
  const { bucketId, bucket } = record
  const source = await metadata.lookup(bucket, request.source.key, request.source.versionId)
  if (source.body.kind !== 'external') return undefined
  const target = await metadata.lookup(bucket, request.key).catch((error: unknown) => {
    if (isTidegateError(error, 'NoSuchKey')) return undefined
    throw error
  })
  checkConditions('source', request.sourceConditions, source)
  checkConditions('write', request.conditions, target)
  if (await names.dirtyState(bucketId, request.key)) return undefined
  const body = source.body.external
  const expected = expectedAt(request.key, target)
  if (!expected) return undefined
  if (capabilities?.conditionalCopy) return { source, body, expected }
  // Whoever attached it so has said that the last writer wins.
  return record.conflicts === 'last-writer-wins' ? { source, body, expected: { kind: 'anything' } } : undefined
}

/** What lies outside at a key that is not dirty. */
function expectedAt(key: string, target: ObjectVersion | undefined): Expected | undefined {
  if (!target) return { kind: 'absent' }
  const { body } = target
  if (body.kind !== 'external' || body.external.key !== key) return undefined
  return { kind: 'etag', etag: body.external.etag }
}

async function copyThere(
  { external, record }: Attached,
  request: CopyRequest,
  { source, body, expected }: Planned,
): Promise<'done' | 'changed' | 'not possible'> {
  const { attributes, tags } = request
  const isAsSource = attributes === undefined && tags === undefined
  const given = { ...(attributes ?? source.attributes), tags: tags ?? source.attributes.tags }
  try {
    await external.copy(body, request.key, { attributes: isAsSource ? undefined : given, expected })
    return 'done'
  } catch (cause) {
    if (isTidegateError(cause, 'PreconditionFailed') || isTidegateError(cause, 'NoSuchKey')) return 'changed'
    if (isTidegateError(cause, 'NotImplemented')) return 'not possible'
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new TidegateError('Unavailable', `what bucket ${record.bucket} is attached to does not copy: ${why}`, {
      cause,
    })
  }
}

/** It lies there. The mirror is told, and says what the target is now. */
async function settled(
  { metadata, names, freshness }: CopyParts,
  attached: Attached,
  { request, source }: { readonly request: CopyRequest; readonly source: ObjectVersion },
): Promise<Commit<{ target: ObjectVersion; source: ObjectVersion }>> {
  const { bucketId, bucket } = attached.record
  const { key } = request
  // Until it is told, nothing that is known of the key counts.
  freshness.forget(bucketId, key)
  const commit = await tell(names, attached, key)
  if (commit.value === 'changed' || commit.value === 'same') freshness.saw(bucketId, key)
  const target = await metadata.lookup(bucket, key).catch((error: unknown) => {
    if (isTidegateError(error, 'NoSuchKey')) throw changesTooFast(request)
    throw error
  })
  return { ...commit, value: { target, source } }
}

/** What lies there now. `late`, what is here is older than the copy: it must not be told as its outcome. */
async function tell(names: CopyNames, { record, external }: Attached, key: string): Promise<Commit<MergedOne>> {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const askedAt = names.revision()
    const found = await external.head(key).catch((cause: unknown) => {
      throw doesNotShow(key, cause)
    })
    const commit = await names.mergeOne({ bucketId: record.bucketId, key, found, askedAt })
    if (commit.value !== 'late') return commit
  }
  throw doesNotShow(key, undefined)
}

function doesNotShow(key: string, cause: unknown): TidegateError {
  return new TidegateError('Unavailable', `${JSON.stringify(key)} was copied and does not show yet`, { cause })
}

function changesTooFast({ key }: CopyRequest): TidegateError {
  return new TidegateError(
    'ConditionalRequestConflict',
    `${JSON.stringify(key)} changes outside while it is copied: try again`,
  )
}
