/**
 * What a client may set on an object, read from request headers.
 *
 * Header bytes reach us as one character per byte. User metadata that is UTF-8 is stored as the text it says, anything else
 * as ISO-8859-1; it goes back as ISO-8859-1 where that can hold it, and as RFC 2047 words otherwise (object-headers.ts).
 * s3-tests sends UTF-8 and expects ISO-8859-1 back. The representation headers are kept byte for byte.
 */
import { isUtf8 } from 'node:buffer'
import type { ContentHeaders, ObjectAttributes } from '../../common/model.ts'
import type { Call } from './call.ts'
import { S3Error } from './errors.ts'
import { parseTaggingHeader } from './tags.ts'

const META_PREFIX = 'x-amz-meta-'
const NO_METADATA: Readonly<Record<string, string>> = {}

/** Kept as a label: nothing is moved anywhere by it, and every class reads the same. */
const STORAGE_CLASSES: ReadonlySet<string> = new Set([
  'STANDARD',
  'REDUCED_REDUNDANCY',
  'STANDARD_IA',
  'ONEZONE_IA',
  'INTELLIGENT_TIERING',
  'GLACIER',
  'GLACIER_IR',
  'DEEP_ARCHIVE',
  'EXPRESS_ONEZONE',
])

/** @throws S3Error MetadataTooLarge, InvalidStorageClass, InvalidTag, InvalidArgument */
export function objectAttributes(call: Call): ObjectAttributes {
  const redirect = call.header('x-amz-website-redirect-location')
  return {
    headers: contentHeaders(call),
    userMetadata: userMetadata(call),
    tags: parseTaggingHeader(call.header('x-amz-tagging'), call.door.limits.tagsMax),
    storageClass: storageClass(call.header('x-amz-storage-class')),
    ...(redirect === undefined ? {} : { websiteRedirect: redirectLocation(redirect) }),
  }
}

function contentHeaders(call: Call): ContentHeaders {
  const { headers } = call
  const contentType = headers['content-type']
  const cacheControl = headers['cache-control']
  const contentDisposition = headers['content-disposition']
  const contentEncoding = storedEncoding(headers['content-encoding'])
  const contentLanguage = call.header('content-language')
  const expires = headers.expires
  return {
    ...(contentType === undefined ? {} : { contentType }),
    ...(cacheControl === undefined ? {} : { cacheControl }),
    ...(contentDisposition === undefined ? {} : { contentDisposition }),
    ...(contentEncoding === undefined ? {} : { contentEncoding }),
    ...(contentLanguage === undefined ? {} : { contentLanguage }),
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

function userMetadata(call: Call): Readonly<Record<string, string>> {
  let pairs: [string, string][] | undefined
  let bytes = 0
  for (const name in call.headers) {
    if (!name.startsWith(META_PREFIX)) continue
    const key = name.slice(META_PREFIX.length)
    const value = metadataText(call.header(name) ?? '')
    bytes += key.length + Buffer.byteLength(value)
    ;(pairs ??= []).push([key, value])
  }
  if (pairs === undefined) return NO_METADATA
  const bytesMax = call.door.limits.userMetadataBytesMax
  if (bytes > bytesMax) throw new S3Error('MetadataTooLarge', undefined, { Size: bytes, MaxSizeAllowed: bytesMax })
  return Object.fromEntries(pairs)
}

function metadataText(header: string): string {
  for (let i = 0; i < header.length; i++) {
    if (header.charCodeAt(i) < 128) continue
    const bytes = Buffer.from(header, 'latin1')
    return isUtf8(bytes) ? bytes.toString('utf8') : header
  }
  return header
}

function storageClass(value: string | undefined): string {
  if (value === undefined) return 'STANDARD'
  if (!STORAGE_CLASSES.has(value)) throw new S3Error('InvalidStorageClass', undefined, { StorageClassRequested: value })
  return value
}

function redirectLocation(value: string): string {
  if (value.length > 2048 || !/^(?:\/|https?:\/\/)/.test(value)) {
    throw new S3Error(
      'InvalidArgument',
      "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
      { ArgumentName: 'x-amz-website-redirect-location', ArgumentValue: value },
    )
  }
  return value
}
