/** `POST /kv/v1/{bucket}:batch`, as JSON and in the binary framing. */
// needs: curl
import { randomBytes } from 'node:crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import type { BatchOperation, KvClient } from '../../../src/client/kv-client.ts'
import { encodeBatchFrame, encodeBatchHead } from '../../../src/common/batch-framing.ts'
import { problemOf, useKv } from '../../support/kv-suite.ts'

const MIB = 1024 * 1024
const suite = useKv(['--buckets', 'kvs'])
const { curl, post } = suite
let kv: KvClient
beforeAll(() => {
  kv = suite.client('kvs')
})

interface Results {
  readonly results: readonly Record<string, unknown>[]
}

describe('as JSON', () => {
  it('gives each operation a result of its own', async () => {
    await kv.put('a', Buffer.from([0, 255]), { contentType: 'text/x', metadata: { owner: 'me' } })
    const { revision } = await kv.put('c', 'x')
    const { status, json } = await post<Results>('/kvs:batch', {
      operations: [
        { op: 'get', key: 'a' },
        { op: 'get', key: 'absent' },
        {
          op: 'put',
          key: 'b',
          value: 'Ymx1ZQ==',
          contentType: 'text/plain',
          metadata: { owner: 'you' },
          ttl: 60,
          ifNoneMatch: '*',
        },
        { op: 'put', key: 'b', text: 'grün', ifNoneMatch: '*' },
        { op: 'put', key: 'b2', text: 'grün' },
        { op: 'delete', key: 'c', ifMatch: `"r${revision}"` },
        { op: 'delete', key: 'c' },
        { op: 'exists', key: 'b' },
        { op: 'exists', key: 'c' },
      ],
    })
    expect(status).toBe(200)
    expect(json.results).toMatchObject([
      {
        status: 200,
        value: 'AP8=',
        size: 2,
        contentType: 'text/x',
        metadata: { owner: 'me' },
        modified: expect.stringMatching(/Z$/),
      },
      { status: 404, code: 'NoSuchKey', detail: expect.any(String) },
      {
        status: 200,
        etag: '48d6215903dff56238e52e8891380c8f',
        revision: expect.any(Number),
        expires: expect.any(String),
      },
      { status: 412, code: 'PreconditionFailed', detail: expect.any(String) },
      { status: 200 },
      { status: 204, existed: true, revision: expect.any(Number) },
      { status: 204, existed: false },
      { status: 200, exists: true },
      { status: 200, exists: false },
    ])
    expect(json.results[0]).toMatchObject({
      etag: (await kv.head('a'))?.etag,
      revision: (await kv.head('a'))?.revision,
    })
    expect(await kv.get('b')).toMatchObject({
      contentType: 'text/plain',
      metadata: { owner: 'you' },
      expires: expect.any(Date),
    })
    expect((await kv.get('b2'))?.text()).toBe('grün')
  })

  it.each([
    ['no JSON', '{"operations":'],
    ['not an object', '[]'],
    ['without operations', '{}'],
    ['an unknown member', '{"operations":[],"made-up":1}'],
    ['an unknown operation', '{"operations":[{"op":"swap","key":"k"}]}'],
    ['an unknown member of an operation', '{"operations":[{"op":"get","key":"k","made-up":1}]}'],
    ['a key that is no text', '{"operations":[{"op":"get","key":1}]}'],
    ['no base64', '{"operations":[{"op":"put","key":"k","value":"%%%"}]}'],
    ['both value and text', '{"operations":[{"op":"put","key":"k","value":"","text":""}]}'],
    ['a put of nothing', '{"operations":[{"op":"put","key":"k"}]}'],
    ['a ttl that is none', '{"operations":[{"op":"put","key":"k","text":"","ttl":-1}]}'],
  ])('is refused whole when it is %s', async (_name, body) => {
    const answer = await post('/kvs:batch', body)
    expect(problemOf(answer)).toMatch(/^400 Invalid(?:Argument|Request)$/)
    expect(await kv.get('k')).toBeUndefined()
  })

  it('takes 1,000 operations and 16 MiB, and no more', async () => {
    const gets = (count: number): unknown => ({
      operations: Array.from({ length: count }, () => ({ op: 'exists', key: 'a' })),
    })
    expect((await post<Results>('/kvs:batch', gets(1_000))).json.results).toHaveLength(1_000)
    expect(problemOf(await post('/kvs:batch', gets(1_001)))).toMatch(/^400 /)
    const large = { operations: [{ op: 'put', key: 'k', text: 'x'.repeat(17 * MIB) }] }
    expect(problemOf(await post('/kvs:batch', large))).toBe('413 EntityTooLarge')
    const over = await post<Results>('/kvs:batch', { operations: [{ op: 'put', key: 'k', text: 'x'.repeat(MIB + 1) }] })
    expect(over.status === 413 || over.json.results[0]?.['status'] === 413, over.text.slice(0, 300)).toBe(true)
    expect(await kv.get('k')).toBeUndefined()
  })

  it('does not get what is over 1 MiB, nor more than 16 MiB in all', async () => {
    await kv.put('over', Buffer.alloc(MIB + 1))
    await kv.put('just', Buffer.alloc(MIB))
    const operations = [{ op: 'get', key: 'over' }, ...Array.from({ length: 20 }, () => ({ op: 'get', key: 'just' }))]
    const { json } = await post<Results>('/kvs:batch', { operations })
    const statuses = json.results.map(({ status }) => status)
    expect(json.results[0]).toMatchObject({ status: 413, code: 'EntityTooLarge' })
    expect(statuses.slice(1, 12)).toEqual(Array(11).fill(200))
    expect(statuses.at(-1)).toBe(413)
  })
})

