/**
 * From the raw request target and Host to bucket, key and query.
 *
 * The target is never normalised: `//`, `.` and `..` are ordinary characters of a key, which is an opaque name in an
 * index and never a path (SECURITY-LESSONS 5.1.2 and 5.1.11). What is decided here, once, for every entrance of a key
 * (URL path, x-amz-copy-source; XML bodies arrive decoded and go through `checkKey`):
 *
 * - a `%` that does not begin an escape of two hex digits, and bytes that are not UTF-8: InvalidURI;
 * - `+` in a path stays a plus; in the query it is a space, as the AWS SDK for Java v1 and HTML forms send it;
 * - bytes above 0x7F sent raw (curl does) are taken as UTF-8;
 * - NUL and control characters are part of the key; they are served by S3, and not shown by the mount;
 * - more than `keyBytesMax` bytes of UTF-8: KeyTooLongError.
 */
import { isUtf8 } from 'node:buffer'
import { S3Error } from './errors.ts'

export type Level = 'service' | 'bucket' | 'object'

export interface Target {
  readonly level: Level
  /** Empty at service level. */
  readonly bucket: string
  /** Empty unless the level is `object`. */
  readonly key: string
  /** Decoded parameters; of a repeated one the first counts. */
  readonly query: ReadonlyMap<string, string>
  /** Path as sent, for error documents. */
  readonly path: string
}

const NO_QUERY: ReadonlyMap<string, string> = new Map()

/**
 * @param host the Host header as sent, perhaps with a port
 * @param domains names under which `bucket.domain` addresses a bucket, lower case
 * @throws S3Error InvalidURI, KeyTooLongError, InvalidBucketName
 */
export function parseTarget(
  rawTarget: string,
  host: string | undefined,
  options: { domains: readonly string[]; keyBytesMax: number },
): Target {
  const origin = originForm(rawTarget)
  const mark = origin.indexOf('?')
  const path = mark < 0 ? origin : origin.slice(0, mark)
  const query = mark < 0 || mark === origin.length - 1 ? NO_QUERY : parseQuery(origin.slice(mark + 1))
  if (path.charCodeAt(0) !== 47 /* / */) throw new S3Error('InvalidURI', undefined, { URI: path })

  const virtual = options.domains.length === 0 ? undefined : bucketOfHost(host, options.domains)
  if (virtual !== undefined) return address(virtual, decodePath(path.slice(1)), { query, path, ...options })
  const slash = path.indexOf('/', 1)
  const bucket = decodePath(slash < 0 ? path.slice(1) : path.slice(1, slash))
  const key = slash < 0 ? '' : decodePath(path.slice(slash + 1))
  return address(bucket, key, { query, path, keyBytesMax: options.keyBytesMax })
}

function address(
  bucket: string,
  key: string,
  rest: { query: ReadonlyMap<string, string>; path: string; keyBytesMax: number },
): Target {
  if (bucket === '' && key !== '') throw new S3Error('InvalidBucketName', undefined, { BucketName: bucket })
  if (key !== '') checkKey(key, rest.keyBytesMax)
  const level = bucket === '' ? 'service' : key === '' ? 'bucket' : 'object'
  return { level, bucket, key, query: rest.query, path: rest.path }
}

/** Proxies may send the absolute form (RFC 9112, 3.2.2); its authority is not used, the Host header was signed. */
function originForm(rawTarget: string): string {
  if (rawTarget.charCodeAt(0) === 47) return rawTarget
  const scheme = /^https?:\/\/[^/?]*/i.exec(rawTarget)
  if (scheme === null) throw new S3Error('InvalidURI', undefined, { URI: rawTarget })
  const rest = rawTarget.slice(scheme[0].length)
  return rest.startsWith('/') ? rest : `/${rest}`
}

function bucketOfHost(host: string | undefined, domains: readonly string[]): string | undefined {
  if (host === undefined) return undefined
  const colon = host.lastIndexOf(':')
  const name = (colon < 0 || host.endsWith(']') ? host : host.slice(0, colon)).toLowerCase()
  for (const domain of domains) {
    if (name.length > domain.length + 1 && name.endsWith(domain) && name[name.length - domain.length - 1] === '.') {
      return name.slice(0, name.length - domain.length - 1)
    }
  }
  return undefined
}

/** Decodes a percent-encoded path or copy source. @throws S3Error InvalidURI */
export function decodePath(raw: string): string {
  const text = isAscii(raw) ? raw : utf8OfLatin1(raw)
  if (!text.includes('%')) return text
  try {
    return decodeURIComponent(text)
  } catch {
    throw new S3Error('InvalidURI', undefined, { URI: raw })
  }
}

/** A key that came decoded, checked by the same rules. @throws S3Error KeyTooLongError, InvalidArgument */
export function checkKey(key: string, keyBytesMax: number): string {
  if (key.length * 3 > keyBytesMax && Buffer.byteLength(key) > keyBytesMax) {
    throw new S3Error('KeyTooLongError', undefined, { Size: Buffer.byteLength(key), MaxSizeAllowed: keyBytesMax })
  }
  return key
}

/** @throws S3Error InvalidURI */
export function parseQuery(raw: string): ReadonlyMap<string, string> {
  const query = new Map<string, string>()
  for (const pair of raw.split('&')) {
    if (pair === '') continue
    const equals = pair.indexOf('=')
    const name = decodeQuery(equals < 0 ? pair : pair.slice(0, equals))
    if (!query.has(name)) query.set(name, equals < 0 ? '' : decodeQuery(pair.slice(equals + 1)))
  }
  return query
}

function decodeQuery(raw: string): string {
  return decodePath(raw.includes('+') ? raw.replaceAll('+', ' ') : raw)
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return false
  return true
}

/** Node hands the target over as one char per byte. */
function utf8OfLatin1(raw: string): string {
  const bytes = Buffer.from(raw, 'latin1')
  if (!isUtf8(bytes)) throw new S3Error('InvalidURI')
  return bytes.toString('utf8')
}

export interface CopySource {
  readonly bucket: string
  readonly key: string
  readonly versionId: string | undefined
}

/**
 * x-amz-copy-source: `/bucket/key` or `bucket/key`, percent-encoded, perhaps followed by `?versionId=`. The mark is looked
 * for before decoding, so a key that holds an encoded `?versionId=` stays whole.
 * @throws S3Error InvalidArgument, KeyTooLongError
 */
export function parseCopySource(raw: string, keyBytesMax: number): CopySource {
  const mark = raw.lastIndexOf('?versionId=')
  const name = mark < 0 ? raw : raw.slice(0, mark)
  const decoded = decodeSource(name.startsWith('/') ? name.slice(1) : name)
  const slash = decoded.indexOf('/')
  if (slash <= 0 || slash === decoded.length - 1) throw badCopySource(raw)
  const versionId = mark < 0 ? undefined : decodeSource(raw.slice(mark + '?versionId='.length))
  if (versionId === '') throw badCopySource(raw)
  return { bucket: decoded.slice(0, slash), key: checkKey(decoded.slice(slash + 1), keyBytesMax), versionId }
}

function decodeSource(raw: string): string {
  try {
    return decodePath(raw)
  } catch {
    throw badCopySource(raw)
  }
}

function badCopySource(raw: string): S3Error {
  return new S3Error('InvalidArgument', 'Copy Source must mention the source bucket and key: sourcebucket/sourcekey', {
    ArgumentName: 'x-amz-copy-source',
    ArgumentValue: raw,
  })
}
