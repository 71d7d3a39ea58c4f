import { afterEach, expect, it } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import { createFlushPlugin } from '../../../../src/gateway/admin/flush.ts'
import { createAccessControl } from '../../../../src/store/policy.ts'
import { FakeFlush, FAILING } from '../../../support/fake-flush.ts'
import { SECRET, startTokenPort, type TokenPort } from '../../../support/token-port.ts'

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})

const allow = (action: string): object => ({
  Version: '2012-10-17',
  Statement: { Effect: 'Allow', Action: action, Resource: '*' },
})

async function begin(): Promise<{ port: TokenPort; flush: FakeFlush }> {
  const flush = new FakeFlush()
  const access = createAccessControl(
    [
      { name: 'alice', accessKey: 'alice', secretKey: SECRET, policies: ['readwrite', allow('tidegate:*Token*')] },
      { name: 'bob', accessKey: 'bob', secretKey: SECRET, policies: [allow('tidegate:GetFlush')] },
    ] as never,
    systemClock,
  )
  const port = await startTokenPort({ plugins: [createFlushPlugin({ flush, access })] })
  stops.push(() => port.stop())
  return { port, flush }
}

async function ask(
  port: TokenPort,
  path: string,
  { method = 'POST', json, user = 'root', authorization = basic(user) }: Record<string, unknown> = {},
): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await fetch(`${port.url}/admin/v1/flush${path}`, {
    method: String(method),
    headers: {
      ...(authorization === '' ? {} : { authorization: String(authorization) }),
      ...(json === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(json === undefined ? {} : { body: JSON.stringify(json) }),
  })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

function basic(user: unknown): string {
  return `Basic ${Buffer.from(`${String(user)}:${SECRET}`).toString('base64')}`
}

it('says what waits, what is on its way, and what fails and why', async () => {
  const { port } = await begin()
  const { status, body } = await ask(port, '', { method: 'GET' })
  expect(status).toBe(200)
  expect(body).toMatchObject({
    paused: false,
    awayMs: null,
    items: 3,
    uploads: [{ forMs: 1500 }],
    failing: [{ ...FAILING, bucket: null }],
    bytesPerSecond: null,
    totals: { failures: { AccessDenied: 4 } },
    pressure: { slowed: 2, refused: 1 },
  })
})

it('pauses and resumes', async () => {
  const { port, flush } = await begin()
  expect((await ask(port, '/pause')).body).toMatchObject({ paused: true })
  expect(flush.paused).toBe(true)
  expect((await ask(port, '/resume')).body).toMatchObject({ paused: false })
})

it('drains, waits as long as it is told, and goes on with the same segments when asked again', async () => {
  const { port, flush } = await begin()
  flush.drains.push({ through: 9, paused: false, leftItems: 1, leftBytes: 10, left: [FAILING], namesLeft: false })
  expect((await ask(port, '/drain')).body).toMatchObject({
    drained: false,
    through: 9,
    left: [{ attempts: 4 }],
    namesLeft: false,
  })
  expect((await ask(port, '/drain', { json: { waitSeconds: 0.5, through: 9 } })).body).toMatchObject({ drained: true })
  expect(flush.calls).toEqual([
    { waitMsMax: 20_000, through: undefined },
    { waitMsMax: 500, through: 9 },
  ])
  for (const json of [{ waitSeconds: 51 }, { waitSeconds: -1 }, { through: 1.5 }, { wait: 1 }, []]) {
    expect((await ask(port, '/drain', { json })).status).toBe(400)
  }
})

it('is for whom a policy allows it, and for no token (C35)', async () => {
  const { port, flush } = await begin()
  const { text } = await port.tokens.create(
    { id: 'root', displayName: 'root', kind: 'root' },
    { name: 'all', buckets: ['*'], verbs: ['read', 'list', 'write', 'delete'], ttlMs: undefined },
  )
  expect((await ask(port, '', { method: 'GET', user: 'bob' })).status).toBe(200)
  expect((await ask(port, '', { method: 'GET', user: 'alice' })).status).toBe(403)
  for (const path of ['/pause', '/resume', '/drain']) {
    for (const user of ['alice', 'bob']) expect((await ask(port, path, { user })).status).toBe(403)
    expect((await ask(port, path, { authorization: `Bearer ${text.reveal()}` })).status).toBe(403)
    expect((await ask(port, path, { authorization: '' })).status).toBe(401)
  }
  expect([flush.paused, flush.calls]).toEqual([false, []])
})
