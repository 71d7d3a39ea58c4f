/** What a value's headers are called, and how they are written. */
import type { ObjectVersion } from '../../common/model.ts'
import { pushContentHeaders, headerText, pushMetadata } from '../http/content-headers.ts'
import { httpDate, isoDate } from '../http/http-times.ts'
import { CONTENT_TYPE_DEFAULT } from './value-attributes.ts'

export const METADATA_PREFIX = 'x-tidegate-meta-'

/** What names a state of the key. */
export interface NamedState {
  readonly etag: string
  readonly revision: number
  readonly expiresMs: number | undefined
  readonly versionId: string | undefined
}

export function pushState(headers: string[], state: NamedState): void {
  headers.push('ETag', `"${state.etag}"`, 'x-tidegate-revision', String(state.revision))
  if (state.expiresMs !== undefined) headers.push('x-tidegate-expires', isoDate(state.expiresMs))
  if (state.versionId !== undefined) headers.push('x-tidegate-version-id', state.versionId)
}

/** Everything but the type, the length and what belongs to ranges. */
export function pushValue(headers: string[], version: ObjectVersion): void {
  pushState(headers, version)
  headers.push('Last-Modified', httpDate(version.mtimeMs), 'Accept-Ranges', 'bytes')
  pushContentHeaders(headers, version.attributes.headers)
  pushMetadata(headers, version, METADATA_PREFIX)
}

export function contentTypeOf(version: ObjectVersion): string {
  const { contentType } = version.attributes.headers
  return contentType === undefined ? CONTENT_TYPE_DEFAULT : headerText(contentType)
}