describe('in the binary framing', () => {
  it('keeps bytes as they are, whatever their number', async () => {
    const values = [0, 1, 4_096, 70_000, MIB + 1, 8 * MIB].map((size) => randomBytes(size))
    const puts = values.map(
      (value, index) => ({ op: 'put', key: `bin/${index}`, value, metadata: { n: `${index} 日本` } }) as const,
    )
    const put = await kv.batch(puts)
    expect(put.map(({ status }) => status)).toEqual(values.map(() => 200))
    const gets = values.map((_, index): BatchOperation => ({ op: 'get', key: `bin/${index}` }))
    const got = await kv.batch([...gets, { op: 'get', key: 'absent' }])
    for (const [index, value] of values.entries()) {
      const result = got[index]
      expect(result?.value !== undefined && value.equals(result.value), `${value.length} bytes`).toBe(true)
      expect(result).toMatchObject({
        status: 200,
        etag: put[index]?.etag,
        revision: put[index]?.revision,
        metadata: { n: `${index} 日本` },
      })
    }
    expect(got.at(-1)).toMatchObject({ status: 404, code: 'NoSuchKey' })
    expect((await curl('/kvs/bin/3')).body.equals(values[3] ?? Buffer.alloc(0))).toBe(true)
  })

  it('says the same as JSON of every operation', async () => {
    await kv.put('same', 'x')
    const results = await kv.batch([
      { op: 'put', key: 'new', value: 'v', ifNoneMatch: '*', ttlSeconds: 60 },
      { op: 'put', key: 'new', value: 'w', ifNoneMatch: '*' },
      { op: 'put', key: 'same', value: 'w', ifMatch: 1 },
      { op: 'exists', key: 'same' },
      { op: 'exists', key: 'absent' },
      { op: 'delete', key: 'same', ifMatch: 'made-up' },
      { op: 'delete', key: 'same' },
      { op: 'delete', key: 'same' },
      { op: 'get', key: '../odd//\0key/' },
    ])
    expect(results).toMatchObject([
      { status: 200, etag: expect.any(String), revision: expect.any(Number), expires: expect.any(Date) },
      { status: 412, code: 'PreconditionFailed' },
      { status: 412, code: 'PreconditionFailed' },
      { status: 200, exists: true },
      { status: 200, exists: false },
      { status: 412, code: 'PreconditionFailed' },
      { status: 204, existed: true },
      { status: 204, existed: false },
      { status: 404, code: 'NoSuchKey' },
    ])
  })

  it('does operations on one key in their order, 1,000 of them', async () => {
    const operations = Array.from({ length: 500 }, (_, at): BatchOperation[] => [
      { op: 'put', key: `order/${at % 7}`, value: String(at) },
      { op: 'get', key: `order/${at % 7}` },
    ]).flat()
    const results = await kv.batch(operations)
    const read = results.filter((_, index) => index % 2 === 1).map(({ value }) => Buffer.from(value ?? []).toString())
    expect(read).toEqual(Array.from({ length: 500 }, (_, at) => String(at)))
  })

  it('refuses what is cut short, too long or no batch', async () => {
    const whole = Buffer.concat([
      encodeBatchHead('request', 1),
      encodeBatchFrame({ code: 2, key: 'cut', fields: {}, valueBytes: 5 }),
      Buffer.from('value'),
    ])
    const send = (stdin: Buffer): ReturnType<typeof curl> =>
      curl('/kvs:batch', ['-H', 'Content-Type: application/vnd.tidegate.batch', '--data-binary', '@-'], { stdin })
    for (let length = 0; length < whole.length; length += 3) {
      const answer = await send(whole.subarray(0, length))
      expect(problemOf(answer), `${length} bytes`).toMatch(/^400 I(?:nvalidRequest|ncompleteBody)$/)
    }
    expect(problemOf(await send(Buffer.concat([whole, Buffer.from('x')])))).toBe('400 InvalidRequest')
    expect(problemOf(await send(randomBytes(1_000)))).toBe('400 InvalidRequest')
    expect((await send(whole)).headers['content-type']).toBe('application/vnd.tidegate.batch')
    expect((await kv.get('cut'))?.text()).toBe('value')
  })
})

it('wants one of its two types', async () => {
  const answer = await curl('/kvs:batch', ['-H', 'Content-Type: text/plain', '--data-binary', '{"operations":[]}'])
  expect(answer.status).toBeGreaterThanOrEqual(400)
  expect(problemOf(answer)).toMatch(/^4\d\d /)
})
