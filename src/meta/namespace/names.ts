/** What may name a bucket or an object, and how an object's key becomes a path in the tree. */
import { TidegateError } from '../../common/errors.ts'
import { utf8Bytes, type ByteString } from '../../common/ids.ts'

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

/** The UTF-8 bytes of a key. Any character may stand in it, NUL included. @throws KeyTooLong, InvalidKey */
export function validateKey(key: string, keyBytesMax: number): ByteString {
  if (key === '') throw new TidegateError('InvalidKey', 'the key is empty')
  if (!key.isWellFormed())
    throw new TidegateError('InvalidKey', `key ${JSON.stringify(key)} is not well-formed Unicode`)
  const bytes = utf8Bytes(key)
  if (bytes.length > keyBytesMax) {
    throw new TidegateError('KeyTooLong', `the key has ${bytes.length} bytes`, {
      details: { size: bytes.length, maxSizeAllowed: keyBytesMax },
    })
  }
  return bytes
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
