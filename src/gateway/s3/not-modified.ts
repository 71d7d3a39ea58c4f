import { isTidegateError } from '../../common/errors.ts'
import type { Call } from './call.ts'
import { httpDate } from '../http/http-times.ts'

/**
 * Answers 304 if that is what the store's error says. A 304 carries the headers by which a cache knows what it holds
 * (RFC 9110, 15.4.5), so the object is looked at once more; if it has gone meanwhile, that is the answer.
 */
export async function sendNotModified(call: Call, error: unknown): Promise<boolean> {
  if (!isTidegateError(error, 'NotModified')) return false
  const version = await call.store.objects.head(call.address, {})
  const headers = call.replyHeaders()
  headers.push('ETag', `"${version.etag}"`, 'Last-Modified', httpDate(version.mtimeMs))
  const { cacheControl, expires } = version.attributes.headers
  if (cacheControl !== undefined) headers.push('Cache-Control', cacheControl)
  if (expires !== undefined) headers.push('Expires', expires)
  if (version.versionId !== undefined) headers.push('x-amz-version-id', version.versionId)
  call.response.writeHead(304, headers).end()
  return true
}
