import { afterEach, expect, it } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import { createAttachmentsPlugin } from '../../../../src/gateway/admin/attachments.ts'
import { createAccessControl } from '../../../../src/store/policy.ts'
import { FakeAttachments, LEFT, RUNNING } from '../../../support/fake-attachments.ts'
import { SECRET, startTokenPort, type TokenPort } from '../../../support/token-port.ts'

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})

const allow = (action: string, resource = '*'): object => ({
  Version: '2012-10-17',
  Statement: { Effect: 'Allow', Action: action, Resource: resource },
})

async function begin() {
  const access = createAccessControl(
    [
      {
        name: 'alice',
        accessKey: 'alice',
        secretKey: SECRET,
        policies: [allow('tidegate:GetAttachment', 'arn:aws:s3:::far')],
      },
      { name: 'bob', accessKey: 'bob', secretKey: SECRET, policies: ['readwrite'] },
    ] as never,
    systemClock,
  )
  const attachments = new FakeAttachments()
  const port = await startTokenPort({
    plugins: [createAttachmentsPlugin({ attachments, access, defaultAck: 'journal' })],
  })
  stops.push(() => port.stop())
  return { port, attachments }
}

interface Asked {
  readonly json?: unknown
  readonly text?: string
  readonly authorization?: string
}

async function ask(
  port: TokenPort,
  method: string,
  path: string,
  { json, text, authorization = basic('root') }: Asked = {},
): Promise<{ status: number; body: Record<string, unknown> }> {
  const type = text === undefined ? 'application/json' : 'text/plain; charset=UTF-8'
  const sent = text ?? (json === undefined ? undefined : JSON.stringify(json))
  const response = await fetch(`${port.url}/admin/v1${path}`, {
    method,
    headers: { ...(authorization !== '' && { authorization }), ...(sent !== undefined && { 'content-type': type }) },
    ...(sent !== undefined && { body: sent }),
  })
  const answer = await response.text()
  return { status: response.status, body: answer === '' ? {} : (JSON.parse(answer) as Record<string, unknown>) }
}

function basic(user: string): string {
  return `Basic ${Buffer.from(`${user}:${SECRET}`).toString('base64')}`
}

const SHOWN = {
  bucket: 'far',
  url: 's3://there/photos',
  conflicts: 'fail',
  ttlMs: 10_000,
  listingTtlMs: 60_000,
  compareIntervalMs: 3_600_000,
  attached: '2026-11-22T06:39:18.000Z',
  state: 'attached',
  capabilities: { conditionalPut: true, conditionalDelete: true, conditionalComplete: true, conditionalCopy: false },
  problem: null,
  paused: false,
  writeBack: {
    dirty: 3,
    dirtyIsAtLeast: false,
    conflicts: 1,
    oldestAgeMs: 3_725_000,
    underWay: 1,
    failing: 1,
    awayMs: null,
    failed: [
      { key: 'a/b', attempts: 4, cause: { code: 'AccessDenied', message: 'the key was revoked' }, nextTryInMs: 2500 },
    ],
    renames: [
      {
        from: 'old/',
        to: 'new/',
        started: '2026-11-22T06:39:18.000Z',
        keys: 10,
        keysIsAtLeast: true,
        carriedOut: 4,
      },
    ],
  },
  import: null,
  compare: { pages: 4, keys: 4000, changed: 2, completed: '2026-11-22T06:39:18.000Z', lastError: null },
  events: { taken: 5, ignored: 1, unread: 0, overflowed: 0, waiting: 0 },
  unheld: { keys: 2, isAtLeast: false, listed: ['raw', 'raw\u001B2'] },
}

it('lists attached buckets, and shows one', async () => {
  const { port } = await begin()
  expect(await ask(port, 'GET', '/attachments')).toEqual({ status: 200, body: { attachments: [SHOWN] } })
  expect(await ask(port, 'GET', '/attachments/far')).toEqual({ status: 200, body: SHOWN })
  const missing = await ask(port, 'GET', '/attachments/near')
  expect([missing.status, missing.body]).toMatchObject([404, { code: 'NoSuchBucket' }])
})

