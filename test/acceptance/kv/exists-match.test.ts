/** `POST /kv/v1/{bucket}:exists` and `:match`: which of many keys there are. */
// needs: curl
import { createHash } from 'node:crypto'
import { beforeAll, expect, it } from 'vitest'
import type { KvClient } from '../../../src/client/kv-client.ts'
import { problemOf, useKv } from '../../support/kv-suite.ts'

const suite = useKv(['--buckets', 'kvs'])
const { post } = suite
let kv: KvClient
/** As a cache of prefixes names its blocks: each by a hash of all tokens up to it. */
const CHAIN = Array.from(
  { length: 10_000 },
  (_, index) => `model/${createHash('sha256').update(String(index)).digest('hex')}`,
)
const PRESENT = 1_500

beforeAll(async () => {
  kv = suite.client('kvs')
  for (let from = 0; from < PRESENT; from += 500) {
    await kv.batch(CHAIN.slice(from, from + 500).map((key) => ({ op: 'put', key, value: 'block' }) as const))
  }
  await kv.put(CHAIN[5_000] ?? '', 'behind the gap')
})

it('which of 10,000 keys there are, in their order', async () => {
  const { exists, revision } = await kv.exists(CHAIN)
  expect(exists).toEqual(CHAIN.map((_, index) => index < PRESENT || index === 5_000))
  expect(revision).toBeGreaterThan(0)
  const { json } = await post('/kvs:exists', {
    keys: ['absent', CHAIN[0], CHAIN[0], '..', `${CHAIN[0]}/`, 'model/', 'model'],
  })
  expect(json).toEqual({ revision: expect.any(Number), exists: [false, true, true, false, false, false, false] })
})

it('how many leading ones there are', async () => {
  expect((await kv.match(CHAIN)).matched).toBe(PRESENT)
  const { json } = await post('/kvs:match', { keys: [CHAIN[0], CHAIN[1], 'absent', CHAIN[2]] })
  expect(json).toEqual({ revision: expect.any(Number), matched: 2 })
  expect((await kv.match(['absent', ...CHAIN.slice(0, 3)])).matched).toBe(0)
  expect((await kv.match(CHAIN.slice(0, 7))).matched).toBe(7)
  await kv.delete(CHAIN[700] ?? '')
  expect((await kv.match(CHAIN)).matched).toBe(700)
})

it.each(['exists', 'match'])(':%s takes 10,000 keys and no more, and texts only', async (operation) => {
  const path = `/kvs:${operation}`
  expect(problemOf(await post(path, { keys: [...CHAIN, 'one more'] }))).toMatch(/^400 /)
  for (const body of [
    '{}',
    '{"keys":"a"}',
    '{"keys":[1]}',
    '{"keys":[""]}',
    '{"keys":[],"made-up":1}',
    '{"keys":[',
    'null',
  ]) {
    expect(problemOf(await post(path, body)), body).toMatch(/^400 Invalid(?:Argument|Request|Key)$/)
  }
  expect(problemOf(await post(path, { keys: ['x'.repeat(1_025)] }))).toBe('400 KeyTooLong')
})
