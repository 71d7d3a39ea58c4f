import { afterEach, expect, it } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import { createStatusPlugin } from '../../../../src/gateway/admin/status.ts'
import { createAccessControl } from '../../../../src/store/policy.ts'
import { ALONE, FakeStatus, STATUS } from '../../../support/fake-status.ts'
import { SECRET, startTokenPort, type TokenPort } from '../../../support/token-port.ts'

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})

const allow = (action: string): object => ({
  Version: '2012-10-17',
  Statement: { Effect: 'Allow', Action: action, Resource: '*' },
})

async function begin(): Promise<{ port: TokenPort; status: FakeStatus }> {
  const status = new FakeStatus()
  const access = createAccessControl(
    [
      { name: 'alice', accessKey: 'alice', secretKey: SECRET, policies: ['readwrite'] },
      { name: 'bob', accessKey: 'bob', secretKey: SECRET, policies: [allow('tidegate:GetCluster')] },
    ] as never,
    systemClock,
  )
  const port = await startTokenPort({ plugins: [createStatusPlugin({ status, access })] })
  stops.push(() => port.stop())
  return { port, status }
}

async function ask(port: TokenPort, authorization = basic('root')): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${port.url}/admin/v1/status`, { headers: { authorization } })
  return { status: response.status, body: await response.json() }
}

function basic(user: string): string {
  return `Basic ${Buffer.from(`${user}:${SECRET}`).toString('base64')}`
}

it('says all there is to say, with null for what is not known', async () => {
  const { port, status } = await begin()
  const [self, other, leaving] = STATUS.nodes
  const unknown = { roundTripMs: null, fabric: null }
  expect((await ask(port)).body).toEqual({
    ...STATUS,
    node: { ...STATUS.node, trouble: null },
    nodes: [{ ...self, ...unknown }, other, { ...leaving, ...unknown }],
    tiers: { ...STATUS.tiers, disk: null, remote: null },
    holdings: { ...STATUS.holdings, trouble: null },
  })
  status.view = ALONE
  expect((await ask(port)).body).toMatchObject({
    node: { number: null },
    nodes: [],
    tiers: { neighbours: null, remote: { trouble: 'the key was revoked' } },
    holdings: null,
  })
})

it('is for whom a policy allows it, and for no token (C35)', async () => {
  const { port } = await begin()
  const { text } = await port.tokens.create(
    { id: 'root', displayName: 'root', kind: 'root' },
    { name: 'all', buckets: ['*'], verbs: ['read', 'list', 'write', 'delete'], ttlMs: undefined },
  )
  expect((await ask(port, basic('bob'))).status).toBe(200)
  expect((await ask(port, basic('alice'))).status).toBe(403)
  expect((await ask(port, `Bearer ${text.reveal()}`)).status).toBe(403)
})
