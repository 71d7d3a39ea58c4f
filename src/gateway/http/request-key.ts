/**
 * The one canonicaliser: from the characters that name a bucket, a key or a parameter in a request to the text that they
 * stand for. Every entrance of a key goes through here: the S3 path and x-amz-copy-source, the KV path. Keys in XML and JSON
 * arrive decoded, and are only measured.
 *
 * Nothing is ever normalised: `//`, `.` and `..` are ordinary characters of a key, which is an opaque name in an index and
 * never a path (SECURITY-LESSONS 5.1.2 and 5.1.11). What is decided here, once:
 *
 * - a `%` that does not begin an escape of two hex digits, and bytes that are not UTF-8, are refused;
 * - `+` in a path stays a plus; in the query it is a space, as the AWS SDK for Java v1 and HTML forms send it;
 * - bytes above 0x7F sent raw (curl does) are taken as UTF-8;
 * - NUL and control characters are part of the key; they are served by HTTP, and not shown by the mount;
 * - a key is measured in bytes of UTF-8.
 *
 * What is refused is answered with undefined: each door has words of its own for it.
 */
import { isUtf8 } from 'node:buffer'

/** Node hands a request target over as one character per byte: the text those bytes are, undefined if they are not UTF-8. */
export function textOfBytes(raw: string): string | undefined {
  if (isAscii(raw)) return raw
  const bytes = Buffer.from(raw, 'latin1')
  return isUtf8(bytes) ? bytes.toString('utf8') : undefined
}

/** Text with its escapes decoded, once; undefined if one is broken, or if what they stand for is not UTF-8. */
export function decodeEscapes(text: string): string | undefined {
  if (!text.includes('%')) return text
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/** A component of a path as it was sent -> the text that it names. */
export function decodeComponent(raw: string): string | undefined {
  const text = textOfBytes(raw)
  return text === undefined ? undefined : decodeEscapes(text)
}

/** Bytes of a key if it has more than it may, else undefined. */
export function excessBytes(key: string, keyBytesMax: number): number | undefined {
  // No UTF-16 unit takes more than three bytes, so most keys need not be measured.
  if (key.length * 3 <= keyBytesMax) return undefined
  const bytes = Buffer.byteLength(key)
  return bytes > keyBytesMax ? bytes : undefined
}

/** Names and values in the order given, `+` made a space, escapes as they came. Empty pairs (`a&&b`) say nothing. */
export function* queryPairs(raw: string): Generator<readonly [name: string, value: string]> {
  const query = raw.includes('+') ? raw.replaceAll('+', ' ') : raw
  for (const pair of query.split('&')) {
    if (pair === '') continue
    const equals = pair.indexOf('=')
    yield equals < 0 ? [pair, ''] : [pair.slice(0, equals), pair.slice(equals + 1)]
  }
}

/**
 * The target as a path and query. Proxies may send the absolute form (RFC 9112, 3.2.2); its authority is not used, the Host
 * header was signed. Undefined for what is neither.
 */
export function originForm(rawTarget: string): string | undefined {
  if (rawTarget.charCodeAt(0) === 47 /* / */) return rawTarget
  const scheme = /^https?:\/\/[^/?]*/i.exec(rawTarget)
  if (scheme === null) return undefined
  const rest = rawTarget.slice(scheme[0].length)
  return rest.startsWith('/') ? rest : `/${rest}`
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return false
  return true
}
