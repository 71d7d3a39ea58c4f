import { afterEach, expect, it } from 'vitest'
import { createLogger } from '../../../../src/common/logging.ts'
import { SECRET, startTokenPort, type TokenPort } from '../../../support/token-port.ts'

const stops: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})

async function started(options: Parameters<typeof startTokenPort>[0] = {}): Promise<TokenPort> {
  const port = await startTokenPort(options)
  stops.push(() => port.stop())
  return port
}

function basic(accessKey: string): string {
  return `Basic ${Buffer.from(`${accessKey}:${SECRET}`).toString('base64')}`
}

interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly body: Record<string, unknown>
}

async function ask(
  port: TokenPort,
  authorization: string | undefined,
  call: { method?: string; path?: string; json?: unknown } = {},
): Promise<Answer> {
  const response = await fetch(port.url + (call.path ?? '/admin/v1/tokens'), {
    method: call.method ?? 'GET',
    headers: {
      ...(authorization === undefined ? {} : { authorization }),
      ...(call.json === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(call.json === undefined ? {} : { body: JSON.stringify(call.json) }),
  })
  const text = await response.text()
  const body = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>)
  return { status: response.status, headers: response.headers, body }
}

const READING = { name: 'reading', buckets: ['config', 'team-*'], verbs: ['read', 'list'] }

function make(port: TokenPort, who: string, json: unknown = READING): Promise<Answer> {
  return ask(port, basic(who), { method: 'POST', json })
}

async function names(port: TokenPort, who: string): Promise<unknown[]> {
  const { body } = await ask(port, basic(who))
  return (body['tokens'] as Record<string, unknown>[]).map((token) => token['name'])
}

it('makes, lists and revokes tokens, and shows the text once', async () => {
  const port = await started()
  const made = await make(port, 'alice', { ...READING, ttlSeconds: 3600 })
  expect(made.status).toBe(201)
  expect(made.headers.get('cache-control')).toBe('no-store')
  const { token, ...shown } = made.body
  expect(token).toMatch(/^tgt_[a-z2-7]{12}_[A-Za-z0-9_-]{43}$/)
  const createdMs = port.clock.ms
  expect(shown).toEqual({
    ...READING,
    id: String(token).slice(4, 16),
    created: new Date(createdMs).toISOString(),
    expires: new Date(createdMs + 3_600_000).toISOString(),
    parent: { id: expect.stringMatching(/^[0-9a-f]{64}$/) as string, displayName: 'alice' },
  })
  const listed = await ask(port, basic('alice'))
  expect(listed).toMatchObject({ status: 200, body: { tokens: [shown] } })
  expect(JSON.stringify(listed.body)).not.toContain(String(token).slice(17))
  expect(JSON.stringify(listed.body)).not.toContain('ecretSha256')
  const path = `/admin/v1/tokens/${String(shown['id'])}`
  const revoked = await ask(port, basic('alice'), { method: 'DELETE', path })
  expect(revoked).toMatchObject({ status: 204, body: {} })
  expect(await names(port, 'alice')).toEqual([])
  const again = await ask(port, basic('alice'), { method: 'DELETE', path })
  expect(again).toMatchObject({ status: 404, body: { code: 'NoSuchToken' } })
  expect(await port.tokens.verify(String(token))).toBeUndefined()
})

it('says when a token does not expire', async () => {
  expect((await make(await started(), 'root')).body).toMatchObject({ expires: null, parent: { displayName: 'root' } })
})

it('lets nobody do without credentials or a policy, and users see their own only (C35)', async () => {
  const port = await started()
  expect(await ask(port, undefined)).toMatchObject({ status: 401, body: { code: 'Unauthenticated' } })
  expect(await ask(port, basic('mallory'))).toMatchObject({ status: 401, body: { code: 'Unauthenticated' } })
  expect(await make(port, 'carol')).toMatchObject({ status: 403, body: { code: 'AccessDenied' } })
  expect(await ask(port, basic('carol'))).toMatchObject({ status: 403, body: { code: 'AccessDenied' } })
  const made = await make(port, 'alice', { ...READING, name: 'of alice' })
  port.clock.ms += 1
  await make(port, 'bob', { ...READING, name: 'of bob' })
  expect(await names(port, 'alice')).toEqual(['of alice'])
  expect(await names(port, 'root')).toEqual(['of alice', 'of bob'])
  const path = `/admin/v1/tokens/${String(made.body['id'])}`
  expect((await ask(port, basic('bob'), { method: 'DELETE', path })).status).toBe(404)
  expect((await ask(port, basic('carol'), { method: 'DELETE', path })).status).toBe(403)
  expect((await ask(port, basic('root'), { method: 'DELETE', path })).status).toBe(204)
})

it('takes no orders from a token, not even of root with every verb (lesson 5.2.24)', async () => {
  const port = await started()
  const all = { name: 'all', buckets: ['*'], verbs: ['read', 'list', 'write', 'delete'] }
  const { body } = await make(port, 'root', all)
  const bearer = `Bearer ${String(body['token'])}`
  const path = `/admin/v1/tokens/${String(body['id'])}`
  const denied = { status: 403, body: { code: 'AccessDenied' } }
  expect(await ask(port, bearer)).toMatchObject(denied)
  expect(await ask(port, bearer, { method: 'POST', json: all })).toMatchObject(denied)
  expect(await ask(port, bearer, { method: 'DELETE', path })).toMatchObject(denied)
  expect(await names(port, 'root')).toEqual(['all'])
})

it.each([
  [{ buckets: ['*'], verbs: ['read'] }, 'name'],
  [{ ...READING, name: 7 }, 'name'],
  [{ ...READING, name: ' ' }, 'the name " "'],
  [{ ...READING, buckets: '*' }, 'buckets'],
  [{ ...READING, buckets: ['A'] }, '"A"'],
  [{ ...READING, verbs: ['admin'] }, 'verbs'],
  [{ ...READING, verbs: [] }, 'one or more of the verbs'],
  [{ ...READING, ttlSeconds: '60' }, 'ttlSeconds'],
  [{ ...READING, ttlSeconds: 0.5 }, 'ttlSeconds'],
  [{ ...READING, ttlSeconds: 0 }, 'a time to live of 0 seconds'],
  [{ ...READING, ttlSeconds: 1e300 }, 'a time to live of'],
  [{ ...READING, parent: 'root' }, 'unknown member "parent"'],
  [[], 'object'],
])('refuses %j and says what is wrong', async (json, message) => {
  const port = await started()
  const { status, body } = await make(port, 'root', json)
  expect({ status, code: body['code'] }).toEqual({ status: 400, code: 'InvalidArgument' })
  expect(body['detail']).toContain(message)
  expect(await names(port, 'root')).toEqual([])
})

it('writes no secret into the log, at any level (lesson 5.2.10)', async () => {
  const lines: string[] = []
  const logger = createLogger({ level: 'trace', pretty: false, write: (line) => void lines.push(line) })
  const port = await started({ logger })
  const text = String((await make(port, 'alice')).body['token'])
  await ask(port, `Bearer ${text}`)
  await ask(port, `Bearer ${text}x`)
  await make(port, 'alice', { ...READING, verbs: ['admin'] })
  await new Promise((resolve) => setTimeout(resolve, 50))
  const log = lines.join('')
  expect(log).toContain('AdminCreateToken')
  expect(log).toContain('Unauthenticated')
  expect(log).not.toContain(text.slice(17))
  expect(log).not.toContain(SECRET)
  expect(log).not.toContain(basic('alice').slice(6))
})

it('describes itself: every route has a summary, a tag, and schemas of what it takes and answers', async () => {
  const seen: Record<string, unknown>[] = []
  await started({
    plugins: [
      (app) => {
        app.addHook('onRoute', (route) => void seen.push({ method: route.method, url: route.url, ...route.schema }))
      },
    ],
  })
  const routes = seen.filter((route) => String(route['url']).startsWith('/admin/'))
  expect(routes.map(({ method, url }) => `${String(method)} ${String(url)}`)).toEqual([
    'POST /admin/v1/tokens',
    'GET /admin/v1/tokens',
    'DELETE /admin/v1/tokens/:id',
  ])
  for (const route of routes) {
    expect(route).toMatchObject({
      tags: ['tokens'],
      summary: expect.any(String) as string,
      response: expect.anything() as object,
    })
  }
})
