/**
 * From the raw request target and Host to bucket, key and query, by the rules of ../http/request-key.ts, in S3's words:
 * InvalidURI for what cannot be decoded, KeyTooLongError for more than `keyBytesMax` bytes.
 */
import { decodeEscapes, excessBytes, originForm, queryPairs, textOfBytes } from '../http/request-key.ts'
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
  if (origin === undefined) throw new S3Error('InvalidURI', undefined, { URI: rawTarget })
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
  const text = textOfBytes(raw)
  if (text === undefined) throw new S3Error('InvalidURI')
  const decoded = decodeEscapes(text)
  if (decoded === undefined) throw new S3Error('InvalidURI', undefined, { URI: raw })
  return decoded
}

/** A key that came decoded, checked by the same rules. @throws S3Error KeyTooLongError */
export function checkKey(key: string, keyBytesMax: number): string {
  const size = excessBytes(key, keyBytesMax)
  if (size === undefined) return key
  throw new S3Error('KeyTooLongError', undefined, { Size: size, MaxSizeAllowed: keyBytesMax })
}

/** Of a repeated name the first counts. @throws S3Error InvalidURI */
export function parseQuery(raw: string): ReadonlyMap<string, string> {
  const query = new Map<string, string>()
  for (const [rawName, value] of queryPairs(raw)) {
    const name = decodePath(rawName)
    if (!query.has(name)) query.set(name, decodePath(value))
  }
  return query
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
