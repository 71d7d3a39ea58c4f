import type { ValueCall } from './value-call.ts'
import { pushState } from './value-headers.ts'
import { httpDate } from '../http/http-times.ts'

/**
 * Answers 304 with the headers by which a cache knows what it holds (RFC 9110, 15.4.5): so the value is looked at once more, and
 * if it has gone meanwhile, that is the answer.
 */
export async function sendNotModified(call: ValueCall): Promise<void> {
  const version = await call.store.objects.head(call.address, {})
  const headers = call.replyHeaders()
  headers.push('x-tidegate-error', 'NotModified', 'Last-Modified', httpDate(version.mtimeMs))
  pushState(headers, version)
  const { cacheControl, expires } = version.attributes.headers
  if (cacheControl !== undefined) headers.push('Cache-Control', cacheControl)
  if (expires !== undefined) headers.push('Expires', expires)
  call.response.writeHead(304, headers).end()
}
