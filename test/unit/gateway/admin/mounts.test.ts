import { afterEach, expect, it } from 'vitest'
import { TidegateError } from '../../../../src/common/errors.ts'
import { createMountsPlugin, type Mounts } from '../../../../src/gateway/admin/mounts.ts'
import { SECRET, startTokenPort, type TokenPort } from '../../../support/token-port.ts'

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})

class FakeMounts implements Mounts {
  readonly calls: unknown[] = []

  list(): { mountPoint: string }[] {
    return [{ mountPoint: '/mnt/one' }]
  }

  mount(directory: string): Promise<{ mountPoint: string }> {
    this.calls.push(['mount', directory])
    if (directory === '/full') return Promise.reject(new TidegateError('InvalidArgument', 'not an empty directory'))
    return Promise.resolve({ mountPoint: `/real${directory}` })
  }

  unmount(directory: string, options: { readonly lazy: boolean }): Promise<void> {
    this.calls.push(['unmount', directory, options])
    return Promise.resolve()
  }
}

async function begin(): Promise<{ port: TokenPort; mounts: FakeMounts }> {
  const mounts = new FakeMounts()
  const port = await startTokenPort({ plugins: [createMountsPlugin(mounts)] })
  stops.push(() => port.stop())
  return { port, mounts }
}

interface Call {
  readonly method?: string
  readonly query?: string
  readonly json?: unknown
  readonly authorization?: string
}

async function ask(port: TokenPort, call: Call): Promise<{ status: number; body: Record<string, unknown> }> {
  const { method = 'GET', query = '', json, authorization = basic('root') } = call
  const response = await fetch(`${port.url}/admin/v1/mounts${query}`, {
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

function basic(accessKey: string): string {
  return `Basic ${Buffer.from(`${accessKey}:${SECRET}`).toString('base64')}`
}

it('mounts, lists and unmounts for the root user', async () => {
  const { port, mounts } = await begin()
  expect(await ask(port, { method: 'POST', json: { directory: '/a' } })).toEqual({
    status: 201,
    body: { directory: '/real/a' },
  })
  expect(await ask(port, {})).toEqual({ status: 200, body: { mounts: [{ directory: '/mnt/one' }] } })
  expect((await ask(port, { method: 'DELETE', query: '?directory=/a' })).status).toBe(204)
  expect((await ask(port, { method: 'DELETE', query: '?directory=/b&lazy=true' })).status).toBe(204)
  expect(mounts.calls).toEqual([
    ['mount', '/a'],
    ['unmount', '/a', { lazy: false }],
    ['unmount', '/b', { lazy: true }],
  ])
})

it('is for the root user alone: no policy and no token will do (C35)', async () => {
  const { port, mounts } = await begin()
  const { text } = await port.tokens.create(
    { id: 'root', displayName: 'root', kind: 'root' },
    { name: 'all', buckets: ['*'], verbs: ['read', 'list', 'write', 'delete'], ttlMs: undefined },
  )
  const callers = [
    [basic('alice'), 403],
    [`Bearer ${text.reveal()}`, 403],
    ['', 401],
    [`Basic ${Buffer.from('root:wrong').toString('base64')}`, 401],
  ] as const
  const calls = [{}, { method: 'POST', json: { directory: '/a' } }, { method: 'DELETE', query: '?directory=/a' }]
  for (const [authorization, status] of callers) {
    for (const call of calls) expect((await ask(port, { ...call, authorization })).status).toBe(status)
  }
  expect(mounts.calls).toEqual([])
})

it.each([
  ['a path from nowhere', { directory: 'mnt' }],
  ['a path with a NUL', { directory: '/a\0b' }],
  ['no path', {}],
  ['an empty path', { directory: '' }],
  ['no text', { directory: 5 }],
  ['a path longer than any', { directory: `/${'x'.repeat(4096)}` }],
  ['something beside the path', { directory: '/a', force: true }],
  ['a body larger than any path', { directory: `/${'x'.repeat(10_000_000)}` }],
])('refuses %s', async (_, json) => {
  const { port, mounts } = await begin()
  const { status } = await ask(port, { method: 'POST', json })
  expect([400, 413]).toContain(status)
  expect(mounts.calls).toEqual([])
})

it('says what is wrong with the directory', async () => {
  const { port } = await begin()
  expect(await ask(port, { method: 'POST', json: { directory: '/full' } })).toMatchObject({
    status: 400,
    body: { code: 'InvalidArgument', detail: 'not an empty directory' },
  })
})
