/**
 * Response headers of GET and HEAD. Built as a flat list of names and values for `writeHead`, which takes such a list
 * without making an object of it.
 */
import type { ContentHeaders, ObjectVersion } from '../../common/model.ts'
import { CONTENT_HEADERS, headerText, pushContentHeaders, pushMetadata } from '../http/content-headers.ts'
import { httpDate } from '../http/http-times.ts'
import type { Call } from './call.ts'
import { invalidArgument, S3Error } from './errors.ts'

/** What AWS answers for an object that was stored without a type. */
const DEFAULT_TYPE = 'binary/octet-stream'

const NO_OVERRIDES: ContentHeaders = {}

/** response-* parameters: only in signed requests (lesson 5.1.5). @throws S3Error InvalidRequest, InvalidArgument */
export function responseOverrides(call: Call): ContentHeaders {
  if (call.target.query.size === 0) return NO_OVERRIDES
  let overrides: Record<string, string> | undefined
  for (const [field, name] of CONTENT_HEADERS) {
    const parameter = `response-${name.toLowerCase()}`
    const value = call.query(parameter)
    if (value === undefined) continue
    if (call.authenticated.form === 'anonymous') {
      throw new S3Error(
        'InvalidRequest',
        'Request specific response headers cannot be used for anonymous GET requests.',
      )
    }
    if (!isLatin1(value)) {
      throw invalidArgument(parameter, value, 'Header value cannot be represented using ISO-8859-1.')
    }
    overrides = { ...overrides, [field]: value }
  }
  return overrides ?? NO_OVERRIDES
}

/** Appends everything but Content-Length and what belongs to ranges. */
export function pushObjectHeaders(headers: string[], version: ObjectVersion, overrides: ContentHeaders): void {
  const { attributes } = version
  headers.push(
    'Content-Type',
    headerText(overrides.contentType ?? attributes.headers.contentType ?? DEFAULT_TYPE),
    'ETag',
    `"${version.etag}"`,
    'Last-Modified',
    httpDate(version.mtimeMs),
    'Accept-Ranges',
    'bytes',
  )
  pushContentHeaders(headers, overrides === NO_OVERRIDES ? attributes.headers : { ...attributes.headers, ...overrides })
  if (version.versionId !== undefined) headers.push('x-amz-version-id', version.versionId)
  if (attributes.storageClass !== 'STANDARD') headers.push('x-amz-storage-class', attributes.storageClass)
  if (attributes.websiteRedirect !== undefined) {
    headers.push('x-amz-website-redirect-location', headerText(attributes.websiteRedirect))
  }
  pushMetadata(headers, version, 'x-amz-meta-')
}

/** x-amz-tagging-count: only for those who may read the tags. */
export function pushTaggingCount(headers: string[], version: ObjectVersion, call: Call): void {
  let count = 0
  for (const _name in version.attributes.tags) count++
  const action = call.versionId === undefined ? 's3:GetObjectTagging' : 's3:GetObjectVersionTagging'
  if (count > 0 && call.mayDo(action)) headers.push('x-amz-tagging-count', String(count))
}

/** Checksums are told only when asked for, and of the whole object only. */
export function wantsChecksum(call: Call): boolean {
  return call.header('x-amz-checksum-mode')?.toUpperCase() === 'ENABLED'
}

/** Whether it can stand in a header, where AWS takes text for ISO-8859-1. No line break gets through. */
function isLatin1(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if ((code < 32 && code !== 9) || code === 127 || code > 255) return false
  }
  return true
}

/** The version that a write made. S3 names only real ones: the null version of a suspended bucket is not mentioned. */
export function pushNewVersion(headers: string[], versionId: string | undefined): void {
  if (versionId !== undefined && versionId !== 'null') headers.push('x-amz-version-id', versionId)
}
