/** Multipart uploads through the AWS SDK: every checksum algorithm and type, copies, listings, and what ends them. */
import { createHash, randomBytes } from 'node:crypto'
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  GetObjectAttributesCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
  type ChecksumAlgorithm,
  type ChecksumType,
  type CompletedPart,
  type S3Client,
  type UploadPartCommandOutput,
} from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { useGateway } from '../../support/gateway-suite.ts'
import { refusalOf, sdkClient } from '../../support/sdk-client.ts'

const Bucket = 'sdk-multipart'
const MIB = 1024 * 1024

const suite = useGateway()
let s3: S3Client

beforeAll(async () => {
  s3 = sdkClient(suite.gateway)
  await suite.makeBucket(Bucket)
})
afterAll(() => s3.destroy())

const PARTS = [randomBytes(5 * MIB), randomBytes(5 * MIB + 3), randomBytes(70_001)] as const
const WHOLE = Buffer.concat(PARTS)

interface Upload {
  readonly Bucket: string
  readonly Key: string
  readonly UploadId: string
}

async function begin(
  Key: string,
  options: { algorithm?: ChecksumAlgorithm; type?: ChecksumType } = {},
): Promise<Upload> {
  const { UploadId = '' } = await s3.send(
    new CreateMultipartUploadCommand({
      Bucket,
      Key,
      ...(options.algorithm === undefined ? {} : { ChecksumAlgorithm: options.algorithm }),
      ...(options.type === undefined ? {} : { ChecksumType: options.type }),
    }),
  )
  return { Bucket, Key, UploadId }
}

async function uploadPart(
  upload: Upload,
  PartNumber: number,
  options: { body: Buffer; algorithm?: ChecksumAlgorithm },
): Promise<CompletedPart> {
  const { body: Body, algorithm } = options
  const input = { ...upload, PartNumber, Body, ...(algorithm === undefined ? {} : { ChecksumAlgorithm: algorithm }) }
  return completedPart(PartNumber, await s3.send(new UploadPartCommand(input)))
}

function completedPart(PartNumber: number, output: UploadPartCommandOutput): CompletedPart {
  const { $metadata: _metadata, ...rest } = output
  const checksums = Object.entries(rest).filter(([name]) => name.startsWith('Checksum'))
  return { PartNumber, ...(output.ETag === undefined ? {} : { ETag: output.ETag }), ...Object.fromEntries(checksums) }
}

function complete(
  upload: Upload,
  Parts: readonly CompletedPart[],
  more: object = {},
): Promise<{ ETag?: string | undefined }> {
  return s3.send(new CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts: [...Parts] }, ...more }))
}

async function contentOf(Key: string, more: object = {}): Promise<Buffer> {
  const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key, ...more }))
  return Buffer.from((await Body?.transformToByteArray()) ?? [])
}

describe('checksums', () => {
  const combinations: readonly (readonly [ChecksumAlgorithm, ChecksumType])[] = [
    ['CRC32', 'COMPOSITE'],
    ['CRC32', 'FULL_OBJECT'],
    ['CRC32C', 'COMPOSITE'],
    ['CRC32C', 'FULL_OBJECT'],
    ['CRC64NVME', 'FULL_OBJECT'],
    ['SHA1', 'COMPOSITE'],
    ['SHA256', 'COMPOSITE'],
  ]

  it.each(combinations)('%s, %s', async (algorithm, type) => {
    const Key = `${algorithm}-${type}`
    const upload = await begin(Key, { algorithm, type })
    const parts = await Promise.all(PARTS.map((body, index) => uploadPart(upload, index + 1, { body, algorithm })))
    const { ETag } = await complete(upload, parts, { ChecksumType: type })
    const digests = Buffer.concat(PARTS.map((part) => createHash('md5').update(part).digest()))
    expect(ETag).toBe(`"${createHash('md5').update(digests).digest('hex')}-3"`)
    const head = await s3.send(new HeadObjectCommand({ Bucket, Key, ChecksumMode: 'ENABLED' }))
    expect(head).toMatchObject({ ContentLength: WHOLE.length, ChecksumType: type })
    const value = (head as unknown as Record<string, string>)[`Checksum${algorithm}`] ?? ''
    if (type === 'COMPOSITE') expect(value).toMatch(/-3$/)
    // The SDK compares a full-object checksum with what it receives.
    expect((await contentOf(Key, { ChecksumMode: 'ENABLED' })).equals(WHOLE)).toBe(true)
    if (type === 'FULL_OBJECT') {
      const put = await s3.send(
        new PutObjectCommand({ Bucket, Key: `${Key}-put`, Body: WHOLE, ChecksumAlgorithm: algorithm }),
      )
      expect((put as unknown as Record<string, string>)[`Checksum${algorithm}`]).toBe(value)
    }
  })

  it('that do not fit are refused', async () => {
    const upload = await begin('wrong-sum', { algorithm: 'SHA256' })
    const part = await uploadPart(upload, 1, { body: PARTS[2], algorithm: 'SHA256' })
    const other = createHash('sha256').update('other').digest('base64')
    expect(await refusalOf(complete(upload, [{ ...part, ChecksumSHA256: other }]))).toMatch(/^400 /)
    expect(await refusalOf(s3.send(new HeadObjectCommand({ Bucket, Key: 'wrong-sum' })))).toMatch(/^404/)
    await s3.send(new AbortMultipartUploadCommand(upload))
  })

  it('are there when nobody asked: the SDK sends CRC32 by itself', async () => {
    const upload = await begin('plain')
    const parts = await Promise.all(PARTS.map((body, index) => uploadPart(upload, index + 1, { body })))
    await complete(upload, parts)
    expect((await contentOf('plain')).equals(WHOLE)).toBe(true)
  })
})

