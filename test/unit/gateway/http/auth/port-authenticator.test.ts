import { describe, expect, it, vi } from 'vitest'
import { createAuthenticator } from '../../../../../src/gateway/http/auth/authenticator.ts'
import { isAuthError, type AuthErrorCode } from '../../../../../src/gateway/http/auth/errors.ts'
import {
  createPortAuthenticator,
  type PortAuthenticator,
} from '../../../../../src/gateway/http/auth/port-authenticator.ts'
import { createUserDirectory } from '../../../../../src/store/users.ts'
import type { Principal } from '../../../../../src/store/access.ts'
import type { RawRequest } from '../../../../../src/gateway/http/auth/authenticator.ts'
import type { Authenticated } from '../../../../../src/gateway/http/types.ts'
import { cryptoCallsOf } from '../../../../support/counted-crypto.ts'
import { EXAMPLE, EXAMPLE_MS, HOST, presigned, rawRequest, repeatedHeaders, signed, withHeaders } from './support.ts'

vi.mock('node:crypto', async (original) => {
  const { countCrypto } = await import('../../../../support/counted-crypto.ts')
  return countCrypto(await original())
})

const TOKEN = `tgt_abcdefghijkl_${'A'.repeat(43)}`
const SPEAKING: Principal = {
  id: 'a11ce',
  displayName: 'alice',
  kind: 'user',
  token: { id: 'abcdefghijkl', buckets: ['*'], verbs: ['read'] },
}

function gate(options: { trustedProxies?: readonly string[] } = {}): PortAuthenticator & { asked: string[] } {
  const trustedProxies = options.trustedProxies ?? []
  const users = createUserDirectory({
    root: EXAMPLE,
    users: [{ name: 'alice', accessKey: 'alice', secretKey: 'pa:ss wörd', policies: [] }],
  })
  const clock = { nowMs: () => EXAMPLE_MS, monotonicMs: () => 0, sleep: () => Promise.resolve() }
  const asked: string[] = []
  const made = createPortAuthenticator({
    sigv4: createAuthenticator({
      users,
      clock,
      region: 'us-east-1',
      services: ['s3'],
      trustedProxies,
      allowPresignedV2: false,
    }),
    users,
    tokens: {
      verify: (text) => {
        asked.push(text)
        return Promise.resolve(text === TOKEN ? SPEAKING : undefined)
      },
    },
    trustedProxies,
  })
  return { ...made, asked }
}

function basic(text: string): string {
  return `Basic ${Buffer.from(text).toString('base64')}`
}

function asking(
  authorization: string | undefined,
  more: { target?: string; headers?: Record<string, string> } = {},
): RawRequest {
  const headers = { host: HOST, ...(authorization === undefined ? {} : { authorization }), ...more.headers }
  return rawRequest({ target: more.target ?? '/kv/v1/b/k', headers })
}

async function refused(code: AuthErrorCode, request: RawRequest, at = gate()): Promise<string> {
  try {
    await at.authenticate(request)
  } catch (error) {
    if (!isAuthError(error, code)) throw error
    return error.message
  }
  throw new Error(`${code} was expected`)
}

/** Of a form that needs no look-up. */
function atOnce(request: RawRequest): Authenticated {
  const authenticated = gate().authenticate(request)
  if (authenticated instanceof Promise) throw new Error('it had to wait')
  return authenticated
}

