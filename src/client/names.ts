/**
 * Names and parameters as they stand in a request's target. The target goes to `node:http` as it is: `URL` and `fetch` would
 * resolve `.` and `..` (`%2e%2e` too), and to this API they are characters of a key like others.
 */
import { KvError } from './errors.ts'

/** What encodeURIComponent leaves alone, and the slash. */
const PLAIN = /^[\w.!~*'()/-]+$/

export type QueryValue = string | number | bigint | boolean | undefined

/** Target of a value. @throws KvError InvalidKey: empty, or not well-formed text */
export function valuePath(bucketPath: string, key: string): string {
  // Without a key it would name the bucket.
  if (key === '') throw new KvError({ code: 'InvalidKey', status: 0, detail: 'a key has at least one character' })
  if (PLAIN.test(key)) return `${bucketPath}/${key}`
  if (!key.isWellFormed()) {
    throw new KvError({ code: 'InvalidKey', status: 0, detail: `a key is well-formed text: ${JSON.stringify(key)}` })
  }
  return `${bucketPath}/${encodeURIComponent(key).replaceAll('%2F', '/')}`
}

export function bucketPathOf(bucket: string): string {
  return `/kv/v1/${encodeURIComponent(bucket)}`
}

/** With its question mark; empty when nothing is set. */
export function queryOf(parameters: Readonly<Record<string, QueryValue>>): string {
  let query = ''
  for (const name in parameters) {
    const value = parameters[name]
    if (value !== undefined) query += `${query === '' ? '?' : '&'}${name}=${encodeURIComponent(String(value))}`
  }
  return query
}

/** `If-Match` and `If-None-Match`: a number is a revision, a text an ETag, with its quotes or without them. */
export function conditionOf(wanted: string | number | undefined): string | undefined {
  if (wanted === undefined || wanted === '*') return wanted
  if (typeof wanted === 'number') return `"r${wanted}"`
  return wanted.startsWith('"') ? wanted : `"${wanted}"`
}