/** What an attached bucket has carried out is the external store's, and how long its parts were nobody asks there. */
const itOfOwn = suite.isAttached ? () => undefined : it

describe('an upload', () => {
  itOfOwn('is read part by part, and says what its parts are', async () => {
    const upload = await begin('by-part', { algorithm: 'CRC32C', type: 'COMPOSITE' })
    const parts = await Promise.all(
      PARTS.map((body, index) => uploadPart(upload, index + 1, { body, algorithm: 'CRC32C' })),
    )
    await complete(upload, parts)
    for (const [index, part] of PARTS.entries())
      expect((await contentOf('by-part', { PartNumber: index + 1 })).equals(part)).toBe(true)
    expect(await refusalOf(contentOf('by-part', { PartNumber: 4 }))).toBe('400 InvalidPart')
    const head = await s3.send(new HeadObjectCommand({ Bucket, Key: 'by-part', PartNumber: 2 }))
    expect(head).toMatchObject({ PartsCount: 3, ContentLength: PARTS[1].length })
    const { ObjectParts } = await s3.send(
      new GetObjectAttributesCommand({ Bucket, Key: 'by-part', ObjectAttributes: ['ObjectParts'], MaxParts: 2 }),
    )
    expect(ObjectParts).toMatchObject({ TotalPartsCount: 3, IsTruncated: true })
    expect(ObjectParts?.Parts?.map(({ PartNumber, Size }) => [PartNumber, Size])).toEqual([
      [1, PARTS[0].length],
      [2, PARTS[1].length],
    ])
  })

  it('takes parts copied from other objects, ranges too', async () => {
    await s3.send(new PutObjectCommand({ Bucket, Key: 'part-source', Body: WHOLE }))
    const upload = await begin('copied')
    const CopySource = `${Bucket}/part-source`
    const ranges = ['bytes=0-5242879', `bytes=5242880-${WHOLE.length - 1}`]
    const parts: CompletedPart[] = []
    for (const [index, CopySourceRange] of ranges.entries()) {
      const { CopyPartResult } = await s3.send(
        new UploadPartCopyCommand({ ...upload, PartNumber: index + 1, CopySource, CopySourceRange }),
      )
      parts.push({ PartNumber: index + 1, ETag: CopyPartResult?.ETag })
    }
    await complete(upload, parts)
    expect((await contentOf('copied')).equals(WHOLE)).toBe(true)
    expect(await refusalOf(contentOf('part-absent'))).toBe('404 NoSuchKey')
  })

  it('shows only what it was completed with, and the last of each number', async () => {
    const upload = await begin('replaced')
    await uploadPart(upload, 7, { body: Buffer.from('never used') })
    await uploadPart(upload, 1, { body: Buffer.from('first try') })
    const last = await uploadPart(upload, 1, { body: Buffer.from('second try') })
    const { Parts } = await s3.send(new ListPartsCommand({ ...upload, MaxParts: 1 }))
    expect(Parts?.map(({ PartNumber, Size }) => [PartNumber, Size])).toEqual([[1, 10]])
    await complete(upload, [last])
    expect((await contentOf('replaced')).toString()).toBe('second try')
    expect(await refusalOf(s3.send(new ListPartsCommand(upload)))).toBe('404 NoSuchUpload')
  })

  it('is listed while it runs, and is no object', async () => {
    const uploads = [await begin('running/a'), await begin('running/a'), await begin('running/b')]
    const list = await s3.send(new ListMultipartUploadsCommand({ Bucket, Prefix: 'running/', MaxUploads: 2 }))
    expect(list.Uploads?.map(({ Key }) => Key)).toEqual(['running/a', 'running/a'])
    const { NextKeyMarker, NextUploadIdMarker } = list
    const rest = await s3.send(
      new ListMultipartUploadsCommand({
        Bucket,
        Prefix: 'running/',
        KeyMarker: NextKeyMarker,
        UploadIdMarker: NextUploadIdMarker,
      }),
    )
    expect(rest.Uploads?.map(({ Key }) => Key)).toEqual(['running/b'])
    expect((await s3.send(new ListObjectsV2Command({ Bucket, Prefix: 'running/' }))).KeyCount).toBe(0)
    for (const upload of uploads) await s3.send(new AbortMultipartUploadCommand(upload))
    expect((await s3.send(new ListMultipartUploadsCommand({ Bucket, Prefix: 'running/' }))).Uploads ?? []).toEqual([])
  })

  it('wants parts of 5 MiB, but for the last', async () => {
    const upload = await begin('too-small')
    const parts = [await uploadPart(upload, 1, { body: PARTS[2] }), await uploadPart(upload, 2, { body: PARTS[2] })]
    expect(await refusalOf(complete(upload, parts))).toBe('400 EntityTooSmall')
    await s3.send(new AbortMultipartUploadCommand(upload))
    expect(await refusalOf(uploadPart(upload, 3, { body: PARTS[2] }))).toBe('404 NoSuchUpload')
  })

  it('is completed under a condition, and by one only', async () => {
    await s3.send(new PutObjectCommand({ Bucket, Key: 'conditional', Body: 'there' }))
    const upload = await begin('conditional')
    const part = await uploadPart(upload, 1, { body: PARTS[2] })
    expect(await refusalOf(complete(upload, [part], { IfNoneMatch: '*' }))).toBe('412 PreconditionFailed')
    expect((await contentOf('conditional')).toString()).toBe('there')
    await s3.send(new AbortMultipartUploadCommand(upload))
  })
})
