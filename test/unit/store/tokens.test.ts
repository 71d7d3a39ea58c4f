import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { afterEach, expect, it, vi } from 'vitest'
import { isTidegateError, type ErrorCode } from '../../../src/common/errors.ts'
import { createTokens } from '../../../src/store/tokens.ts'
import { cryptoCallsOf } from '../../support/counted-crypto.ts'
import { fixture, type Fixture } from '../meta/namespace/fixture.ts'
import type { CreateTokenRequest, Principal, Tokens } from '../../../src/store/access.ts'
import type { Commit, MetadataTokens } from '../../../src/store/ports.ts'

vi.mock('node:crypto', async (original) => {
  const { countCrypto } = await import('../../support/counted-crypto.ts')
  return countCrypto(await original())
})

const ROOT: Principal = { id: 'root', displayName: 'root', kind: 'root' }
const ALICE: Principal = { id: 'a11ce', displayName: 'alice', kind: 'user' }
const BOB: Principal = { id: 'b0b', displayName: 'bob', kind: 'user' }
const NOBODY: Principal = { id: 'anonymous', displayName: 'anonymous', kind: 'anonymous' }
const READING: CreateTokenRequest = { name: 'reading', buckets: ['*'], verbs: ['read'], ttlMs: undefined }

const fixtures: Fixture[] = []

afterEach(async () => {
  for (const one of fixtures.splice(0)) await one.stop()
})

async function started(): Promise<Fixture & { tokens: Tokens }> {
  const made = await fixture()
  fixtures.push(made)
  const { namespace, clock } = made
  return { ...made, tokens: createTokens({ metadata: namespace, clock, randomBytes }) }
}

async function refused(code: ErrorCode, promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!isTidegateError(error, code)) throw error ?? new Error(`${code} was expected`)
  return error.message
}

it('makes a token whose text speaks for who made it, within its scope', async () => {
  const { tokens, clock } = await started()
  const { token, text } = await tokens.create(ALICE, {
    name: 'deploy 1',
    buckets: ['config', 'team-*', 'config'],
    verbs: ['write', 'read', 'read'],
    ttlMs: 60_000,
  })
  expect(text.reveal()).toMatch(/^tgt_[a-z2-7]{12}_[A-Za-z0-9_-]{43}$/)
  expect(token).toEqual({
    id: text.reveal().slice(4, 16),
    name: 'deploy 1',
    buckets: ['config', 'team-*'],
    verbs: ['read', 'write'],
    parent: ALICE,
    createdMs: clock.ms,
    expiresMs: clock.ms + 60_000,
  })
  const scope = { id: token.id, buckets: ['config', 'team-*'], verbs: ['read', 'write'] }
  for (let time = 0; time < 3; time++) expect(await tokens.verify(text.reveal())).toEqual({ ...ALICE, token: scope })
})

it('keeps no secret and prints none (lesson 5.2.10)', async () => {
  const { tokens, namespace } = await started()
  const { text, token } = await tokens.create(ROOT, READING)
  const secret = text.reveal().slice(17)
  expect(inspect({ text }) + String(text) + JSON.stringify({ text })).not.toContain(secret)
  const kept = JSON.stringify([await namespace.token(token.id), await namespace.listTokens('', 10)])
  expect(kept).not.toContain(secret)
  expect(kept).not.toContain(Buffer.from(secret, 'base64url').toString('hex'))
  expect(JSON.stringify(await tokens.list(ROOT))).not.toContain('ecretSha256')
  expect(inspect(await tokens.verify(text.reveal()), { depth: 9, showHidden: true })).not.toContain(secret)
})

it('refuses a wrong secret, an unknown id and what is no token, all alike (lesson 5.1.10)', async () => {
  const { tokens } = await started()
  const text = (await tokens.create(ALICE, READING)).text.reveal()
  const other = (await tokens.create(BOB, READING)).text.reveal()
  const wrong = text.slice(0, -2) + (text.at(-2) === 'A' ? 'B' : 'A') + text.slice(-1)
  const guesses = [
    wrong,
    text.slice(0, 17) + other.slice(17),
    `tgt_aaaaaaaaaaaa${text.slice(16)}`,
    text.slice(0, -1),
    `${text}A`,
    text.toUpperCase(),
    `${text}\n`,
    ` ${text}`,
    text.replace('tgt_', 'TGT_'),
    '',
    'tgt_',
  ]
  // Before and after the right secret was seen: what is remembered of it must not admit another.
  for (const round of ['first', 'second']) {
    for (const guess of guesses) expect(await tokens.verify(guess), `${round} ${guess}`).toBeUndefined()
    expect(await tokens.verify(text)).toMatchObject(ALICE)
  }
})

it('compares a hash for an unknown id too (lesson 5.1.10)', async () => {
  const { tokens } = await started()
  const text = (await tokens.create(ALICE, READING)).text.reveal()
  const wrong = text.slice(0, 17) + 'A'.repeat(43)
  const unknown = `tgt_${'b'.repeat(12)}_${'A'.repeat(43)}`
  const computed = (guess: string): Promise<readonly string[]> => cryptoCallsOf(() => tokens.verify(guess))
  expect(await computed(wrong)).toEqual(['hash sha256 43 buffer', 'timingSafeEqual 32 32'])
  expect(await computed(unknown)).toEqual(await computed(wrong))
})

it('ends a token at the moment it expires, on the clock', async () => {
  const { tokens, clock } = await started()
  const { text } = await tokens.create(ALICE, { ...READING, ttlMs: 1_000 })
  clock.ms += 999
  expect(await tokens.verify(text.reveal())).toBeDefined()
  clock.ms += 1
  expect(await tokens.verify(text.reveal())).toBeUndefined()
  clock.ms += 1_000_000
  expect(await tokens.verify(text.reveal())).toBeUndefined()
})

