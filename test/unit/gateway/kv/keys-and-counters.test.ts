import { afterEach, beforeEach, expect, it } from 'vitest'
import { registerBatchRoute } from '../../../../src/gateway/kv/batch.ts'
import { registerExistsRoute } from '../../../../src/gateway/kv/exists.ts'
import { registerIncrementRoute } from '../../../../src/gateway/kv/increment.ts'
import { registerMatchRoute } from '../../../../src/gateway/kv/match.ts'
import { jsonOf, post, problemText, putValue } from './calls.ts'
import { startKvHarness, type KvHarness } from './kv-harness.ts'

let kv: KvHarness
beforeEach(async () => {
  kv = await startKvHarness([registerBatchRoute, registerExistsRoute, registerIncrementRoute, registerMatchRoute])
  await kv.store.buckets.create({ name: 'b', owner: 'alice', region: 'us-east-1' })
})
afterEach(() => kv.stop())

const revision = expect.any(Number)

it('counts up and down, as far as 64 bits go', async () => {
  const add = async (body: object): Promise<unknown> => jsonOf(await post(kv, 'b:increment', { key: 'n', ...body }))
  expect(await add({})).toEqual({ key: 'n', value: '1', revision })
  expect(await add({ delta: -5 })).toMatchObject({ value: '-4' })
  expect(await add({ delta: '9223372036854775807', ttl: 60 })).toMatchObject({ value: '9223372036854775803' })
  expect(await add({ delta: 10 })).toMatchObject({ status: 409, code: 'InvalidCounter' })
  expect(await kv.store.objects.head({ bucket: 'b', key: 'n' }, {})).toMatchObject({ expiresMs: 1_700_000_060_000 })
})

it('refuses what is no counter, no delta, or not allowed', async () => {
  const refused = async (body: unknown): Promise<string> => problemText(await post(kv, 'b:increment', body))
  await putValue(kv, 'word', 'blue')
  expect(await refused({ key: 'word' })).toMatch(/^409 InvalidCounter/)
  expect(await refused({ key: 'n', delta: 1.5 })).toMatch(
    /^400 InvalidArgument: the member "delta" is no whole number of 64 bits/,
  )
  expect(await refused({ key: 'n', delta: '9223372036854775808' })).toMatch(/"delta" is no whole number of 64 bits/)
  expect(await refused({ delta: 1 })).toBe('400 InvalidArgument: the member "key" is missing')
  expect(await refused({ key: 'n', by: 1 })).toBe('400 InvalidArgument: the member "by" is not known here')
  kv.deny(({ action }) => action === 's3:GetObject')
  expect(await refused({ key: 'n' })).toMatch(/^403/)
})

it('says which keys are there', async () => {
  await putValue(kv, 'a', '')
  await putValue(kv, 'c', '')
  expect(jsonOf(await post(kv, 'b:exists', { keys: ['a', 'b', 'c', 'a'] }))).toEqual({
    revision,
    exists: [true, false, true, true],
  })
  expect(jsonOf(await post(kv, 'b:exists', { keys: [] }))).toEqual({ revision, exists: [] })
})

it('says how many leading keys are there', async () => {
  for (const key of ['a', 'b', 'd']) await putValue(kv, key, '')
  const matched = async (keys: string[]): Promise<unknown> => jsonOf(await post(kv, 'b:match', { keys }))
  expect(await matched(['a', 'b', 'c', 'd'])).toEqual({ revision, matched: 2 })
  expect(await matched(['a', 'b'])).toEqual({ revision, matched: 2 })
  expect(await matched(['x', 'a'])).toEqual({ revision, matched: 0 })
})

it('takes 10,000 keys and no more', async () => {
  const keys = Array.from({ length: 10_000 }, (_, index) => `k${index}`)
  expect((await post(kv, 'b:exists', { keys })).status).toBe(200)
  expect(kv.outcomes.at(-1)?.bytesIn).toBeGreaterThan(68_000)
  expect(problemText(await post(kv, 'b:match', { keys: [...keys, 'x'] }))).toMatch(
    /^400 InvalidArgument: the member "keys" must NOT have more than 10000 items/,
  )
})

it.each(['exists', 'match'])('authorises every key of %s (lesson 5.1.18)', async (operation) => {
  kv.deny(({ action, key }) => action === 's3:GetObject' && key === 'b')
  expect((await post(kv, `b:${operation}`, { keys: ['a', 'c'] })).status).toBe(200)
  expect(problemText(await post(kv, `b:${operation}`, { keys: ['a', 'b'] }))).toMatch(/^403/)
  expect(problemText(await post(kv, `b:${operation}`, { keys: ['a'] }, { 'x-test-user': 'anonymous' }))).toMatch(/^401/)
  expect(problemText(await post(kv, `b:${operation}`, { keys: ['a', 7] }))).toMatch(/"keys\[1\]" must be string/)
  expect(problemText(await post(kv, `nowhere:${operation}`, { keys: ['a'] }))).toMatch(/^404 NoSuchBucket/)
})
