/**
 * How a key is called in the flat view of a bucket, where it is one name.
 *
 *     /    %2F        the slashes of a key
 *     %    %25
 *     NUL  %00
 *     .    %2E        only in the keys `.` and `..`, which would be names of directories
 *
 * All other bytes stand for themselves, and hexadecimal digits are capitals: each key has one name and each name one key.
 * A key whose name would have more than 255 bytes has none.
 */
import { isUtf8 } from 'node:buffer'
import type { ByteString } from '../../../common/ids.ts'

/** NAME_MAX of Linux. */
const NAME_BYTES_MAX = 255

const ESCAPES: Readonly<Record<string, string>> = { '/': '%2F', '%': '%25', '\0': '%00' }
const UNESCAPES: Readonly<Record<string, string>> = { '%2F': '/', '%25': '%', '%00': '\0' }
const DOTS: Readonly<Record<string, string>> = { '.': '%2E', '..': '%2E%2E' }
const DOT_KEYS: Readonly<Record<string, string>> = { '%2E': '.', '%2E%2E': '..' }

/** Undefined when it would be too long. */
export function nameOfKey(key: ByteString): ByteString | undefined {
  // oxlint-disable-next-line no-control-regex -- a key may hold a NUL
  const name = DOTS[key] ?? key.replaceAll(/[/%\0]/g, (char) => ESCAPES[char] ?? char)
  return name.length <= NAME_BYTES_MAX ? (name as ByteString) : undefined
}

/** Undefined when no key has this name. */
export function keyOfName(name: ByteString): ByteString | undefined {
  const key = DOT_KEYS[name] ?? name.replaceAll(/%../g, (escape) => UNESCAPES[escape] ?? escape)
  // What was no escape is one now, or was one that nobody writes.
  if (key === '' || nameOfKey(key as ByteString) !== name) return undefined
  return isUtf8(Buffer.from(key, 'latin1')) ? (key as ByteString) : undefined
}