it('refuses a revoked token from then on, however hot it was', async () => {
  const { tokens } = await started()
  const { text, token } = await tokens.create(ALICE, READING)
  for (let time = 0; time < 5; time++) expect(await tokens.verify(text.reveal())).toBeDefined()
  await tokens.revoke(ALICE, token.id)
  expect(await tokens.verify(text.reveal())).toBeUndefined()
  await refused('NoSuchToken', tokens.revoke(ALICE, token.id))
  expect(await tokens.list(ALICE)).toEqual([])
})

it('lets a user manage his own tokens, root all, a token none (lesson 5.2.24)', async () => {
  const { tokens, clock } = await started()
  const made: Record<string, { id: string; text: string }> = {}
  for (const [name, principal] of Object.entries({ root: ROOT, alice: ALICE, bob: BOB })) {
    const { token, text } = await tokens.create(principal, { ...READING, name })
    made[name] = { id: token.id, text: text.reveal() }
    clock.ms += 1
  }
  const names = async (principal: Principal): Promise<string[]> =>
    (await tokens.list(principal)).map(({ name }) => name)
  expect(await names(ROOT)).toEqual(['root', 'alice', 'bob'])
  expect(await names(ALICE)).toEqual(['alice'])
  expect(await names(NOBODY)).toEqual([])
  // Somebody else who has a user's id but not his kind is somebody else.
  expect(await names({ ...NOBODY, id: ALICE.id })).toEqual([])
  for (const id of [made['bob']?.id ?? '', made['root']?.id ?? '', 'nothing', '']) {
    await refused('NoSuchToken', tokens.revoke(ALICE, id))
  }
  for (const name of ['root', 'alice']) {
    const speaking = await tokens.verify(made[name]?.text ?? '')
    if (speaking === undefined) throw new Error('the token is good')
    expect(await names(speaking)).toEqual([])
    await refused('AccessDenied', tokens.create(speaking, READING))
    await refused('NoSuchToken', tokens.revoke(speaking, made[name]?.id ?? ''))
  }
  await refused('AccessDenied', tokens.create(NOBODY, READING))
  await tokens.revoke(ROOT, made['bob']?.id ?? '')
  expect(await names(ROOT)).toEqual(['root', 'alice'])
})

it.each([
  [{ name: '' }, 'the name ""'],
  [{ name: 'x'.repeat(65) }, 'the name "xxx'],
  [{ name: 'a\u001b[2Jb' }, 'the name "a\\u001b[2Jb"'],
  [{ name: 'two\nlines' }, 'the name "two\\nlines"'],
  [{ name: 'a\u202eb' }, 'is not 1 to 64 printable characters'],
  [{ buckets: [] }, 'a token wants 1 to 64 buckets, not 0'],
  [{ buckets: Array.from({ length: 65 }, () => 'b') }, 'not 65'],
  [{ buckets: ['ok', 'Upper'] }, '"Upper" is no bucket name'],
  [{ buckets: ['${aws:username}'] }, '"${aws:username}" is no bucket name'],
  [{ buckets: ['a/b'] }, '"a/b" is no bucket name'],
  [{ buckets: [''] }, '"" is no bucket name'],
  [{ verbs: [] }, 'one or more of the verbs read, list, write, delete'],
  [{ verbs: ['admin' as never] }, 'unknown verb "admin"'],
  [{ ttlMs: 0 }, 'a time to live of 0 seconds'],
  [{ ttlMs: -5_000 }, 'a time to live of -5 seconds'],
  [{ ttlMs: 315_360_001_000 }, 'is not 1 to 315360000'],
  [{ ttlMs: Number.NaN }, 'a time to live of NaN seconds'],
  [{ ttlMs: 1_500.5 }, 'a time to live of 1.5005 seconds'],
])('names the value at fault in %j', async (fault, message) => {
  const { tokens } = await started()
  expect(await refused('InvalidArgument', tokens.create(ALICE, { ...READING, ...fault }))).toContain(message)
  expect(await tokens.list(ROOT)).toEqual([])
})

it('is done with making and revoking only when that is durable', async () => {
  const { namespace, clock } = await started()
  let settle: () => void = () => undefined
  const held = <T>(commit: Commit<T>): Commit<T> => ({
    ...commit,
    durable: new Promise<void>((resolve) => {
      settle = resolve
    }),
  })
  const metadata: MetadataTokens = {
    putToken: async (token) => held(await namespace.putToken(token)),
    removeToken: async (id) => held(await namespace.removeToken(id)),
    token: (id) => namespace.token(id),
    listTokens: (after, limit) => namespace.listTokens(after, limit),
  }
  const tokens = createTokens({ metadata, clock, randomBytes })
  let done = 0
  const finished = (): void => void done++
  const creating = tokens.create(ROOT, READING)
  void creating.then(finished)
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect(done).toBe(0)
  settle()
  const { token } = await creating
  const revoking = tokens.revoke(ROOT, token.id)
  void revoking.then(finished)
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect(done).toBe(1)
  settle()
  await revoking
})

it('lists more tokens than one page holds', async () => {
  const { tokens, namespace } = await started()
  const { token } = await tokens.create(ALICE, READING)
  const record = await namespace.token(token.id)
  if (record === undefined) throw new Error('it was made')
  await Promise.all(Array.from({ length: 1_500 }, (_, i) => namespace.putToken({ ...record, id: `t${i}` })))
  expect(await tokens.list(ALICE)).toHaveLength(1_501)
  expect(await tokens.list(BOB)).toEqual([])
})
