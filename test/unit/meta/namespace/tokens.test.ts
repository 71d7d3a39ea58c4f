import { hash } from 'node:crypto'
import * as fc from 'fast-check'
import { afterEach, expect, it } from 'vitest'
import { isTidegateError } from '../../../../src/common/errors.ts'
import { decodeToken, encodeToken, type StoredToken } from '../../../../src/meta/namespace/records-tokens.ts'
import { fixture, type Fixture } from './fixture.ts'

const fixtures: Fixture[] = []

afterEach(async () => {
  for (const one of fixtures.splice(0)) await one.stop()
})

async function started(): Promise<Fixture['namespace']> {
  const made = await fixture()
  fixtures.push(made)
  return made.namespace
}

function token(id: string, more: Partial<StoredToken> = {}): StoredToken {
  return {
    id,
    name: `token ${id}`,
    buckets: ['*'],
    verbs: ['read', 'list'],
    parent: { id: 'root', displayName: 'root', kind: 'root' },
    createdMs: 1_700_000_000_000,
    expiresMs: undefined,
    secretSha256: hash('sha256', id),
    ...more,
  }
}

it('keeps what it was given, whatever it is', () => {
  const text = fc.string({ unit: 'grapheme', maxLength: 70 })
  const tokens: fc.Arbitrary<StoredToken> = fc.record({
    id: fc.constant('a1'),
    name: text,
    buckets: fc.array(text, { maxLength: 5 }),
    verbs: fc.subarray(['read', 'list', 'write', 'delete'] as const),
    parent: fc.record({ id: text, displayName: text, kind: fc.constantFrom('root' as const, 'user' as const) }),
    createdMs: fc.maxSafeNat(),
    expiresMs: fc.option(fc.maxSafeNat(), { nil: undefined }),
    secretSha256: text.map((secret) => hash('sha256', secret)),
  })
  fc.assert(
    fc.property(tokens, (each) => {
      expect(decodeToken('a1', encodeToken(each))).toEqual(each)
    }),
  )
})

it('finds, lists by id and removes tokens, and sees a removal at once (C1)', async () => {
  const namespace = await started()
  for (const id of ['c3', 'a1', 'b2']) await namespace.putToken(token(id))
  expect(await namespace.token('b2')).toEqual(token('b2'))
  expect(await namespace.token('b2'), 'the second time as it was decoded').toEqual(token('b2'))
  expect(await namespace.token('b')).toBeUndefined()
  expect(await namespace.token('../b2')).toBeUndefined()
  expect((await namespace.listTokens('', 10)).map(({ id }) => id)).toEqual(['a1', 'b2', 'c3'])
  expect((await namespace.listTokens('a1', 1)).map(({ id }) => id)).toEqual(['b2'])
  expect((await namespace.removeToken('b2')).value).toBe(true)
  expect(await namespace.token('b2')).toBeUndefined()
  expect((await namespace.removeToken('b2')).value).toBe(false)
  expect((await namespace.removeToken('\0')).value).toBe(false)
  expect((await namespace.listTokens('', 10)).map(({ id }) => id)).toEqual(['a1', 'c3'])
})

it('answers for a hot token without reading the store', async () => {
  const namespace = await started()
  await (
    await namespace.putToken(token('a1'))
  ).durable
  const first = await namespace.token('a1')
  expect(await namespace.token('a1')).toBe(first)
})

it('never replaces a token by another', async () => {
  const namespace = await started()
  await namespace.putToken(token('a1'))
  await expect(namespace.putToken(token('a1', { name: 'another' }))).rejects.toSatisfy((error) =>
    isTidegateError(error, 'InvalidRequest'),
  )
  expect((await namespace.token('a1'))?.name).toBe('token a1')
})

it('keeps 10,000 tokens and no more, until one is revoked', async () => {
  const namespace = await started()
  const numbers = Array.from({ length: 10_000 }, (_, index) => index)
  await Promise.all(numbers.map((number) => namespace.putToken(token(`t${number}`))))
  await expect(namespace.putToken(token('more'))).rejects.toThrow('there are 10000 tokens')
  await namespace.removeToken('t5')
  await namespace.putToken(token('more'))
  await expect(namespace.putToken(token('evenmore'))).rejects.toThrow('there are 10000 tokens')
})
