/**
 * Bucket and key of a single value, from the raw target: the router has decoded its own copy, by rules of its own, and is asked
 * for nothing but the route. What is authorised and what the store is given are these very strings (lessons 5.2.11, 5.2.12).
 */
import { TidegateError } from '../../common/errors.ts'
import { decodeComponent, excessBytes, originForm } from '../http/request-key.ts'

export interface ValueTarget {
  readonly bucket: string
  readonly key: string
  /** As sent, without the question mark. */
  readonly query: string
}

const PREFIX = '/kv/v1/'

/** @throws InvalidArgument, InvalidKey, KeyTooLong */
export function parseValueTarget(rawTarget: string, keyBytesMax: number): ValueTarget {
  const target = originForm(rawTarget) ?? ''
  const mark = target.indexOf('?')
  const path = mark < 0 ? target : target.slice(0, mark)
  const slash = path.indexOf('/', PREFIX.length)
  // The router takes an escaped `/kv/v1` for the same; what was signed as another path is another path.
  if (slash < 0 || !path.startsWith(PREFIX)) throw new TidegateError('InvalidArgument', `no value lies at ${path}`)
  const bucket = decodeComponent(path.slice(PREFIX.length, slash))
  const key = decodeComponent(path.slice(slash + 1))
  if (bucket === undefined || key === undefined) {
    throw new TidegateError('InvalidArgument', 'the path is not percent-encoded UTF-8')
  }
  if (key === '') throw new TidegateError('InvalidKey', 'a key has at least one byte')
  const bytes = excessBytes(key, keyBytesMax)
  if (bytes !== undefined) {
    throw new TidegateError('KeyTooLong', `the key has ${bytes} bytes, more than ${keyBytesMax}`, {
      details: { bytes, bytesMax: keyBytesMax },
    })
  }
  return { bucket, key, query: mark < 0 ? '' : target.slice(mark + 1) }
}