it('attaches, with defaults for what is not said', async () => {
  const { port, attachments } = await begin()
  const made = await ask(port, 'POST', '/attachments', { json: { bucket: 'near', url: 's3://x' } })
  expect([made.status, made.body]).toMatchObject([201, { bucket: 'near', url: 's3://x' }])
  const json = { bucket: 'b2', url: 's3://y', conflicts: 'keep-both', ttlMs: 0, ack: 'persisted' }
  expect((await ask(port, 'POST', '/attachments', { json })).status).toBe(201)
  expect(attachments.calls).toEqual([
    {
      bucket: 'near',
      url: 's3://x',
      conflicts: 'fail',
      ttlMs: 10_000,
      listingTtlMs: 60_000,
      compareIntervalMs: 3_600_000,
      ack: 'journal',
      owner: 'root',
    },
    expect.objectContaining({ conflicts: 'keep-both', ttlMs: 0, listingTtlMs: 60_000, ack: 'persisted' }),
  ])
  const wrong = await ask(port, 'POST', '/attachments', { json: { bucket: 'b3', url: 'http://x' } })
  expect([wrong.status, wrong.body]).toMatchObject([400, { detail: expect.stringContaining('http://x') }])
})

it.each([
  { bucket: 'b' },
  { bucket: 'b', url: 's3://x', conflicts: 'none' },
  { bucket: 'b', url: 's3://x', ttlMs: -1 },
  { bucket: 'b', url: 's3://x', ack: 'replicated' },
  { bucket: 'b', url: 's3://x', secret: 'x' },
])('attaches nothing when it is asked with %j', async (json) => {
  const { port, attachments } = await begin()
  expect((await ask(port, 'POST', '/attachments', { json })).status).toBe(400)
  expect(attachments.calls).toEqual([])
})

it('changes what is said, and only that', async () => {
  const { port, attachments } = await begin()
  const changed = await ask(port, 'PATCH', '/attachments/far', { json: { ttlMs: 5 } })
  expect([changed.status, changed.body['ttlMs']]).toEqual([200, 5])
  expect(attachments.calls).toEqual([{ ttlMs: 5 }])
  for (const json of [{}, { url: 's3://other' }, { ttlMs: 'x' }]) {
    expect((await ask(port, 'PATCH', '/attachments/far', { json })).status).toBe(400)
  }
})

it('detaches, or says what is left', async () => {
  const { port, attachments } = await begin()
  attachments.detaches.push({ detached: false, left: LEFT })
  const refused = await ask(port, 'DELETE', '/attachments/far?waitSeconds=3')
  expect(refused).toEqual({
    status: 200,
    body: {
      detached: false,
      forgotten: false,
      keys: 2,
      keysIsAtLeast: false,
      conflicts: 1,
      listed: [
        { key: 'a/b', conflict: false, cause: { code: 'AccessDenied', message: 'the key was revoked' } },
        { key: 'c\u001B', conflict: true, cause: null },
      ],
      paused: false,
    },
  })
  const done = await ask(port, 'DELETE', '/attachments/far')
  expect(done.body).toMatchObject({ detached: true, forgotten: true, keys: 0 })
  const forced = await ask(port, 'DELETE', '/attachments/far?force=true&waitSeconds=0')
  expect(forced.body).toMatchObject({ detached: true, forgotten: false, keys: 2, conflicts: 1 })
  expect(attachments.calls).toEqual([
    { bucket: 'far', force: false, waitMsMax: 3000 },
    { bucket: 'far', force: false, waitMsMax: 20_000 },
    { bucket: 'far', force: true, waitMsMax: 0 },
  ])
  for (const query of ['?waitSeconds=51', '?waitSeconds=x', '?force=yes', '?all=1']) {
    expect((await ask(port, 'DELETE', `/attachments/far${query}`)).status).toBe(400)
  }
})

it('starts, shows and stops imports', async () => {
  const { port, attachments } = await begin()
  expect((await ask(port, 'GET', '/attachments/far/import')).body).toEqual({ import: null })
  const begun = await ask(port, 'POST', '/attachments/far/import')
  const shown = {
    state: 'running',
    started: '2026-11-22T06:39:18.000Z',
    ended: null,
    keys: RUNNING.keys,
    changed: RUNNING.changed,
    keysPerSecond: RUNNING.keysPerSecond,
    requests: 9,
    rangesLeft: 6,
    share: 0.25,
    problem: null,
  }
  expect(begun).toEqual({ status: 202, body: shown })
  await ask(port, 'POST', '/attachments/far/import', { json: { again: true } })
  expect(attachments.calls).toEqual([{ again: false }, { again: true }])
  expect((await ask(port, 'GET', '/attachments/far/import')).body).toEqual({ import: shown })
  expect((await ask(port, 'DELETE', '/attachments/far/import')).body).toMatchObject({ import: { state: 'stopped' } })
})

