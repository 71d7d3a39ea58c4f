import { isTidegateError } from '../../../common/errors.ts'
import type { ObjectAttributes } from '../../../common/model.ts'
import type { Call } from '../call.ts'
import { parseAlgorithm } from '../../http/body/checksum-headers.ts'
import { checksumElement } from '../checksums.ts'
import { copySourceConditions, writeConditions } from '../conditions.ts'
import { invalidArgument, S3Error } from '../errors.ts'
import { hideMissingKey } from '../missing-key.ts'
import { objectAttributes } from '../object-attributes.ts'
import { pushNewVersion } from '../object-headers.ts'
import type { Operation } from '../operation.ts'
import { parseTaggingHeader, type Tags } from '../tags.ts'
import { isoDate } from '../../http/http-times.ts'
import { document, element } from '../xml/escape.ts'

export const copyObject = {
  name: 'CopyObject',
  method: 'PUT',
  level: 'object',
  copy: true,
  features: true,
  /** A copy is a read of the source and a write of the target (lesson 5.2.16). */
  ack: true,
  access: (call) => {
    authorizeSource(call)
    authorizeTarget(call)
    if (call.headers['x-amz-tagging'] !== undefined) call.authorize('s3:PutObjectTagging')
  },
  run: async (call) => {
    const source = call.copySource
    const tags = replacedTags(call)
    const replaced = replacesMetadata(call) ? objectAttributes(call) : undefined
    const change = replaced === undefined ? labelChange(call) : undefined
    const algorithm = parseAlgorithm(call.header('x-amz-checksum-algorithm'))
    const itself = source.bucket === call.bucket && source.key === call.key && source.versionId === undefined
    if (itself && replaced === undefined && change === undefined && tags === undefined) {
      throw new S3Error(
        'InvalidRequest',
        "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
      )
    }
    try {
      const asked = copySourceConditions(call)
      const untagged = tags === undefined && !mayCopyTags(call)
      const look = untagged || change !== undefined || algorithm !== undefined
      const seen = look ? await call.store.objects.head(source, asked) : undefined
      if (untagged && Object.keys(seen?.attributes.tags ?? {}).length > 0) throw new S3Error('AccessDenied')
      if (algorithm !== undefined && seen?.checksum?.algorithm !== algorithm) throw otherChecksum(algorithm)
      const attributes =
        replaced ?? (change === undefined || seen === undefined ? undefined : { ...seen.attributes, ...change })
      const result = await call.store.objects.copy({
        source,
        // What was derived from the source must still be so when it is copied.
        sourceConditions: seen === undefined ? asked : { ...asked, ifMatch: [seen.etag] },
        bucket: call.bucket,
        key: call.key,
        attributes,
        // None were seen, and any that come meanwhile are not for this caller.
        tags: untagged ? {} : tags,
        owner: call.authenticated.principal.id,
        conditions: writeConditions(call),
        ack: call.ack,
      })
      const headers = call.replyHeaders()
      pushNewVersion(headers, result.versionId)
      if (result.sourceVersionId !== undefined) headers.push('x-amz-copy-source-version-id', result.sourceVersionId)
      const content =
        element('LastModified', isoDate(result.mtimeMs)) +
        element('ETag', `"${result.etag}"`) +
        element('ChecksumType', result.checksum?.type) +
        checksumElement(result.checksum)
      call.sendXml(document('CopyObjectResult', content), headers)
    } catch (error) {
      throw copyError(call, error)
    }
  },
} as const satisfies Operation

/** The right to read what is copied. @throws AccessDenied */
export function authorizeSource(call: Call): void {
  const { bucket, key, versionId } = call.copySource
  const action = versionId === undefined ? 's3:GetObject' : 's3:GetObjectVersion'
  call.authorize(action, { bucket, key }, { 's3:versionid': versionId })
}

/**
 * The right to write the copy. Conditions see the source as it is read, whatever the spelling of the header: `/b/k` and
 * `b/%6B` must not slip past a rule on `b/k` (lesson 5.2.12). @throws AccessDenied
 */
export function authorizeTarget(call: Call): void {
  const { bucket, key } = call.copySource
  call.authorize('s3:PutObject', undefined, { 's3:x-amz-copy-source': `${bucket}/${key}` })
}

/** Tags that come along are read from the source and written to the target, as on AWS (lesson 5.2.16). */
function mayCopyTags(call: Call): boolean {
  const { bucket, key, versionId } = call.copySource
  const action = versionId === undefined ? 's3:GetObjectTagging' : 's3:GetObjectVersionTagging'
  return call.mayDo(action, { bucket, key }, { 's3:versionid': versionId }) && call.mayDo('s3:PutObjectTagging')
}

/**
 * A condition on the source that does not hold is 412 for a copy, `NotModified` too: there is nothing a 304 could stand
 * for (S3 API, CopyObject). What is missing is the source's key; which of two buckets is, the store does not say.
 */
export function copyError(call: Call, error: unknown): unknown {
  if (isTidegateError(error, 'NotModified')) return new S3Error('PreconditionFailed')
  if (isTidegateError(error, 'NoSuchBucket')) return new S3Error('NoSuchBucket', undefined, { BucketName: undefined })
  const shown = hideMissingKey(call, error, call.copySource)
  return isTidegateError(shown, 'NoSuchKey') ? new S3Error('NoSuchKey', undefined, { Key: call.copySource.key }) : shown
}

/** x-amz-metadata-directive. */
function replacesMetadata(call: Call): boolean {
  const directive = call.header('x-amz-metadata-directive') ?? 'COPY'
  if (directive !== 'COPY' && directive !== 'REPLACE') {
    throw invalidArgument('x-amz-metadata-directive', directive, 'Unknown metadata directive.')
  }
  return directive === 'REPLACE'
}

/** Storage class and redirect follow their headers even when metadata is copied; rclone changes classes this way. */
function labelChange(call: Call): Partial<ObjectAttributes> | undefined {
  if (
    call.headers['x-amz-storage-class'] === undefined &&
    call.headers['x-amz-website-redirect-location'] === undefined
  ) {
    return undefined
  }
  const { storageClass, websiteRedirect } = objectAttributes(call)
  return {
    ...(call.headers['x-amz-storage-class'] === undefined ? {} : { storageClass }),
    ...(websiteRedirect === undefined ? {} : { websiteRedirect }),
  }
}

function replacedTags(call: Call): Tags | undefined {
  const directive = call.header('x-amz-tagging-directive') ?? 'COPY'
  if (directive === 'REPLACE') return parseTaggingHeader(call.header('x-amz-tagging'), call.door.limits.tagsMax)
  if (directive !== 'COPY') throw invalidArgument('x-amz-tagging-directive', directive, 'Unknown tagging directive.')
  return undefined
}

/**
 * A copy moves no byte, so it keeps the checksum of its source. One by another algorithm would need the bytes to be read;
 * it is refused rather than forgotten (C36).
 */
function otherChecksum(algorithm: string): S3Error {
  return new S3Error('NotImplemented', `A copy keeps the checksum of its source, which is not ${algorithm}.`, {
    Header: 'x-amz-checksum-algorithm',
  })
}
