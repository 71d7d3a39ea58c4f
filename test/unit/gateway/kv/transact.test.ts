import { hash } from 'node:crypto'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { registerBatchRoute } from '../../../../src/gateway/kv/batch.ts'
import { registerTransactRoute } from '../../../../src/gateway/kv/transact.ts'
import { jsonOf, post, problemText, putValue } from './calls.ts'
import { startKvHarness, type KvHarness } from './kv-harness.ts'

interface Done {
  readonly succeeded: boolean
  readonly revision: number
  readonly results: readonly Readonly<Record<string, unknown>>[]
}

let kv: KvHarness
beforeEach(async () => {
  kv = await startKvHarness([registerTransactRoute, registerBatchRoute])
  await kv.store.buckets.create({ name: 'b', owner: 'alice', region: 'us-east-1' })
})
afterEach(() => kv.stop())

async function transact(body: unknown): Promise<Done> {
  const answer = await post(kv, 'b:txn', body)
  expect(answer.text).toMatch(/^\{"succeeded"/)
  return jsonOf(answer) as unknown as Done
}

async function refusal(body: unknown): Promise<string> {
  return problemText(await post(kv, 'b:txn', body))
}

it('does one list or the other, each operation with its result', async () => {
  const body = {
    compare: [{ key: 'lock', target: 'exists', operand: false }],
    then: [
      { op: 'put', key: 'lock', value: 'bWU=', ttl: 30, contentType: 'text/plain', metadata: { a: 'b' } },
      { op: 'get', key: 'lock' },
      { op: 'get', key: 'none' },
      { op: 'increment', key: 'n' },
      { op: 'exists', key: 'n' },
      { op: 'delete', key: 'none' },
    ],
    else: [{ op: 'get', key: 'lock' }],
  }
  const first = await transact(body)
  const { revision } = first
  const etag = hash('md5', 'me')
  const value = {
    exists: true,
    value: 'bWU=',
    etag,
    revision,
    size: 2,
    contentType: 'text/plain',
    modified: '2023-11-14T22:13:20.000Z',
    expires: '2023-11-14T22:13:50.000Z',
    metadata: { a: 'b' },
  }
  expect(first).toEqual({
    succeeded: true,
    revision,
    results: [
      { etag, revision, expires: '2023-11-14T22:13:50.000Z' },
      value,
      { exists: false },
      { value: '1', revision },
      { exists: true },
      { existed: false },
    ],
  })
  expect(await transact(body)).toMatchObject({ succeeded: false, results: [value] })
})

it('compares revisions, ETags and values', async () => {
  await putValue(kv, 'a', 'blue')
  const { results } = await transact({ then: [{ op: 'get', key: 'a' }] })
  const revision = results[0]?.['revision']
  const holds = async (compare: object): Promise<boolean> => (await transact({ compare: [compare] })).succeeded
  expect(await holds({ key: 'a', target: 'revision', operator: '=', operand: revision })).toBe(true)
  expect(await holds({ key: 'a', target: 'revision', operator: '<', operand: revision })).toBe(false)
  expect(await holds({ key: 'a', target: 'etag', operator: '!=', operand: 'x' })).toBe(true)
  expect(await holds({ key: 'a', target: 'value', operator: '=', operand: 'Ymx1ZQ==' })).toBe(true)
  expect(await holds({ key: 'none', target: 'revision', operator: '=', operand: 0 })).toBe(true)
})

it('reads and writes values that do not lie in metadata, and leaves nothing open (C12, C13)', async () => {
  const large = Buffer.alloc(400_000, 'x').toString('base64')
  await transact({ then: [{ op: 'put', key: 'a', value: large }], else: [{ op: 'put', key: 'b', value: large }] })
  const done = await transact({
    then: [
      { op: 'get', key: 'a' },
      { op: 'get', key: 'b' },
    ],
  })
  expect(done.results).toMatchObject([{ exists: true, value: large, size: 400_000 }, { exists: false }])
  expect([kv.store.readers, kv.store.leases, kv.store.openBodies.size]).toEqual([0, 0, 0])
})

it('gives bodies back when the transaction is refused', async () => {
  const put = { op: 'put', key: 'a', value: Buffer.alloc(300_000).toString('base64') }
  expect(await refusal({ then: [put, put] })).toMatch(/^400 InvalidArgument/)
  expect(kv.store.openBodies.size).toBe(0)
})

it('shows a value over 1 MiB as null', async () => {
  await transact({ then: [{ op: 'put', key: 'a', value: Buffer.alloc(1024 * 1024 + 1).toString('base64') }] })
  const { results } = await transact({ then: [{ op: 'get', key: 'a' }] })
  expect(results).toMatchObject([{ exists: true, value: null, size: 1024 * 1024 + 1 }])
  expect(kv.store.readers).toBe(0)
})

it('authorises every key of both branches, and refuses all if one is denied (lesson 5.1.18)', async () => {
  const body = {
    compare: [{ key: 'c', target: 'exists', operand: true }],
    then: [{ op: 'put', key: 'p', text: '' }],
    else: [
      { op: 'increment', key: 'n' },
      { op: 'delete', key: 'd' },
    ],
  }
  await transact(body)
  expect(kv.asked.map(({ action, key }) => `${action} ${key}`)).toEqual([
    's3:GetObject c',
    's3:PutObject p',
    's3:GetObject n',
    's3:PutObject n',
    's3:DeleteObject d',
  ])
  kv.deny(({ action, key }) => action === 's3:PutObject' && key === 'p')
  expect(await refusal(body)).toMatch(/^403 AccessDenied/)
})

it('refuses what is malformed by its place', async () => {
  const compared = (compare: object): Promise<string> => refusal({ compare: [compare] })
  expect(await compared({ key: 'a', target: 'size', operand: 1 })).toMatch(
    /"compare\[0\].target" must be one of exists/,
  )
  expect(await compared({ key: 'a', target: 'etag', operator: '<', operand: 'x' })).toMatch(
    /operator" must be one of =, !=/,
  )
  expect(await compared({ key: 'a', target: 'exists', operand: 'yes' })).toMatch(/operand" is neither true nor false/)
  expect(await compared({ key: 'a', target: 'revision', operator: '=', operand: 1.5 })).toMatch(
    /operand" is no revision/,
  )
  expect(await refusal({ then: [{ op: 'put', key: 'a', text: '', ifMatch: '*' }] })).toMatch(
    /"then\[0\].ifMatch" is not known/,
  )
  expect(await refusal({ else: [{ op: 'increment', key: 'a', delta: 0.5 }] })).toMatch(
    /"else\[0\].delta" is no whole number/,
  )
  expect(await refusal({ if: [] })).toMatch(/"if" is not known here/)
})

it('takes 512 items and 16 MiB, and says TransactionTooLarge beyond', async () => {
  const items = (count: number): unknown => ({
    then: Array.from({ length: count }, () => ({ op: 'exists', key: 'a' })),
  })
  expect((await transact(items(512))).results).toHaveLength(512)
  expect(await refusal(items(513))).toMatch(/^413 TransactionTooLarge: 513 compares and operations/)
  const value = Buffer.alloc(8 * 1024 * 1024 + 1).toString('base64')
  const puts = ['a', 'b'].map((key) => ({ op: 'put', key, value }))
  expect(await refusal({ then: puts })).toMatch(/^413 TransactionTooLarge: 16777218 bytes/)
})
