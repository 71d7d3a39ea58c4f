import { afterEach, beforeEach, expect, it } from 'vitest'
import { registerBatchRoute } from '../../../../src/gateway/kv/batch.ts'
import { registerBucketRoutes } from '../../../../src/gateway/kv/buckets.ts'
import { send, type Answer } from '../s3/door-harness.ts'
import { jsonOf, problemText, putValue } from './calls.ts'
import { startKvHarness, type KvHarness } from './kv-harness.ts'

let kv: KvHarness
beforeEach(async () => {
  kv = await startKvHarness([registerBucketRoutes, registerBatchRoute])
})
afterEach(() => kv.stop())

const ask = (line: string, headers: Record<string, string> = {}): Promise<Answer> => send(kv.port, line, { headers })

it('makes, finds, lists and removes buckets', async () => {
  const made = await ask('PUT /kv/v1/b')
  expect([made.status, made.headers['location'], made.text]).toEqual([201, '/kv/v1/b', ''])
  expect((await ask('HEAD /kv/v1/b')).status).toBe(200)
  expect(jsonOf(await ask('GET /kv/v1'))).toEqual({
    buckets: [{ name: 'b', created: '2023-11-14T22:13:20.000Z', versioning: 'off', ack: 'journal' }],
  })
  await putValue(kv, 'a', '')
  expect(problemText(await ask('DELETE /kv/v1/b'))).toMatch(/^409 BucketNotEmpty/)
  await kv.store.objects.delete({ bucket: 'b', key: 'a' }, {})
  expect((await ask('DELETE /kv/v1/b')).status).toBe(204)
  const head = await ask('HEAD /kv/v1/b')
  expect([head.status, head.headers['x-tidegate-error'], head.text]).toEqual([404, 'NoSuchBucket', ''])
})

it('refuses what is there, is misnamed, or has parameters', async () => {
  await ask('PUT /kv/v1/b')
  expect(problemText(await ask('PUT /kv/v1/b'))).toMatch(/^409 BucketAlreadyOwnedByYou/)
  expect(problemText(await ask('PUT /kv/v1/b', { 'x-test-user': 'bob' }))).toMatch(/^409 BucketAlreadyExists/)
  expect(problemText(await ask('PUT /kv/v1/Not%20A%20Name'))).toMatch(/^400 InvalidBucketName/)
  expect(problemText(await ask('PUT /kv/v1/a:b'))).toMatch(/^400 InvalidBucketName/)
  expect(problemText(await ask('PUT /kv/v1/c?ttl=3'))).toMatch(/unknown parameter "ttl"/)
  expect(problemText(await ask('GET /kv/v1?prefix=b'))).toMatch(/unknown parameter "prefix"/)
})

it('lists only what one may list (C35)', async () => {
  for (const name of ['a', 'b', 'c']) await ask(`PUT /kv/v1/${name}`)
  kv.deny(({ action, bucket }) => action === 's3:ListBucket' && bucket === 'b')
  const { buckets } = jsonOf(await ask('GET /kv/v1')) as unknown as { buckets: { name: string }[] }
  expect(buckets.map(({ name }) => name)).toEqual(['a', 'c'])
  kv.deny(({ action }) => action === 's3:ListAllMyBuckets')
  expect((await ask('GET /kv/v1')).status).toBe(403)
})

it.each([
  ['PUT', 's3:CreateBucket'],
  ['DELETE', 's3:DeleteBucket'],
  ['HEAD', 's3:ListBucket'],
])('asks for the right of %s (C35)', async (method, action) => {
  kv.deny((asked) => asked.action === action && asked.bucket === 'b')
  expect((await ask(`${method} /kv/v1/b`)).status).toBe(403)
})

it('lists more than a page of them', async () => {
  const names = Array.from({ length: 1001 }, (_, index) => `n${1000 + index}`)
  for (const name of names) await kv.store.buckets.create({ name, owner: 'alice', region: '' })
  const { buckets } = jsonOf(await ask('GET /kv/v1')) as unknown as { buckets: { name: string }[] }
  expect(buckets.map(({ name }) => name)).toEqual(names)
})
