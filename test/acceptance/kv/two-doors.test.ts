/** One namespace: what one door writes the other reads, with the same ETag, type, metadata and listing. */
// needs: curl
import { randomBytes } from 'node:crypto'
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { KvClient } from '../../../src/client/kv-client.ts'
import { useKv } from '../../support/kv-suite.ts'
import { refusalOf, sdkClient } from '../../support/sdk-client.ts'

const suite = useKv(['--buckets', 'both'])
const { curl } = suite
const Bucket = 'both'
let kv: KvClient
let s3: S3Client
beforeAll(() => {
  kv = suite.client('both')
  s3 = sdkClient(suite.gateway)
})
afterAll(() => s3.destroy())

const ATTRIBUTES = {
  contentType: 'text/html; charset=utf-8',
  cacheControl: 'max-age=60',
  contentDisposition: 'inline',
  contentEncoding: 'br',
  contentLanguage: 'de',
}

it.each([0, 100, 5_000, 3_000_000])('a value of %i bytes is an object', async (size) => {
  const bytes = randomBytes(size)
  const Key = `kv/${size}`
  const put = await kv.put(Key, bytes, { ...ATTRIBUTES, metadata: { owner: 'me', dash: 'a - b' } })
  const object = await s3.send(new GetObjectCommand({ Bucket, Key }))
  expect(Buffer.from((await object.Body?.transformToByteArray()) ?? []).equals(bytes)).toBe(true)
  expect(object).toMatchObject({
    ETag: `"${put.etag}"`,
    ContentLength: size,
    ContentType: ATTRIBUTES.contentType,
    CacheControl: ATTRIBUTES.cacheControl,
    ContentDisposition: ATTRIBUTES.contentDisposition,
    ContentEncoding: ATTRIBUTES.contentEncoding,
    ContentLanguage: ATTRIBUTES.contentLanguage,
    Metadata: { owner: 'me', dash: 'a - b' },
  })
  const { modified } = (await kv.head(Key)) ?? {}
  expect(object.LastModified?.getTime()).toBe(modified?.getTime())
})

it.each([0, 100, 5_000, 3_000_000])('an object of %i bytes is a value', async (size) => {
  const bytes = randomBytes(size)
  const Key = `s3/${size}`
  const { ETag = '' } = await s3.send(
    new PutObjectCommand({
      Bucket,
      Key,
      Body: bytes,
      ContentType: 'image/x',
      CacheControl: 'no-store',
      Metadata: { owner: 'you' },
    }),
  )
  const found = await kv.get(Key)
  expect(found?.bytes.equals(bytes)).toBe(true)
  expect(found).toMatchObject({ contentType: 'image/x', cacheControl: 'no-store', metadata: { owner: 'you' }, size })
  const got = await curl(`/both/${Key}`)
  expect([got.body.equals(bytes), got.headers['etag'], got.headers['x-tidegate-meta-owner']]).toEqual([
    true,
    ETag,
    'you',
  ])
  expect((await kv.put(Key, 'swapped', { ifMatch: ETag })).revision).toBeGreaterThan(found?.revision ?? 0)
  expect((await s3.send(new HeadObjectCommand({ Bucket, Key }))).ContentLength).toBe(7)
})

it('both doors list the same, in the same order', async () => {
  for (const [index, key] of ['l/b', 'l/a', 'l/ü', 'l/a/b', 'l/a.', 'l/\u{10000}', 'l/\uFFFD'].entries()) {
    if (index % 2 === 0) await kv.put(key, key)
    else await s3.send(new PutObjectCommand({ Bucket, Key: key, Body: key }))
  }
  const { Contents = [] } = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: 'l/' }))
  const { entries } = await kv.scanPage({ prefix: 'l/' })
  expect(entries.map(({ key, etag, size }) => [key, `"${etag}"`, size])).toEqual(
    Contents.map(({ Key, ETag, Size }) => [Key, ETag, Size]),
  )
  expect(entries).toHaveLength(7)
})

it('what one door deletes is gone for the other, and watchers hear of both', async () => {
  const { revision } = await kv.put('gone/a', 'x')
  await s3.send(new PutObjectCommand({ Bucket, Key: 'gone/b', Body: 'x' }))
  await s3.send(new DeleteObjectCommand({ Bucket, Key: 'gone/a' }))
  await kv.delete('gone/b')
  expect(await kv.get('gone/a')).toBeUndefined()
  expect(await refusalOf(s3.send(new GetObjectCommand({ Bucket, Key: 'gone/b' })))).toBe('404 NoSuchKey')
  const { events } = await kv.poll({ from: revision, prefix: 'gone/' })
  expect(events.map((event) => `${event.type} ${event.type === 'renamed' ? '' : event.key}`)).toEqual([
    'put gone/a',
    'put gone/b',
    'delete gone/a',
    'delete gone/b',
  ])
})

it('metadata of a batch, in any script, is what S3 shows of it', async () => {
  await kv.batch([
    { op: 'put', key: 'batched', value: 'x', contentType: 'text/x', metadata: { plain: 'a', wide: '日本' } },
  ])
  const object = await s3.send(new HeadObjectCommand({ Bucket, Key: 'batched' }))
  expect(object.ContentType).toBe('text/x')
  expect(object.Metadata).toEqual({ plain: 'a', wide: `=?UTF-8?B?${Buffer.from('日本').toString('base64')}?=` })
  expect((await kv.head('batched'))?.metadata).toEqual({ plain: 'a', wide: '日本' })
})
