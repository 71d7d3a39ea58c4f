/**
 * Whether a caller may learn that a key does not exist: AWS says 404 to those who may list the bucket, and 403 to all
 * others. `s3:prefix` is the key, so that a policy which opens one prefix opens its 404s too.
 */
import { isTidegateError } from '../../common/errors.ts'
import type { Call } from './call.ts'
import { S3Error } from './errors.ts'

/** The error to report in place of `error`. */
export function hideMissingKey(call: Call, error: unknown, source: { bucket: string; key: string } = call): unknown {
  if (!isTidegateError(error, 'NoSuchKey')) return error
  const mayList = call.mayDo('s3:ListBucket', { bucket: source.bucket }, { 's3:prefix': source.key })
  return mayList ? error : new S3Error('AccessDenied')
}
