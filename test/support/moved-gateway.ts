/** What a gateway whose metadata are moved is filled with, and all that its users see of it: to be compared before and after. */
import { createHash, randomBytes } from 'node:crypto'
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  ListPartsCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  PutObjectTaggingCommand,
  UploadPartCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { createKvClient, type KvClient } from '../../src/client/kv-client.ts'
import type { GatewayProcess } from './gateway-process.ts'
import { shell } from './mounted-gateway.ts'
import { sdkClient } from './sdk-client.ts'

const MIB = 1024 * 1024
const PART = randomBytes(5 * MIB)
const BATCH_KEYS = 1000
export const BUCKETS = 'plain,kept,values'

export const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

export function kvOf(gateway: GatewayProcess): KvClient {
  return createKvClient({ url: gateway.http, bucket: 'values', ...gateway.root })
}

/** Objects, versions, markers, uploads, values that expire, and what a mount makes. Resolves with the upload that is left in progress. */
export async function fillGateway(gateway: GatewayProcess, mountPoint: string | undefined): Promise<string> {
  const s3 = sdkClient(gateway)
  const put = (Bucket: string, Key: string, Body: Uint8Array, more: object = {}): Promise<unknown> =>
    s3.send(new PutObjectCommand({ Bucket, Key, Body, ...more }))
  await put('plain', 'empty', new Uint8Array(0))
  await put('plain', 'a/inline', randomBytes(4096), { ContentType: 'text/plain', Metadata: { colour: 'red' } })
  await put('plain', 'a/b/body', randomBytes(300_000))
  await s3.send(
    new PutObjectTaggingCommand({ Bucket: 'plain', Key: 'a/inline', Tagging: { TagSet: [{ Key: 'k', Value: 'v' }] } }),
  )
  const Status = 'Enabled'
  await s3.send(new PutBucketVersioningCommand({ Bucket: 'kept', VersioningConfiguration: { Status } }))
  for (const size of [10, 2000, 70_000]) await put('kept', 'd/versions', randomBytes(size))
  await s3.send(new DeleteObjectCommand({ Bucket: 'kept', Key: 'd/versions' }))
  await put('kept', 'd/current', randomBytes(500))
  await multipart(s3, 'completed', true)
  const upload = await multipart(s3, 'in progress', false)
  const kv = kvOf(gateway)
  await kv.put('session', 'gone some day', { ttlSeconds: 100_000 })
  for (let index = 0; index < 5; index++) await kv.increment('counter', 3)
  kv.close()
  s3.destroy()
  if (mountPoint !== undefined) {
    const script = `cd ${mountPoint}/plain && mkdir -p tree/one/two && echo text > tree/one/file && head -c 200000 /dev/urandom > tree/one/two/large &&
      chmod 640 tree/one/file && chown 7:8 tree/one/two && ln tree/one/file tree/link && ln -s one/file tree/symbolic && touch -d '2001-02-03 04:05:06' tree/one/two/large &&
      printf x | dd of=tree/one/two/large bs=1 seek=100000 conv=notrunc status=none && sync`
    const { code, stderr } = await shell(script)
    if (code !== 0) throw new Error(stderr)
  }
  return upload
}

async function multipart(s3: S3Client, Key: string, isCompleted: boolean): Promise<string> {
  const { UploadId = '' } = await s3.send(new CreateMultipartUploadCommand({ Bucket: 'plain', Key }))
  const { ETag } = await s3.send(new UploadPartCommand({ Bucket: 'plain', Key, UploadId, PartNumber: 1, Body: PART }))
  if (isCompleted) await complete(s3, { Key, UploadId, ETag: ETag ?? '' })
  return UploadId
}

async function complete(
  s3: S3Client,
  { Key, UploadId, ETag }: { Key: string; UploadId: string; ETag: string },
): Promise<void> {
  const { ETag: second } = await s3.send(
    new UploadPartCommand({ Bucket: 'plain', Key, UploadId, PartNumber: 2, Body: PART.subarray(0, 1000) }),
  )
  const Parts = [ETag, second].map((tag, index) => ({ ETag: tag, PartNumber: index + 1 }))
  await s3.send(new CompleteMultipartUploadCommand({ Bucket: 'plain', Key, UploadId, MultipartUpload: { Parts } }))
}

