/** CopyObject and tags: new versions and attributes over the same bytes. */
import type { AckLevel, Conditions, ObjectAttributes, ObjectVersion } from '../../common/model.ts'
import { checkConditions } from '../../common/conditions.ts'
import {
  beginStep,
  endStep,
  leaseInodes,
  readBucket,
  versionMade,
  withRevision,
  type Commit,
  type NamespaceContext,
} from './context.ts'
import { checkReferable } from './attached/bodies.ts'
import { inodeKey } from './keys.ts'
import { resolveVersion } from './lookup.ts'
import { validateKey, validateNewKey } from './names.ts'
import { objectVersion } from './object-version.ts'
import { inodesForKey, writeVersion } from './publish.ts'
import { encodeInode } from './records-objects.ts'
import { addReference } from './references.ts'
import { shownVersionId } from './version-ids.ts'
import { readObjectInode } from './versions.ts'

export interface ObjectAddress {
  readonly bucket: string
  readonly key: string
  readonly versionId?: string | undefined
}

export interface CopyRequest {
  readonly source: ObjectAddress
  readonly sourceConditions: Conditions
  readonly bucket: string
  readonly key: string
  readonly attributes: ObjectAttributes | undefined
  readonly tags: Readonly<Record<string, string>> | undefined
  readonly owner: string
  readonly conditions: Conditions
  readonly ack: AckLevel
}

/**
 * The source keeps its content, which then has one reference more; source and target may be the same key. An expiry is the
 * source's own: the copy has none. @throws ConditionalRequestConflict when the source's bytes lie outside: a reference would go with them
 */
export async function copy(
  context: NamespaceContext,
  request: CopyRequest,
): Promise<Commit<{ target: ObjectVersion; source: ObjectVersion }>> {
  const { source: from } = request
  const keyBytes = validateNewKey(request.key, context.limits)
  const fromBytes = validateKey(from.key, context.limits)
  const ids = await leaseInodes(context, inodesForKey(keyBytes))
  const committed = context.store.transact(async (tx) => {
    const step = await beginStep(context, tx, request.bucket, ids)
    const fromBucket = from.bucket === request.bucket ? step.bucket : await readBucket(tx, from.bucket)
    const found = await resolveVersion(tx, fromBucket, {
      key: from.key,
      keyBytes: fromBytes,
      versionId: from.versionId,
      nowMs: step.nowMs,
    })
    checkConditions('source', request.sourceConditions, found.entry)
    const inode = await readObjectInode(tx, found.entry.inode)
    const isItself = from.key === request.key && from.bucket === request.bucket
    if (fromBucket.isAttached && !isItself) await checkReferable(tx, inode.body)
    if (inode.body.kind === 'content') await addReference(tx, inode.body.content)
    const attributes = request.attributes ?? inode.attributes
    const target = await writeVersion(step, {
      key: request.key,
      keyBytes,
      conditions: request.conditions,
      size: inode.size,
      etag: inode.etag,
      owner: request.owner,
      ack: request.ack,
      attributes: { ...attributes, tags: request.tags ?? inode.attributes.tags },
      checksum: inode.checksum,
      partsCount: inode.partsCount,
      uploadId: undefined,
      expiresMs: undefined,
      body: inode.body,
    })
    endStep(step)
    return { target, source: objectVersion(fromBucket, from.key, found.entry, inode) }
  })
  return withRevision(context, committed, ({ target, source }, revision) => ({
    target: versionMade(target, revision),
    source,
  }))
}

export async function setTags(
  context: NamespaceContext,
  address: ObjectAddress,
  tags: Readonly<Record<string, string>>,
): Promise<Commit<{ versionId: string | undefined }>> {
  const keyBytes = validateKey(address.key, context.limits)
  return context.store.transact(async (tx) => {
    const bucket = await readBucket(tx, address.bucket)
    const { entry } = await resolveVersion(tx, bucket, { ...address, keyBytes, nowMs: context.clock.nowMs() })
    const inode = await readObjectInode(tx, entry.inode)
    tx.put(inodeKey(entry.inode), encodeInode({ ...inode, attributes: { ...inode.attributes, tags } }))
    return { versionId: shownVersionId(bucket, entry) }
  })
}
