/**
 * What a client may say of an object in headers, and how it is said back.
 *
 * Header bytes reach us as one character per byte. User metadata that is UTF-8 is stored as the text it says, anything else
 * as ISO-8859-1; it goes back as ISO-8859-1 where that can hold it, and as RFC 2047 words otherwise. s3-tests sends UTF-8
 * and expects ISO-8859-1 back. The representation headers are kept byte for byte.
 */
import { isUtf8 } from 'node:buffer'
import type { IncomingHttpHeaders } from 'node:http'
import type { ContentHeaders, ObjectVersion } from '../../common/model.ts'

/** Those that are kept; `Content-Type` is the caller's to send, since it is never left out. */
export const CONTENT_HEADERS = [
  ['cacheControl', 'Cache-Control'],
  ['contentDisposition', 'Content-Disposition'],
  ['contentEncoding', 'Content-Encoding'],
  ['contentLanguage', 'Content-Language'],
  ['contentType', 'Content-Type'],
  ['expires', 'Expires'],
] as const satisfies readonly (readonly [keyof ContentHeaders, string])[]

const NO_METADATA: Readonly<Record<string, string>> = {}

export function contentHeadersOf(headers: IncomingHttpHeaders): ContentHeaders {
  const contentType = headers['content-type']
  const cacheControl = headers['cache-control']
  const contentDisposition = headers['content-disposition']
  const contentEncoding = storedEncoding(headers['content-encoding'])
  const contentLanguage = headers['content-language']
  const expires = headers.expires
  return {
    ...(contentType === undefined ? {} : { contentType }),
    ...(cacheControl === undefined ? {} : { cacheControl }),
    ...(contentDisposition === undefined ? {} : { contentDisposition }),
    ...(contentEncoding === undefined ? {} : { contentEncoding }),
    ...(typeof contentLanguage === 'string' ? { contentLanguage } : {}),
    ...(expires === undefined ? {} : { expires }),
  }
}

/** `aws-chunked` frames the request and is no property of the object (lesson 5.1.7). */
function storedEncoding(header: string | undefined): string | undefined {
  if (header === undefined || !header.toLowerCase().includes('aws-chunked')) return header
  const kept = header.split(',').map((encoding) => encoding.trim())
  const text = kept.filter((encoding) => encoding !== '' && encoding.toLowerCase() !== 'aws-chunked').join(', ')
  return text === '' ? undefined : text
}

/** Headers whose names begin with `prefix`, without it, and how many bytes names and values have together. */
export function userMetadataOf(
  headers: IncomingHttpHeaders,
  prefix: string,
): { metadata: Readonly<Record<string, string>>; bytes: number } {
  let pairs: [string, string][] | undefined
  let bytes = 0
  for (const name in headers) {
    if (!name.startsWith(prefix)) continue
    const key = name.slice(prefix.length)
    const header = headers[name]
    const value = textOfHeader(typeof header === 'string' ? header : '')
    bytes += key.length + Buffer.byteLength(value)
    ;(pairs ??= []).push([key, value])
  }
  return { metadata: pairs === undefined ? NO_METADATA : Object.fromEntries(pairs), bytes }
}

function textOfHeader(header: string): string {
  for (let i = 0; i < header.length; i++) {
    if (header.charCodeAt(i) < 128) continue
    const bytes = Buffer.from(header, 'latin1')
    return isUtf8(bytes) ? bytes.toString('utf8') : header
  }
  return header
}

/** Appends all but Content-Type. */
export function pushContentHeaders(to: string[], headers: ContentHeaders): void {
  if (isEmpty(headers)) return
  for (const [field, name] of CONTENT_HEADERS) {
    const value = field === 'contentType' ? undefined : headers[field]
    if (value !== undefined) to.push(name, headerText(value))
  }
}

/** User metadata, and what the mount knows of the file where that says nothing. */
export function pushMetadata(to: string[], { attributes, fileMetadata }: ObjectVersion, prefix: string): void {
  const { userMetadata } = attributes
  const metadata = fileMetadata ? { ...fileMetadata, ...userMetadata } : userMetadata
  for (const name in metadata) to.push(`${prefix}${name}`, metadataText(metadata[name] ?? ''))
}

function isEmpty(record: object): boolean {
  for (const _name in record) return false
  return true
}

/** A value that came by header goes back as it was; other characters become their UTF-8 bytes, controls a space. */
export function headerText(text: string): string {
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
