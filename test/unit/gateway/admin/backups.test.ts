import { afterEach, expect, it } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import { TidegateError } from '../../../../src/common/errors.ts'
import { createBackupsPlugin } from '../../../../src/gateway/admin/backups.ts'
import { createAccessControl } from '../../../../src/store/policy.ts'
import { FakeBackups, OLD_BACKUP } from '../../../support/fake-backups.ts'
import { SECRET, startTokenPort, type TokenPort } from '../../../support/token-port.ts'

const NOW_MS = 5000
const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})

const allow = (action: string): object => ({
  Version: '2012-10-17',
  Statement: { Effect: 'Allow', Action: action, Resource: '*' },
})

async function begin({ names = new FakeBackups() }: { names?: FakeBackups | undefined } = {}) {
  const access = createAccessControl(
    [
      { name: 'alice', accessKey: 'alice', secretKey: SECRET, policies: [allow('tidegate:CreateBackup')] },
      { name: 'bob', accessKey: 'bob', secretKey: SECRET, policies: ['readwrite', allow('tidegate:ListBackups')] },
    ] as never,
    systemClock,
  )
  const plugin = createBackupsPlugin({ names, access, monotonicMs: () => NOW_MS })
  const port = await startTokenPort({ plugins: [plugin] })
  stops.push(() => port.stop())
  return { port, names }
}

async function ask(
  port: TokenPort,
  method: string,
  {
    path = '',
    json,
    authorization = basic('root'),
  }: Partial<{ path: string; json: unknown; authorization: string }> = {},
): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await fetch(`${port.url}/admin/v1/backups${path}`, {
    method,
    headers: {
      ...(authorization === '' ? {} : { authorization }),
      ...(json === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(json === undefined ? {} : { body: JSON.stringify(json) }),
  })
  const text = await response.text()
  return { status: response.status, body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>) }
}

function basic(user: string): string {
  return `Basic ${Buffer.from(`${user}:${SECRET}`).toString('base64')}`
}

it('lists the backups, and says how far behind the remote store is and why', async () => {
  const { port, names } = await begin()
  const { status, body } = await ask(port, 'GET')
  expect(status).toBe(200)
  expect(body).toEqual({
    backups: [
      {
        id: OLD_BACKUP.id,
        created: '2026-11-22T06:39:18.000Z',
        state: '2026-11-22T06:39:17.000Z',
        revision: 1234,
        objects: 5,
        bytes: 70_000,
        ancestral: true,
      },
    ],
    names: {
      shippedThrough: 2000,
      durableRevision: 2005,
      behindMs: 1500,
      state: '2026-11-22T06:39:18.000Z',
      heldBytes: 4096,
      heldUpBy: names.names.heldUpBy.slice(0, 20),
      writesWaiting: 2,
      baseBytes: 60_000,
      deltas: 3,
      deltaBytes: 10_000,
      baseDueBytes: 67_108_864,
      unreadableBackups: [],
      nextBackup: '2026-11-23T06:39:18.000Z',
      lastError: null,
    },
  })
})

it('says that there is no state yet, that no backup is due, and what failed last', async () => {
  const { port, names } = await begin()
  const lastError = 'the key was revoked'
  const unreadableBackups = [OLD_BACKUP.id]
  const nothing = { shippedThrough: -1, stateMs: 0, nextBackupMs: undefined, lastError, unreadableBackups }
  Object.assign(names, { kept: [], names: { ...names.names, ...nothing } })
  const { body } = await ask(port, 'GET')
  expect(body).toMatchObject({
    backups: [],
    names: { shippedThrough: -1, state: null, nextBackup: null, lastError, unreadableBackups },
  })
})

it('makes one, waits as long as it is told, and says whether it has everything', async () => {
  const { port, names } = await begin()
  const made = await ask(port, 'POST')
  expect([made.status, made.body]).toMatchObject([
    201,
    { id: '20261123T063918Z-0001', complete: true, ancestral: false },
  ])
  names.complete = false
  const late = await ask(port, 'POST', { json: { waitSeconds: 3 } })
  expect([late.status, late.body]).toMatchObject([201, { complete: false, names: { heldUpBy: expect.any(Array) } }])
  expect(names.calls).toEqual([{ deadlineMs: NOW_MS + 20_000 }, { deadlineMs: NOW_MS + 3000 }])
  expect((await ask(port, 'GET')).body['backups']).toHaveLength(3)
})

it('says when there is nothing to back up yet', async () => {
  const { port, names } = await begin()
  names.complete = new TidegateError('Unavailable', 'the remote store holds no state of the namespace yet')
  const { status, body } = await ask(port, 'POST')
  expect([status, body]).toMatchObject([503, { code: 'Unavailable', detail: expect.stringContaining('no state') }])
})

it.each([{ waitSeconds: 51 }, { waitSeconds: -1 }, { waitSeconds: 1.5 }, { wait: 1 }, []])(
  'makes none when it is asked with %j',
  async (json) => {
    const { port, names } = await begin()
    expect((await ask(port, 'POST', { json })).status).toBe(400)
    expect(names.calls).toEqual([])
  },
)

it('drops one, and only one that there is', async () => {
  const { port, names } = await begin()
  expect(await ask(port, 'DELETE', { path: `/${OLD_BACKUP.id}` })).toEqual({ status: 204, body: {} })
  expect(names.kept).toEqual([])
  const again = await ask(port, 'DELETE', { path: `/${OLD_BACKUP.id}` })
  expect([again.status, again.body]).toMatchObject([404, { detail: `no backup ${OLD_BACKUP.id}` }])
  const long = 'x'.repeat(65)
  const calls = names.calls.length
  for (const path of [`/${long}`, '/', '']) {
    expect((await ask(port, 'DELETE', { path })).status, path).toBeGreaterThanOrEqual(400)
  }
  expect(names.calls).toHaveLength(calls)
})

it('is for whom a policy allows it, each action by itself, and for no token (C35)', async () => {
  const { port, names } = await begin()
  const { text } = await port.tokens.create(
    { id: 'root', displayName: 'root', kind: 'root' },
    { name: 'all', buckets: ['*'], verbs: ['read', 'list', 'write', 'delete'], ttlMs: undefined },
  )
  const path = `/${OLD_BACKUP.id}`
  const statuses = async (authorization: string): Promise<number[]> => [
    (await ask(port, 'GET', { authorization })).status,
    (await ask(port, 'POST', { authorization })).status,
    (await ask(port, 'DELETE', { authorization, path })).status,
  ]
  expect(await statuses(basic('alice'))).toEqual([403, 201, 403])
  expect(await statuses(basic('bob'))).toEqual([200, 403, 403])
  expect(await statuses(`Bearer ${text.reveal()}`)).toEqual([403, 403, 403])
  expect(await statuses('')).toEqual([401, 401, 401])
  expect(names.calls).toHaveLength(1)
})

it('says that there are no backups where metadata goes nowhere; who may not ask is not told', async () => {
  const access = createAccessControl([], systemClock)
  const plugin = createBackupsPlugin({ names: undefined, access, monotonicMs: () => NOW_MS })
  const port = await startTokenPort({ plugins: [plugin] })
  stops.push(() => port.stop())
  const path = `/${OLD_BACKUP.id}`
  for (const [method, where] of [['GET'], ['POST'], ['DELETE', path]] as const) {
    const { status, body } = await ask(port, method, { ...(where !== undefined && { path: where }) })
    expect([status, body]).toMatchObject([400, { detail: expect.stringContaining('--remote') }])
    expect((await ask(port, method, { authorization: basic('carol'), path: where ?? '' })).status).toBe(403)
  }
})