it('admits each form as what it is, and only a token after a look-up', async () => {
  expect(atOnce(asking(undefined))).toMatchObject({ principal: { kind: 'anonymous' }, form: 'anonymous' })
  expect(atOnce(rawRequest(signed('/kv/v1/b/k')))).toMatchObject({ principal: { kind: 'root' }, form: 'header' })
  expect(atOnce(rawRequest(presigned('/kv/v1/b/k')))).toMatchObject({ principal: { kind: 'root' }, form: 'presigned' })
  const unsigned = {
    payload: { kind: 'unsigned' },
    trailers: [],
    origin: { host: HOST, address: '192.0.2.7', secure: false },
  }
  expect(atOnce(asking(basic(`${EXAMPLE.accessKey}:${EXAMPLE.secretKey}`)))).toEqual({
    principal: { id: 'root', displayName: 'root', kind: 'root' },
    form: 'basic',
    ...unsigned,
  })
  expect(atOnce(asking(basic('alice:pa:ss wörd')))).toMatchObject({ principal: { displayName: 'alice', kind: 'user' } })
  const bearer = gate().authenticate(asking(`Bearer ${TOKEN}`))
  expect(bearer).toBeInstanceOf(Promise)
  expect(await bearer).toEqual({ principal: SPEAKING, form: 'bearer', ...unsigned })
})

it('reads schemes in any case (RFC 9110, 11.1)', async () => {
  expect(atOnce(asking(basic('alice:pa:ss wörd').replace('Basic', 'BASIC'))).form).toBe('basic')
  for (const scheme of ['bearer', 'BEARER', 'Bearer  ']) {
    expect((await gate().authenticate(asking(`${scheme} ${TOKEN}`))).form).toBe('bearer')
  }
})

describe('Basic', () => {
  it.each([
    ['a wrong secret', basic('alice:pa:ss word')],
    ['the beginning of the secret', basic('alice:pa:ss')],
    ['more than the secret', basic('alice:pa:ss wörd!')],
    ['the secret and a NUL', basic('alice:pa:ss wörd\0')],
    ['no secret', basic('alice:')],
    ['no access key', basic(':pa:ss wörd')],
    ['an unknown access key', basic('mallory:pa:ss wörd')],
    ['a key that every object has', basic('constructor:x')],
    ['the secret of another', basic(`${EXAMPLE.accessKey}:pa:ss wörd`)],
    ['no colon', basic('alice')],
    ['no base64', 'Basic !!!'],
    ['nothing', 'Basic'],
    ['two values', `${basic('alice:pa:ss wörd')} x`],
    ['a secret of 2 KiB', basic(`alice:${'x'.repeat(2048)}`)],
    ['a very long value', `Basic ${'A'.repeat(100_000)}`],
  ])('refuses %s, and says no more than that (lesson 5.1.10)', async (_what, authorization) => {
    expect(await refused('InvalidAccessKeyId', asking(authorization))).toBe('The access key or its secret is wrong.')
  })

  it('computes the same for an unknown access key (lesson 5.1.10)', async () => {
    const at = gate()
    const computed = (text: string): Promise<readonly string[]> =>
      cryptoCallsOf(() => refused('InvalidAccessKeyId', asking(basic(text)), at))
    const wrong = await computed('alice:pa:ss wxrd')
    expect(wrong).toContain('timingSafeEqual 1024 1024')
    expect(await computed('alicf:pa:ss wxrd')).toEqual(wrong)
  })
})

describe('Bearer', () => {
  it('refuses what is unknown and what can be no token, without asking for the latter', async () => {
    const at = gate()
    const message = 'The bearer token is malformed, unknown, revoked or expired.'
    expect(await refused('InvalidToken', asking(`Bearer ${TOKEN.replace('A', 'B')}`), at)).toBe(message)
    expect(at.asked).toHaveLength(1)
    for (const value of ['Bearer', 'Bearer ', `Bearer ${TOKEN} x`, 'Bearer "x"', `Bearer ${'A'.repeat(10_000)}`]) {
      expect(await refused('InvalidToken', asking(value), at)).toBe(message)
    }
    expect(at.asked).toHaveLength(1)
  })

  it('is not taken from the query, where it would be logged', async () => {
    const authenticated = await gate().authenticate(asking(undefined, { target: `/kv/v1/b/k?access_token=${TOKEN}` }))
    expect(authenticated.form).toBe('anonymous')
  })
})

