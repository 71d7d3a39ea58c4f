/** `POST /kv/v1/{bucket}:txn` and `:increment`. */
// needs: curl
/* oxlint-disable unicorn/no-thenable -- the API's word for what a transaction does */
import { beforeAll, describe, expect, it } from 'vitest'
import type { KvClient, TransactionCompare } from '../../../src/client/kv-client.ts'
import { problemOf, useKv } from '../../support/kv-suite.ts'

const MIB = 1024 * 1024
const suite = useKv(['--buckets', 'kvs'])
const { post } = suite
let kv: KvClient
beforeAll(() => {
  kv = suite.client('kvs')
})

describe(':txn', () => {
  it('does what the documentation shows', async () => {
    const a = await kv.put('a', 'value of a', { contentType: 'text/x' })
    await kv.put('b', 'value of b')
    await kv.put('c', 'blue')
    const body = {
      compare: [
        { key: 'lock', target: 'exists', operand: false },
        { key: 'a', target: 'revision', operator: '=', operand: a.revision },
        { key: 'b', target: 'etag', operator: '!=', operand: 'made-up' },
        { key: 'c', target: 'value', operator: '=', operand: 'Ymx1ZQ==' },
      ],
      then: [
        { op: 'put', key: 'lock', value: 'bWU=', ttl: 30 },
        { op: 'get', key: 'a' },
        { op: 'increment', key: 'n', delta: 1 },
      ],
      else: [{ op: 'get', key: 'lock' }],
    }
    const first = await post<Record<string, unknown>>('/kvs:txn', body)
    expect(first.status).toBe(200)
    const revision = Number(first.json['revision'])
    expect(revision).toBeGreaterThan(a.revision)
    expect(first.json).toEqual({
      succeeded: true,
      revision,
      results: [
        expect.objectContaining({ etag: 'ab86a1e1ef70dff97959067b723c5c24', revision }),
        expect.objectContaining({
          exists: true,
          value: Buffer.from('value of a').toString('base64'),
          etag: a.etag,
          revision: a.revision,
          size: 10,
          contentType: 'text/x',
        }),
        expect.objectContaining({ value: '1', revision }),
      ],
    })
    const lock = await kv.head('lock')
    expect([lock?.revision, lock?.expires instanceof Date]).toEqual([revision, true])
    const second = await post<Record<string, unknown>>('/kvs:txn', body)
    expect(second.json).toMatchObject({ succeeded: false, results: [{ exists: true, value: 'bWU=' }] })
    expect((await kv.get('n'))?.text()).toBe('1')
  })

  it('compares presence, revisions, ETags and values', async () => {
    const { revision, etag } = await kv.put('cmp', 'blue')
    await kv.put('cmp-large', Buffer.alloc(20_000, 'x'))
    const key = 'cmp'
    const holds: TransactionCompare[] = [
      { key, target: 'exists', operand: true },
      { key: 'none', target: 'exists', operand: false },
      { key, target: 'revision', operator: '=', operand: revision },
      { key, target: 'revision', operator: '!=', operand: 1 },
      { key, target: 'revision', operator: '<', operand: revision + 1 },
      { key, target: 'revision', operator: '>', operand: revision - 1 },
      { key: 'none', target: 'revision', operator: '=', operand: 0 },
      { key, target: 'etag', operator: '=', operand: etag },
      { key, target: 'etag', operator: '!=', operand: 'x' },
      { key: 'none', target: 'etag', operator: '!=', operand: etag },
      { key, target: 'value', operator: '=', operand: 'blue' },
      { key, target: 'value', operator: '!=', operand: 'blue ' },
      { key: 'none', target: 'value', operator: '!=', operand: '' },
      { key: 'cmp-large', target: 'value', operator: '=', operand: Buffer.alloc(20_000, 'x') },
      { key: 'cmp-large', target: 'value', operator: '!=', operand: Buffer.alloc(20_000, 'y') },
    ]
    const fails: TransactionCompare[] = [
      { key, target: 'exists', operand: false },
      { key: 'none', target: 'exists', operand: true },
      { key, target: 'revision', operator: '=', operand: revision - 1 },
      { key, target: 'revision', operator: '<', operand: revision },
      { key, target: 'revision', operator: '>', operand: revision },
      { key: 'none', target: 'etag', operator: '=', operand: etag },
      { key: 'none', target: 'value', operator: '=', operand: '' },
      { key, target: 'value', operator: '=', operand: 'blu' },
      { key: 'cmp-large', target: 'value', operator: '=', operand: Buffer.alloc(20_000, 'y') },
    ]
    const all = await kv.transaction({ compare: holds })
    expect(all.succeeded).toBe(true)
    for (const compare of fails) {
      expect(
        (await kv.transaction({ compare: [...holds, compare] })).succeeded,
        JSON.stringify(compare).slice(0, 80),
      ).toBe(false)
    }
  })

  it('lets each operation see what those before it wrote', async () => {
    await kv.put('seen/old', 'old')
    const { results, revision } = await kv.transaction({
      then: [
        { op: 'get', key: 'seen/new' },
        { op: 'put', key: 'seen/new', value: Buffer.from([0, 255]) },
        { op: 'get', key: 'seen/new' },
        { op: 'delete', key: 'seen/old' },
        { op: 'exists', key: 'seen/old' },
        { op: 'increment', key: 'seen/n', delta: -5 },
        { op: 'get', key: 'seen/n' },
        { op: 'delete', key: 'seen/never' },
      ],
    })
    expect(results).toMatchObject([
      { op: 'get', exists: false, value: undefined },
      { op: 'put', revision },
      { op: 'get', exists: true, value: Buffer.from([0, 255]) },
      { op: 'delete', existed: true },
      { op: 'exists', exists: false },
      { op: 'increment', value: -5n },
      { op: 'get', value: Buffer.from('-5') },
      { op: 'delete', existed: false },
    ])
  })

  it('does all of it or nothing', async () => {
    await kv.put('text', 'not a number')
    const broken = kv.transaction({
      then: [
        { op: 'put', key: 'half', value: 'x' },
        { op: 'increment', key: 'text', delta: 1 },
      ],
    })
    await expect(broken).rejects.toMatchObject({ code: 'InvalidCounter', status: 409 })
    expect(await kv.get('half')).toBeUndefined()
    const twice = kv.transaction({
      then: [
        { op: 'put', key: 'half', value: 'x' },
        { op: 'delete', key: 'half' },
      ],
    })
    await expect(twice).rejects.toMatchObject({ code: 'InvalidArgument' })
    expect(await kv.get('half')).toBeUndefined()
  })

  it('keeps large values, and does not send them back', async () => {
    const value = Buffer.alloc(MIB + 1, 'L')
    const { results } = await kv.transaction({
      then: [
        { op: 'put', key: 'large', value },
        { op: 'get', key: 'large' },
      ],
    })
    expect(results[1]).toMatchObject({ op: 'get', exists: true, value: undefined, size: MIB + 1 })
    expect((await kv.get('large'))?.bytes.equals(value)).toBe(true)
  })

  it('has a limit, beyond which nothing is written (C2)', async () => {
    const puts = (count: number): { op: 'put'; key: string; value: string }[] =>
      Array.from({ length: count }, (_, at) => ({ op: 'put', key: `limit/${at}`, value: 'x' }))
    await expect(kv.transaction({ then: puts(513) })).rejects.toMatchObject({
      code: 'TransactionTooLarge',
      status: 413,
    })
    const bytes = Array.from(
      { length: 17 },
      (_, at) => ({ op: 'put', key: `limit/${at}`, value: Buffer.alloc(MIB) }) as const,
    )
    await expect(kv.transaction({ then: bytes })).rejects.toMatchObject({ code: 'TransactionTooLarge' })
    expect((await kv.scanPage({ prefix: 'limit/' })).entries).toEqual([])
    expect((await kv.transaction({ then: puts(512) })).results).toHaveLength(512)
    expect((await kv.scanPage({ prefix: 'limit/' })).entries).toHaveLength(512)
  })

  it('is strictly serializable: transfers between accounts lose nothing', async () => {
    const accounts = ['x', 'y', 'z']
    await kv.transaction({ then: accounts.map((name) => ({ op: 'put', key: `account/${name}`, value: '100' })) })
    const transfer = async (client: number): Promise<void> => {
      for (let round = 0; round < 10;) {
        const from = `account/${accounts[(client + round) % 3]}`
        const to = `account/${accounts[(client + round + 1) % 3]}`
        const { results } = await kv.transaction({ then: [{ op: 'get', key: from }] })
        const [found] = results
        if (found?.op !== 'get') throw new Error('not a get')
        const { succeeded } = await kv.transaction({
          compare: [{ key: from, target: 'revision', operator: '=', operand: found.revision ?? 0 }],
          then: [
            { op: 'increment', key: from, delta: -1 },
            { op: 'increment', key: to, delta: 1 },
          ],
        })
        if (succeeded) round++
      }
    }
    const ended = new AbortController()
    const auditor = (async () => {
      while (!ended.signal.aborted) {
        const { results } = await kv.transaction({
          then: accounts.map((name) => ({ op: 'get', key: `account/${name}` })),
        })
        const sum = results.reduce(
          (total, result) => total + (result.op === 'get' ? Number(result.value) : Number.NaN),
          0,
        )
        expect(sum).toBe(300)
      }
    })()
    await Promise.all(Array.from({ length: 8 }, (_, client) => transfer(client)))
    ended.abort()
    await auditor
  })

  it.each([
    '{"then":',
    '{"made-up":[]}',
    '{"then":[{"op":"made-up","key":"k"}]}',
    '{"then":[{"op":"get"}]}',
    '{"then":[{"op":"put","key":"k","value":"%"}]}',
    '{"then":[{"op":"get","key":"k","made-up":1}]}',
    '{"compare":[{"key":"k","target":"size","operator":"=","operand":1}]}',
    '{"compare":[{"key":"k","target":"etag","operator":"<","operand":"x"}]}',
    '{"compare":[{"key":"k","target":"revision","operator":"=","operand":"7"}]}',
    '{"then":[{"op":"increment","key":"k","delta":1.5}]}',
    '{"then":[{"op":"get","key":""}]}',
  ])('refuses %s', async (body) => {
    await kv.delete('k')
    expect(problemOf(await post('/kvs:txn', body))).toMatch(/^400 Invalid(?:Argument|Request|Key)$/)
    expect(await kv.get('k')).toBeUndefined()
  })
})

