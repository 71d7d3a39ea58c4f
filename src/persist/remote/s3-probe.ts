/**
 * What a store can do, found out by doing it: many stores that speak S3 ignore headers that they do not know, and answer 200.
 *
 *   probes/<random>    made, overwritten and removed while connecting; what a crash left is removed the next time
 *
 * Conditions: four at once put an object that is not there, each on the condition that it is not; then four replace it, each on the condition
 * of its ETag. Exactly one of each four may win. After that both conditions are tried where they must fail.
 *
 * Digests: a CRC32 that fits must be taken and one that does not fit must be refused, or else Content-MD5 is used.
 */
import { DeleteObjectCommand, ListObjectsV2Command, PutObjectCommand } from '@aws-sdk/client-s3'
import { crc32 } from 'node:zlib'
import type { Clock } from '../../common/clock.ts'
import { isTidegateError } from '../../common/errors.ts'
import { crc32Text, type DigestKind } from './file-sender.ts'
import type { S3Calls } from './s3-calls.ts'

export interface S3Abilities {
  readonly conditionalPut: boolean
  readonly digest: DigestKind
}

export interface ProbeOptions {
  readonly calls: S3Calls
  readonly bucket: string
  /** Of all keys that are tried with. */
  readonly keyPrefix: string
  readonly clock: Clock
  readonly randomText: () => string
}

/** How old a probe is that nobody is working on any more. */
const LEFT_BEHIND_MS = 3_600_000
const CONTENDERS = ['one', 'two', 'three', 'four'] as const
export const NO_ETAG = '"00000000000000000000000000000000"'

type Condition = { readonly IfNoneMatch: '*' } | { readonly IfMatch: string } | { readonly ChecksumCRC32: string }

/** @throws NoSuchBucket, AccessDenied, Unavailable: what keeps the store from being used at all */
export async function probe(options: ProbeOptions): Promise<S3Abilities> {
  await removeLeftBehind(options)
  const key = `${options.keyPrefix}${options.randomText()}`
  try {
    const conditionalPut = (await decidesConditions(options, key)) !== undefined
    return { conditionalPut, digest: await bestDigest(options, key) }
  } finally {
    await remove(options, key)
  }
}

/** Also shows whether there is such a bucket, and whether it may be listed. */
export async function removeLeftBehind(options: ProbeOptions): Promise<void> {
  const { calls, bucket, keyPrefix, clock } = options
  const command = new ListObjectsV2Command({ Bucket: bucket, Prefix: keyPrefix, MaxKeys: 100 })
  const { Contents = [] } = await calls.call({ what: `list ${bucket}`, kind: 'other' }, ({ client, signal }) =>
    client.send(command, { abortSignal: signal }),
  )
  for (const { Key, LastModified } of Contents) {
    const ageMs = clock.nowMs() - (LastModified?.getTime() ?? Infinity)
    if (Key?.startsWith(keyPrefix) === true && ageMs > LEFT_BEHIND_MS) await remove(options, Key)
  }
}

/** The ETag of the one object that was put, as far as anybody was told; undefined when conditions are not decided. */
export async function decidesConditions(options: ProbeOptions, key: string): Promise<string | undefined> {
  const made = await winners(options, key, 'make', { IfNoneMatch: '*' })
  const [etag] = made
  if (made.length !== 1 || etag === undefined) {
    // What follows wants an object, and tells a store that may not be written to from one that knows no conditions.
    await put(options, key, 'anything')
    return undefined
  }
  const replaced = await winners(options, key, 'replace', { IfMatch: etag })
  if (replaced.length !== 1) return undefined
  for (const condition of [{ IfNoneMatch: '*' }, { IfMatch: NO_ETAG }] as const) {
    if ((await attempt(options, key, 'nobody', condition)) !== undefined) return undefined
  }
  return replaced[0]
}

/** ETags of those that were let through. No two bring the same bytes, now or before: they would have the same ETag. */
async function winners(options: ProbeOptions, key: string, deed: string, condition: Condition): Promise<string[]> {
  const tried = await Promise.all(CONTENDERS.map((name) => attempt(options, key, `${name} ${deed}`, condition)))
  return tried.filter((etag) => etag !== undefined)
}

export async function bestDigest(options: ProbeOptions, key: string): Promise<DigestKind> {
  const fits = await attempt(options, key, 'digested', { ChecksumCRC32: crc32Text(crc32('digested')) })
  if (fits === undefined) return 'md5'
  const other = await attempt(options, key, 'digested', { ChecksumCRC32: crc32Text(crc32('something else')) })
  return other === undefined ? 'crc32' : 'md5'
}

/** The ETag, or undefined when the store refused it for what was said with it. @throws what has nothing to do with that */
async function attempt(
  options: ProbeOptions,
  key: string,
  text: string,
  condition: Condition,
): Promise<string | undefined> {
  try {
    return await put(options, key, text, condition)
  } catch (error) {
    const status = isTidegateError(error) ? error.details['status'] : undefined
    if (typeof status !== 'number' || !REFUSALS.has(status)) throw error
    return undefined
  }
}

/** Bad request, not allowed, conflict, precondition failed, not implemented; 404 for IfMatch where nothing is. */
export const REFUSALS: ReadonlySet<number> = new Set([400, 404, 405, 409, 412, 501])

async function put(options: ProbeOptions, key: string, text: string, condition?: Condition): Promise<string> {
  const command = new PutObjectCommand({ Bucket: options.bucket, Key: key, Body: Buffer.from(text), ...condition })
  const target = { what: `put ${key}`, kind: 'other' } as const
  const { ETag } = await options.calls.call(target, ({ client, signal }) =>
    client.send(command, { abortSignal: signal }),
  )
  return ETag ?? ''
}

async function remove(options: ProbeOptions, key: string): Promise<void> {
  const command = new DeleteObjectCommand({ Bucket: options.bucket, Key: key })
  await options.calls.call({ what: `remove ${key}`, kind: 'other' }, ({ client, signal }) =>
    client.send(command, { abortSignal: signal }),
  )
}