it('takes identity and proof from one value: never two credentials (lessons 5.1.5, 5.2.1, 5.2.2)', async () => {
  const target = presigned('/kv/v1/b/k').target
  for (const authorization of [`Bearer ${TOKEN}`, basic('alice:pa:ss wörd')]) {
    await refused('InvalidArgument', asking(authorization, { target }))
    await refused('InvalidArgument', asking(authorization, { target: '/kv/v1/b/k?X-Amz-Credential=x' }))
    await refused('InvalidArgument', asking(authorization, { target: '/kv/v1/b/k?x-amz-%63redential=x' }))
    await refused('InvalidArgument', asking(authorization, { target: '/kv/v1/b/k?AWSAccessKeyId=x&Signature=y' }))
  }
  const twice = (first: string, second: string): RawRequest => ({
    ...asking(undefined),
    ...repeatedHeaders([
      ['Host', HOST],
      ['Authorization', first],
      ['authorization', second],
    ]),
    // Node keeps the first of them.
    headers: { host: HOST, authorization: first },
  })
  const header = signed('/kv/v1/b/k').headers['authorization'] ?? ''
  const values = [`Bearer ${TOKEN}`, basic('alice:pa:ss wörd'), header]
  for (const first of values) for (const second of values) await refused('InvalidArgument', twice(first, second))
})

it('falls through to no other form when one fails (lesson 5.2.1)', async () => {
  const at = gate()
  const request = signed('/kv/v1/b/k')
  for (const scheme of ['Bearer', 'Basic']) {
    const authorization = `${scheme} ${request.headers['authorization']}`
    await refused(
      scheme === 'Bearer' ? 'InvalidToken' : 'InvalidAccessKeyId',
      withHeaders(request, { authorization }),
      at,
    )
  }
  await refused('InvalidToken', asking('Basics abc'), at)
  await refused('InvalidToken', asking(`Digest username="alice"`), at)
  await refused('InvalidToken', asking(TOKEN), at)
  await refused('AccessDenied', asking(''), at)
})

it('refuses signature version 2, in the header and in the query', async () => {
  await refused('InvalidRequest', asking('AWS alice:c2lnbmF0dXJl'))
  await refused(
    'InvalidRequest',
    asking(undefined, { target: '/kv/v1/b/k?AWSAccessKeyId=alice&Signature=x&Expires=9999999999' }),
  )
})

it('believes X-Forwarded-* from a configured proxy only (lessons 5.1.9 and 5.2.17)', async () => {
  const headers = {
    'x-forwarded-for': '198.51.100.9',
    'x-forwarded-host': 'kv.example.com',
    'x-forwarded-proto': 'https',
  }
  for (const authorization of [`Bearer ${TOKEN}`, basic('alice:pa:ss wörd')]) {
    const request = asking(authorization, { headers })
    expect((await gate().authenticate(request)).origin).toEqual({ host: HOST, address: '192.0.2.7', secure: false })
    const behind = await gate({ trustedProxies: ['192.0.2.0/24'] }).authenticate(request)
    expect(behind.origin).toEqual({ host: 'kv.example.com', address: '198.51.100.9', secure: true })
  }
})

it('frames a body as the client says, and takes no signed chunks that nobody signed', async () => {
  const form = async (headers: Record<string, string>): Promise<Authenticated['payload']> =>
    (await gate().authenticate(asking(`Bearer ${TOKEN}`, { headers }))).payload
  const sha256 = 'a'.repeat(64)
  expect(await form({ 'x-amz-content-sha256': sha256 })).toEqual({ kind: 'signed', sha256 })
  expect(await form({ 'content-encoding': 'aws-chunked', 'x-amz-decoded-content-length': '5' })).toEqual({
    kind: 'chunked-unsigned-trailer',
    decodedLength: 5,
  })
  const headers = { 'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD', 'x-amz-decoded-content-length': '5' }
  await refused('AccessDenied', asking(`Bearer ${TOKEN}`, { headers }))
})