it('lists conflicts by pages, and takes decisions', async () => {
  const { port, attachments } = await begin()
  const { body } = await ask(port, 'GET', '/attachments/far/conflicts?limit=10')
  expect(body).toEqual({
    conflicts: [{ key: 'a/b', since: '2026-11-22T06:39:18.000Z', outside: { etag: 'e1', size: 2048 }, base: null }],
    next: null,
  })
  expect((await ask(port, 'GET', '/attachments/far/conflicts?limit=0')).status).toBe(400)
  await ask(port, 'GET', '/attachments/far/conflicts?after=a%2Fb&limit=9999')
  const decide = (json: unknown) => ask(port, 'POST', '/attachments/far/conflicts/resolve', { json })
  expect(await decide({ key: 'a/b', keep: 'both' })).toEqual({
    status: 200,
    body: { keep: 'both', as: 'a/b.conflict-x' },
  })
  expect((await decide({ key: 'none', keep: 'ours' })).status).toBe(404)
  expect((await decide({ key: 'a/b', keep: 'mine' })).status).toBe(400)
  expect(attachments.calls).toEqual([
    { after: '', limit: 10 },
    { after: 'a/b', limit: 1000 },
    { key: 'a/b', keep: 'both' },
    { key: 'none', keep: 'ours' },
  ])
})

it('takes notifications as JSON, also when they are said to be plain text, as SNS does', async () => {
  const { port, attachments } = await begin()
  const taken = { taken: 1, ignored: 0, unread: 0 }
  const message = { Records: [] }
  expect(await ask(port, 'POST', '/attachments/far/events', { json: message })).toEqual({ status: 200, body: taken })
  await ask(port, 'POST', '/attachments/far/events', { text: JSON.stringify({ Type: 'Notification' }) })
  expect(attachments.calls).toEqual([message, { Type: 'Notification' }])
  expect((await ask(port, 'POST', '/attachments/far/events', { text: 'no JSON' })).status).toBe(400)
  // Nowhere else.
  const elsewhere = await ask(port, 'PATCH', '/attachments/far', { text: '{"ttlMs":1}' })
  expect(elsewhere.status).toBe(415)
})

it('pauses and resumes carrying out', async () => {
  const { port, attachments } = await begin()
  expect(await ask(port, 'POST', '/write-back/pause')).toEqual({ status: 200, body: { paused: true } })
  expect(attachments.paused).toBe(true)
  expect(await ask(port, 'POST', '/write-back/resume')).toEqual({ status: 200, body: { paused: false } })
})

const ROUTES: readonly (readonly [method: string, path: string, json?: unknown])[] = [
  ['GET', '/attachments'],
  ['POST', '/attachments', { bucket: 'far', url: 's3://x' }],
  ['GET', '/attachments/far'],
  ['GET', '/attachments/far/import'],
  ['PATCH', '/attachments/far', { ttlMs: 1 }],
  ['DELETE', '/attachments/far'],
  ['POST', '/attachments/far/import'],
  ['DELETE', '/attachments/far/import'],
  ['GET', '/attachments/far/conflicts'],
  ['POST', '/attachments/far/conflicts/resolve', { key: 'a/b', keep: 'ours' }],
  ['POST', '/attachments/far/events', {}],
  ['POST', '/write-back/pause'],
  ['POST', '/write-back/resume'],
]

it('is for whom a policy allows it, by action and bucket; a token may only notify (C35)', async () => {
  const { port } = await begin()
  const { text } = await port.tokens.create(
    { id: 'root', displayName: 'root', kind: 'root' },
    { name: 'all', buckets: ['far'], verbs: ['read', 'list', 'write', 'delete'], ttlMs: undefined },
  )
  const allowed = async (authorization: string): Promise<string[]> => {
    const answers: string[] = []
    for (const [method, path, json] of ROUTES) {
      const { status } = await ask(port, method, path, { json, authorization })
      if (status !== 403 && status !== 401) answers.push(`${method} ${path} ${status}`)
    }
    return answers
  }
  expect(await allowed(basic('alice'))).toEqual(['GET /attachments/far 200', 'GET /attachments/far/import 200'])
  expect((await ask(port, 'GET', '/attachments/other', { authorization: basic('alice') })).status).toBe(403)
  expect(await allowed(basic('bob'))).toEqual([])
  expect(await allowed(`Bearer ${text.reveal()}`)).toEqual(['POST /attachments/far/events 200'])
  expect(await allowed('')).toEqual([])
})
