/**
 * What may name a bucket or an object, and how an object's key becomes a path in the tree.
 *
 * S3 and KV make keys of up to `keyBytesMax`. The mount makes names of up to 255 bytes, as deep as one likes, and a rename of a
 * directory makes all keys below it longer: so keys that exist have no bound, but their components have. Up to
 * `addressedKeyBytesMax` they can be read, copied and deleted by their key, and all are listed.
 */
import { TidegateError } from '../../common/errors.ts'
import { utf8Bytes, type ByteString } from '../../common/ids.ts'
import type { Limits } from '../../common/limits.ts'

const BUCKET_NAME = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/
const IP_ADDRESS = /^\d+\.\d+\.\d+\.\d+$/
/** AWS, "Bucket naming rules"; `minio` is a path of the health aliases on the S3 port. */
const RESERVED_PREFIXES = ['xn--', 'sthree-']
const RESERVED_SUFFIXES = ['-s3alias', '--ol-s3', '.mrap', '--x-s3', '--table-s3']
const RESERVED_NAMES = new Set(['minio'])
const BAD_PAIRS = /\.\.|\.-|-\./

/** @throws InvalidBucketName */
export function validateBucketName(name: string): void {
  const bad =
    !BUCKET_NAME.test(name) ||
    BAD_PAIRS.test(name) ||
    IP_ADDRESS.test(name) ||
    RESERVED_NAMES.has(name) ||
    RESERVED_PREFIXES.some((prefix) => name.startsWith(prefix)) ||
    RESERVED_SUFFIXES.some((suffix) => name.endsWith(suffix))
  if (bad)
    throw new TidegateError('InvalidBucketName', `bucket name ${JSON.stringify(name)}`, { details: { bucket: name } })
}

/** Whether a bucket of this name can exist at all; what cannot is not looked up. */
export function canNameBucket(name: string): boolean {
  return BUCKET_NAME.test(name)
}

/** The UTF-8 bytes of a key that is to be made. Any character may stand in it, NUL included. @throws KeyTooLong, InvalidKey */
export function validateNewKey(key: string, { keyBytesMax }: Limits): ByteString {
  const bytes = keyBytesOf(key)
  if (bytes.length > keyBytesMax) throw keyTooLong(bytes.length, keyBytesMax)
  return bytes
}

/** The UTF-8 bytes of a key that may exist. @throws KeyTooLong, InvalidKey */
export function validateKey(key: string, { keyBytesMax, addressedKeyBytesMax }: Limits): ByteString {
  const bytes = keyBytesOf(key)
  if (bytes.length <= keyBytesMax) return bytes
  if (bytes.length > addressedKeyBytesMax) throw keyTooLong(bytes.length, addressedKeyBytesMax)
  const longest = longestComponent(bytes)
  if (longest > keyBytesMax) throw keyTooLong(longest, keyBytesMax)
  return bytes
}

/** No door makes a longer one, so none exists, and none could be the key of a row. */
function longestComponent(key: string): number {
  let longest = 0
  let start = 0
  for (let slash = key.indexOf('/'); slash >= 0; slash = key.indexOf('/', start)) {
    longest = Math.max(longest, slash + 1 - start)
    start = slash + 1
  }
  return Math.max(longest, key.length - start)
}

function keyBytesOf(key: string): ByteString {
  if (key === '') throw new TidegateError('InvalidKey', 'the key is empty')
  if (!key.isWellFormed())
    throw new TidegateError('InvalidKey', `key ${JSON.stringify(key)} is not well-formed Unicode`)
  return utf8Bytes(key)
}

export function keyTooLong(size: number, maxSizeAllowed: number): TidegateError {
  return new TidegateError('KeyTooLong', `the key has ${size} bytes, more than ${maxSizeAllowed}`, {
    details: { size, maxSizeAllowed },
  })
}

export interface KeyPath {
  /** Each with its slash. */
  readonly directories: readonly string[]
  /** Empty for a marker object such as `a/`, which is the entry without a name in the directory `a/`. */
  readonly name: string
}

/** `a//b` is the object `b` in the directory `/` in the directory `a/`. */
export function splitKey(key: string): KeyPath {
  const directories: string[] = []
  let start = 0
  for (let slash = key.indexOf('/'); slash >= 0; slash = key.indexOf('/', start)) {
    directories.push(key.slice(start, slash + 1))
    start = slash + 1
  }
  return { directories, name: start === 0 ? key : key.slice(start) }
}
