/**
 * Response headers of GET and HEAD. Built as a flat list of names and values for `writeHead`, which takes such a list
 * without making an object of it.
 */
import type { ContentHeaders, ObjectVersion } from '../../common/model.ts'
import type { Call } from './call.ts'
import { invalidArgument, S3Error } from './errors.ts'
import { httpDate } from './times.ts'

/** What AWS answers for an object that was stored without a type. */
const DEFAULT_TYPE = 'binary/octet-stream'

const CONTENT_HEADERS = [
  ['cacheControl', 'Cache-Control', 'response-cache-control'],
  ['contentDisposition', 'Content-Disposition', 'response-content-disposition'],
  ['contentEncoding', 'Content-Encoding', 'response-content-encoding'],
  ['contentLanguage', 'Content-Language', 'response-content-language'],
  ['contentType', 'Content-Type', 'response-content-type'],
  ['expires', 'Expires', 'response-expires'],
] as const satisfies readonly (readonly [keyof ContentHeaders, string, string])[]

const NO_OVERRIDES: ContentHeaders = {}

/** response-* parameters: only in signed requests (lesson 5.1.5). @throws S3Error InvalidRequest, InvalidArgument */
export function responseOverrides(call: Call): ContentHeaders {
  if (call.target.query.size === 0) return NO_OVERRIDES
  let overrides: Record<string, string> | undefined
  for (const [field, , parameter] of CONTENT_HEADERS) {
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
  if (overrides !== NO_OVERRIDES || !isEmpty(attributes.headers)) {
    for (const [field, name] of CONTENT_HEADERS) {
      const value = field === 'contentType' ? undefined : (overrides[field] ?? attributes.headers[field])
      if (value !== undefined) headers.push(name, headerText(value))
    }
  }
  if (version.versionId !== undefined) headers.push('x-amz-version-id', version.versionId)
  if (attributes.storageClass !== 'STANDARD') headers.push('x-amz-storage-class', attributes.storageClass)
  if (attributes.websiteRedirect !== undefined) {
    headers.push('x-amz-website-redirect-location', headerText(attributes.websiteRedirect))
  }
  for (const name in attributes.userMetadata) {
    headers.push(`x-amz-meta-${name}`, metadataText(attributes.userMetadata[name] ?? ''))
  }
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

function isEmpty(record: object): boolean {
  for (const _name in record) return false
  return true
}

/** Whether it can stand in a header, where AWS takes text for ISO-8859-1. No line break gets through. */
function isLatin1(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if ((code < 32 && code !== 9) || code === 127 || code > 255) return false
  }
  return true
}

/** A value that came by header goes back as it was; other characters become their UTF-8 bytes, controls a space. */
function headerText(text: string): string {
  let wide = false
  let controls = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    wide ||= code > 255
    controls ||= (code < 32 && code !== 9) || code === 127
  }
  if (!wide && !controls) return text
  const bytes = Buffer.from(text, wide ? 'utf8' : 'latin1')
  for (let i = 0; i < bytes.length; i++) if ((bytes[i] ?? 0) < 32 || bytes[i] === 127) bytes[i] = 32
  return bytes.toString('latin1')
}

/** RFC 2047, as AWS sends metadata that no header can hold. */
function metadataText(text: string): string {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 255 || (code < 32 && code !== 9) || code === 127) {
      return `=?UTF-8?B?${Buffer.from(text, 'utf8').toString('base64')}?=`
    }
  }
  return text
}

/** The version that a write made. S3 names only real ones: the null version of a suspended bucket is not mentioned. */
export function pushNewVersion(headers: string[], versionId: string | undefined): void {
  if (versionId !== undefined && versionId !== 'null') headers.push('x-amz-version-id', versionId)
}