/** The upload that was left in progress gets its second part, and is completed. */
export async function completeUpload(gateway: GatewayProcess, UploadId: string): Promise<string> {
  const s3 = sdkClient(gateway)
  const { Parts = [] } = await s3.send(new ListPartsCommand({ Bucket: 'plain', Key: 'in progress', UploadId }))
  await complete(s3, { Key: 'in progress', UploadId, ETag: Parts[0]?.ETag ?? '' })
  const { Body } = await s3.send(new GetObjectCommand({ Bucket: 'plain', Key: 'in progress' }))
  const body = await Body?.transformToByteArray()
  s3.destroy()
  return digest(body ?? new Uint8Array(0))
}

export const COMPLETED_DIGEST: string = digest(Buffer.concat([PART, PART.subarray(0, 1000)]))

/** So many values of so many bytes, with a TTL each. */
export async function fillValues(gateway: GatewayProcess, count: number, valueBytes: number = 100): Promise<void> {
  const kv = kvOf(gateway)
  for (let from = 0; from < count; from += BATCH_KEYS) {
    const operations = Array.from({ length: Math.min(BATCH_KEYS, count - from) }, (_, index) => {
      const key = `many/${String(from + index).padStart(7, '0')}`
      return { op: 'put', key, value: key.padEnd(valueBytes, 'v'), ttlSeconds: 100_000 + index } as const
    })
    const results = await kv.batch(operations)
    const bad = results.find(({ status }) => status >= 300)
    if (bad) throw new Error(`${bad.status} ${bad.code}`)
  }
  kv.close()
}

/** All that users see, by name. */
export async function observed(gateway: GatewayProcess, mountPoint: string | undefined): Promise<Map<string, unknown>> {
  const seen = new Map<string, unknown>()
  const s3 = sdkClient(gateway)
  const { Buckets = [] } = await s3.send(new ListBucketsCommand())
  for (const { Name: Bucket = '', CreationDate } of Buckets) {
    seen.set(`bucket ${Bucket}`, CreationDate)
    if (Bucket === 'values') continue
    const { Versions = [], DeleteMarkers = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket }))
    seen.set(`markers ${Bucket}`, DeleteMarkers)
    for (const version of Versions) {
      const { Key = '', VersionId } = version
      const of = `${Bucket}/${Key}?${VersionId}`
      const named = { Bucket, Key, ...(VersionId === 'null' ? {} : { VersionId }) }
      const { $metadata: _head, ...head } = await s3.send(new HeadObjectCommand(named))
      const { Body } = await s3.send(new GetObjectCommand(named))
      const { TagSet } = await s3.send(new GetObjectTaggingCommand(named))
      seen.set(of, { version, head, TagSet, digest: digest((await Body?.transformToByteArray()) ?? new Uint8Array(0)) })
    }
    const { Uploads = [] } = await s3.send(new ListMultipartUploadsCommand({ Bucket }))
    for (const upload of Uploads) {
      const { Key, UploadId } = upload
      const { Parts } = await s3.send(new ListPartsCommand({ Bucket, Key, UploadId }))
      seen.set(`upload ${Key}`, { upload, Parts })
    }
  }
  s3.destroy()
  const kv = kvOf(gateway)
  for await (const entry of kv.scan({ values: true })) seen.set(`value ${entry.key}`, entry)
  kv.close()
  if (mountPoint !== undefined) {
    const all = `cd ${mountPoint} && find . -printf '%p %y %m %U %G %n %l ' \\( -type f -printf '%s %T@ ' -exec md5sum {} \\; -o -type d -printf '%T@\\n' -o -printf '\\n' \\)`
    const { stdout, stderr, code } = await shell(all)
    if (code !== 0) throw new Error(stderr)
    seen.set('mount', stdout.split('\n').toSorted())
  }
  return seen
}