describe(':increment', () => {
  it('counts from nothing, up and down', async () => {
    const { status, json } = await post<Record<string, unknown>>('/kvs:increment', { key: 'n1', delta: 5 })
    expect([status, json]).toEqual([200, { key: 'n1', value: '5', revision: expect.any(Number) }])
    expect((await kv.increment('n1')).value).toBe(6n)
    expect((await kv.increment('n1', -10)).value).toBe(-4n)
    expect((await kv.get('n1'))?.text()).toBe('-4')
    const { revision } = await kv.increment('n1', 0)
    expect((await kv.head('n1'))?.revision).toBe(revision)
  })

  it('counts what was put, in 64 bits exactly', async () => {
    await kv.put('n2', '9007199254740993')
    expect((await kv.increment('n2', 2)).value).toBe(9_007_199_254_740_995n)
    expect((await kv.increment('n2', 2n ** 62n)).value).toBe(9_007_199_254_740_995n + 2n ** 62n)
    await kv.put('n3', String(2n ** 63n - 1n))
    await expect(kv.increment('n3')).rejects.toMatchObject({ code: 'InvalidCounter', status: 409 })
    expect((await kv.get('n3'))?.text()).toBe(String(2n ** 63n - 1n))
    await kv.put('n3', String(-(2n ** 63n)))
    await expect(kv.increment('n3', -1)).rejects.toMatchObject({ code: 'InvalidCounter' })
  })

  it.each(['', ' 1', '1.0', '+1', 'x', '0x1', '9223372036854775808', '--1'])('refuses to count %j', async (value) => {
    await kv.put('n4', value)
    await expect(kv.increment('n4')).rejects.toMatchObject({ code: 'InvalidCounter', status: 409 })
    expect((await kv.get('n4'))?.text()).toBe(value)
  })

  it('loses nothing of 16 clients', async () => {
    const client = async (): Promise<void> => {
      for (let round = 0; round < 25; round++) await kv.increment('n5')
    }
    await Promise.all(Array.from({ length: 16 }, client))
    expect((await kv.get('n5'))?.text()).toBe('400')
  })

  it('keeps a time to live unless it is given one', async () => {
    const first = await kv.increment('n6', 1, { ttlSeconds: 100 })
    const { expires } = (await kv.head('n6')) ?? {}
    expect(expires).toBeInstanceOf(Date)
    expect((await kv.increment('n6')).revision).toBeGreaterThan(first.revision)
    expect((await kv.head('n6'))?.expires).toEqual(expires)
    await kv.increment('n6', 1, { ttlSeconds: 1_000 })
    expect((await kv.head('n6'))?.expires?.getTime()).toBeGreaterThan(expires?.getTime() ?? Infinity)
  })

  it.each([
    '{}',
    '{"key":"k"',
    '{"key":"k","delta":1.5}',
    '{"key":"k","delta":"x"}',
    '{"key":"k","delta":9007199254740993}',
    '{"key":"k","made-up":1}',
    '{"key":"k","delta":"9223372036854775808"}',
  ])('refuses %s', async (body) => {
    await kv.delete('k')
    expect(problemOf(await post('/kvs:increment', body))).toMatch(/^400 Invalid(?:Argument|Request|Key)$/)
    expect(await kv.get('k')).toBeUndefined()
  })
})
