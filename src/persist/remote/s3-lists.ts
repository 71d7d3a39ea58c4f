/**
 * What there is in an external S3: objects, and uploads in parts that nobody finished. Both come in pages as large as the store likes, and are
 * gone through to the end or the limit; a page that leads nowhere is a bad answer, not a reason to ask forever.
 */
import {
  AbortMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  type ListObjectsV2CommandInput,
  type ListObjectsV2CommandOutput,
} from '@aws-sdk/client-s3'
import { assert } from '../../common/assert.ts'
import { isTidegateError } from '../../common/errors.ts'
import { isObjectName } from './object-name.ts'
import type { RemoteObject } from './ports.ts'
import type { S3Calls } from './s3-calls.ts'
import { badAnswer } from './s3-errors.ts'

export interface ListSource {
  readonly calls: S3Calls
  readonly bucket: string
  /** What all keys begin with: empty, or ending in `/`. */
  readonly base: string
}

const LIMIT_MAX = 1000
/** Nearly empty pages are allowed, an endless row of them is not. */
const PAGES_MAX = 10_000

/** Ascending by name; keys that are no names of ours (somebody's folder markers) are passed over. */
export async function listObjects(
  source: ListSource,
  { prefix, after, limit }: { readonly prefix: string; readonly after: string | undefined; readonly limit: number },
): Promise<RemoteObject[]> {
  assert(limit >= 1 && limit <= LIMIT_MAX, 'a page has 1 to 1000 objects')
  const what = `list ${prefix}`
  const found: RemoteObject[] = []
  let position: Pick<ListObjectsV2CommandInput, 'StartAfter' | 'ContinuationToken'> =
    after === undefined ? {} : { StartAfter: `${source.base}${after}` }
  let last = after
  for (let pages = 0; pages < PAGES_MAX; pages++) {
    const page = await listPage(source, {
      Prefix: `${source.base}${prefix}`,
      MaxKeys: limit - found.length,
      ...position,
    })
    for (const { Key, Size, LastModified } of page.Contents ?? []) {
      if (Key === undefined || Size === undefined || LastModified === undefined) {
        throw badAnswer(what, 'an object without key, size or time')
      }
      if (!Key.startsWith(`${source.base}${prefix}`)) throw badAnswer(what, `${Key} is not below what was asked for`)
      const name = Key.slice(source.base.length)
      if (!isObjectName(name)) continue
      if (last !== undefined && name <= last) throw badAnswer(what, `${name} comes after ${last}`)
      last = name
      found.push({ name, bytes: Size, modifiedMs: LastModified.getTime() })
    }
    if (found.length >= limit || page.IsTruncated !== true) return found.slice(0, limit)
    if (page.NextContinuationToken === undefined) throw badAnswer(what, 'there is more, and no way to it')
    position = { ContinuationToken: page.NextContinuationToken }
  }
  throw badAnswer(what, `no end after ${PAGES_MAX} pages`)
}

async function listPage(
  { calls, bucket }: ListSource,
  input: Omit<ListObjectsV2CommandInput, 'Bucket'>,
): Promise<ListObjectsV2CommandOutput> {
  const command = new ListObjectsV2Command({ Bucket: bucket, ...input })
  return await calls.call({ what: `list ${input.Prefix}`, kind: 'other' }, ({ client, signal }) =>
    client.send(command, { abortSignal: signal }),
  )
}

/** @returns how many were given up */
export async function abandonUploads(
  source: ListSource,
  { begunBeforeMs, except }: { readonly begunBeforeMs: number; readonly except: ReadonlySet<string> },
): Promise<number> {
  const { calls, bucket, base } = source
  const what = 'list uploads'
  let abandoned = 0
  let position: { readonly KeyMarker?: string; readonly UploadIdMarker?: string } = {}
  for (let pages = 0; pages < PAGES_MAX; pages++) {
    const command = new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: base, ...position })
    const page = await calls.call({ what, kind: 'other' }, ({ client, signal }) =>
      client.send(command, { abortSignal: signal }),
    )
    for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
      if (Key === undefined || UploadId === undefined || !Key.startsWith(base)) continue
      // Without a time it may have been begun just now.
      if (Initiated === undefined || Initiated.getTime() >= begunBeforeMs || except.has(UploadId)) continue
      if (await abandon(source, Key, UploadId)) abandoned++
    }
    if (page.IsTruncated !== true) return abandoned
    const { NextKeyMarker, NextUploadIdMarker } = page
    if (NextKeyMarker === undefined) throw badAnswer(what, 'there is more, and no way to it')
    position = {
      KeyMarker: NextKeyMarker,
      ...(NextUploadIdMarker === undefined ? {} : { UploadIdMarker: NextUploadIdMarker }),
    }
  }
  throw badAnswer(what, `no end after ${PAGES_MAX} pages`)
}

/** False when it was finished or given up meanwhile. */
async function abandon({ calls, bucket }: ListSource, key: string, uploadId: string): Promise<boolean> {
  const command = new AbortMultipartUploadCommand({ Bucket: bucket, Key: key, UploadId: uploadId })
  try {
    await calls.call({ what: `abandon upload of ${key}`, kind: 'other' }, ({ client, signal }) =>
      client.send(command, { abortSignal: signal }),
    )
    return true
  } catch (error) {
    const isGone = isTidegateError(error) && error.details['status'] === 404
    if (!isGone) throw error
    return false
  }
}
