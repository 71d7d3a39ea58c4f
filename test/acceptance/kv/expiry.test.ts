/** `?ttl=`: exact, by every door; and gone for good. */
// needs: curl
import {
  GetObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutBucketVersioningCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { problemOf, useKv } from '../../support/kv-suite.ts'
import { refusalOf, sdkClient } from '../../support/sdk-client.ts'
import type { KvClient } from '../../../src/client/kv-client.ts'

const suite = useKv(['--buckets', 'kvs,versioned'])
const { curl } = suite
let kv: KvClient
let s3: S3Client
beforeAll(() => {
  kv = suite.client('kvs')
  s3 = sdkClient(suite.gateway)
})
afterAll(() => s3.destroy())

/** The expiry that the gateway told, waited for. */
async function pass(expires: Date | string | undefined): Promise<void> {
  const at = expires instanceof Date ? expires.getTime() : Date.parse(expires ?? '')
  expect(at).toBeGreaterThan(Date.now() - 60_000)
  // Timers may fire a millisecond early.
  await sleep(Math.max(0, at - Date.now()) + 2)
}

it('is served until it expires and never after, by any door', async () => {
  const before = Date.now()
  const put = await curl('/kvs/short?ttl=1.5', ['-X', 'PUT', '--data-binary', 'x'])
  expect(put.status).toBe(200)
  const at = Date.parse(put.headers['x-tidegate-expires'] ?? '')
  expect(at - before).toBeGreaterThanOrEqual(1_499)
  expect(at - before).toBeLessThan(3_500)
  const found = await kv.get('short')
  expect(found?.expires?.getTime()).toBe(at)
  expect((await kv.scanPage({ prefix: 'short' })).entries[0]?.expires?.getTime()).toBe(at)
  expect((await s3.send(new GetObjectCommand({ Bucket: 'kvs', Key: 'short' }))).ContentLength).toBe(1)

  await pass(found?.expires)
  expect(await kv.get('short')).toBeUndefined()
  expect(problemOf(await curl('/kvs/short'))).toBe('404 NoSuchKey')
  expect((await kv.scanPage({ prefix: 'short' })).entries).toEqual([])
  expect((await kv.exists(['short'])).exists).toEqual([false])
  expect((await kv.match(['short'])).matched).toBe(0)
  expect(await kv.transaction({ then: [{ op: 'get', key: 'short' }] })).toMatchObject({ results: [{ exists: false }] })
  expect(await refusalOf(s3.send(new GetObjectCommand({ Bucket: 'kvs', Key: 'short' })))).toBe('404 NoSuchKey')
  const listed = await s3.send(new ListObjectsV2Command({ Bucket: 'kvs', Prefix: 'short' }))
  expect(listed.KeyCount).toBe(0)
  expect((await kv.delete('short')).existed).toBe(false)
  expect((await kv.put('short', 'anew', { ifNoneMatch: '*' })).expires).toBeUndefined()
})

it('none of 300 keys is served late, whenever it is asked for', async () => {
  const keys = Array.from({ length: 300 }, (_, index) => `many/${index}`)
  const expires = new Map<string, number>()
  await Promise.all(
    keys.map(async (key, index) => {
      const put = await kv.put(key, 'x', { ttlSeconds: 1 + (index % 30) / 10 })
      expires.set(key, put.expires?.getTime() ?? 0)
    }),
  )
  const end = Math.max(...expires.values()) + 50
  while (Date.now() < end) {
    // Asked before and answered after proves nothing; what was gone when it was asked for must not come.
    const asked = Date.now()
    const entries = (await kv.scanPage({ prefix: 'many/', limit: 1_000 })).entries
    for (const { key } of entries) expect(expires.get(key), key).toBeGreaterThan(asked - 1)
    await sleep(20)
  }
  expect((await kv.scanPage({ prefix: 'many/' })).entries).toEqual([])
})

it('ends with a put that has none, and begins anew with one that has', async () => {
  await kv.put('kept', 'x', { ttlSeconds: 1 })
  const kept = await kv.put('kept', 'y')
  expect(kept.expires).toBeUndefined()
  const { expires } = await kv.put('renewed', 'x', { ttlSeconds: 1 })
  await kv.put('renewed', 'y', { ttlSeconds: 100 })
  await pass(expires)
  expect([(await kv.get('kept'))?.text(), (await kv.get('renewed'))?.text()]).toEqual(['y', 'y'])
})

it('is told to those who watch, as a delete', async () => {
  const { revision } = await kv.put('watched', 'x', { ttlSeconds: 1 })
  const seen: string[] = []
  for await (const event of kv.watch({ from: revision, prefix: 'watched', signal: AbortSignal.timeout(30_000) })) {
    seen.push(event.type)
    if (event.type === 'delete') break
  }
  expect(seen).toEqual(['put', 'delete'])
})

it('writes a delete marker in a versioned bucket', async () => {
  const versioned = suite.client('versioned')
  const configuration = { Status: 'Enabled' } as const
  await s3.send(new PutBucketVersioningCommand({ Bucket: 'versioned', VersioningConfiguration: configuration }))
  const { expires } = await versioned.put('k', 'x', { ttlSeconds: 1 })
  await pass(expires)
  expect(await versioned.get('k')).toBeUndefined()
  const deadline = Date.now() + 20_000
  for (;;) {
    const { Versions = [], DeleteMarkers = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket: 'versioned' }))
    expect(Versions).toHaveLength(1)
    if (DeleteMarkers.length === 1 || Date.now() > deadline) {
      expect(DeleteMarkers).toMatchObject([{ Key: 'k', IsLatest: true }])
      return
    }
    await sleep(100)
  }
})

it('takes from 1 s (and fractions) to ten years, and nothing else', async () => {
  const put = (ttl: string): ReturnType<typeof curl> => curl(`/kvs/t?ttl=${ttl}`, ['-X', 'PUT', '--data-binary', 'x'])
  for (const ttl of ['1', '60', '0.5', '315360000']) expect((await put(ttl)).status, ttl).toBe(200)
  for (const ttl of ['0', '-1', '315360001', 'x', '', '1e3', 'Infinity', 'NaN', '1,5']) {
    expect(problemOf(await put(ttl)), `ttl=${ttl}`).toBe('400 InvalidArgument')
  }
  expect(problemOf(await curl('/kvs/t?ttl=5')), 'a get has none').toBe('400 InvalidArgument')
})
