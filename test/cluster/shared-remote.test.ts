// needs: etcd
/** One remote store behind gateways that share their metadata: what any of them calls persisted outlives it, and all of them. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createKvClient, type KvClient } from '../../src/client/kv-client.ts'
import { must } from '../../src/common/assert.ts'
import { runTidegate } from '../support/command-line.ts'
import { EtcdCluster } from '../support/etcd-member.ts'
import { startGateway } from '../support/gateway-process.ts'
import { BUCKET, SharedGateways } from '../support/three-gateways.ts'
import { flushCommand } from '../write-behind/remote/flush-command.ts'
import { startRemote, type RemoteTarget } from '../write-behind/remote/remote-target.ts'

const LARGE_BYTES = 300_000
const WAIT_MS_MAX = 120_000

let remote: RemoteTarget
let gateways: SharedGateways
const written = new Map<string, Buffer>()

beforeAll(async () => {
  remote = await startRemote('tidegate')
  gateways = await SharedGateways.start({
    count: 2,
    flags: [...remote.flags('shared'), '--segment-age', '200ms', '--names-interval', '500ms'],
    environment: remote.environment,
  })
}, WAIT_MS_MAX)

afterAll(async () => {
  await gateways?.end()
  await remote?.stop()
}, WAIT_MS_MAX)

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

async function read(client: KvClient, key: string): Promise<string | undefined> {
  const value = await client.get(key)
  return value && digest(value.bytes)
}

async function put(client: KvClient, key: string, bytes: number): Promise<void> {
  const body = randomBytes(bytes)
  await client.put(key, body, { ack: 'persisted' })
  written.set(key, body)
}

interface ShownNames {
  readonly shippedThrough: number | null
  readonly lastError: string | null
}

async function names(index: number): Promise<ShownNames> {
  const response = await fetch(`${gateways.of(index).http}/admin/v1/backups`, {
    headers: { authorization: gateways.authorization },
  })
  return ((await response.json()) as { names: ShownNames }).names
}

it(
  'what one node has persisted the other reads when that one is gone with its data directory',
  async () => {
    for (let at = 0; at < 4; at++) {
      await put(gateways.kv(at % 2), `small-${at}`, 40)
      await put(gateways.kv(at % 2), `large-${at}`, LARGE_BYTES)
    }
    // What no record tells waits for the one that ships, also on the other node.
    for (const index of [0, 1]) {
      await put(gateways.kv(index), `gone-${index}`, 100)
      await gateways.kv(index).delete(`gone-${index}`, { ack: 'persisted' })
      written.delete(`gone-${index}`)
    }
    await gateways.kill(0)
    rmSync(gateways.data(0), { recursive: true, force: true })
    for (const [key, body] of written) expect(await read(gateways.kv(1), key)).toBe(digest(body))
  },
  WAIT_MS_MAX,
)

it(
  'who is left ships the names, whoever did before, and a node that is new is given the rest',
  async () => {
    await put(gateways.kv(1), 'alone', LARGE_BYTES)
    await gateways.kv(1).delete('small-0', { ack: 'persisted' })
    written.delete('small-0')
    await gateways.start(0)
    for (const [key, body] of written) expect(await read(gateways.kv(0), key)).toBe(digest(body))
    await put(gateways.kv(0), 'newcomer', 1000)
    expect(await names(0)).toMatchObject({ lastError: null })
  },
  WAIT_MS_MAX,
)

it(
  'the remote store alone gives all of it back, and the nodes that had it are shut out',
  async () => {
    // Only their names: what lies in metadata alone, and was acknowledged by the journal.
    await gateways.kv(1).put('journaled', Buffer.from('j'))
    for (const index of [0, 1]) await flushCommand(gateways.of(index), 'drain')
    written.set('journaled', Buffer.from('j'))
    for (const index of [0, 1]) await gateways.kill(index)
    const data = gateways.file('restored')
    const restored = await runTidegate(['restore', '--data', data, ...remote.flags('shared')], remote.environment)
    expect(restored).toMatchObject({ code: 0 })
    const gateway = await startGateway({
      data,
      root: gateways.root,
      environment: remote.environment,
      logFile: gateways.file('restored.log'),
      flags: [...remote.flags('shared'), '--cache-memory', '64MiB', '--hash-workers', '1'],
    })
    const client = createKvClient({ url: gateway.http, bucket: BUCKET, ...gateways.root, retries: 0 })
    try {
      for (const [key, body] of written) expect(await read(client, key)).toBe(digest(body))
      for (const key of ['gone-0', 'gone-1', 'small-0']) expect(await client.get(key)).toBeUndefined()
      await put(client, 'after', 1000)
    } finally {
      client.close()
      await gateway.stop()
    }
    await expect(gateways.start(0)).rejects.toThrow('ended with code')
    expect(gateways.log(0)).toContain('taken over')
  },
  WAIT_MS_MAX,
)

it(
  'what was restored is moved into a new etcd, and takes the store along',
  async () => {
    const etcd = await EtcdCluster.start({ directory: gateways.file('etcd-again'), members: 1 })
    const location = `etcd://${new URL(must(etcd.endpoints[0], 'endpoint')).host}`
    const data = gateways.file('restored')
    try {
      expect(await runTidegate(['meta', 'migrate', '--data', data, '--to', location])).toMatchObject({ code: 0 })
      const gateway = await startGateway({
        data,
        root: gateways.root,
        environment: remote.environment,
        logFile: gateways.file('moved.log'),
        flags: ['--meta', location, ...remote.flags('shared'), '--names-interval', '500ms', '--segment-age', '200ms'],
      })
      const client = createKvClient({ url: gateway.http, bucket: BUCKET, ...gateways.root, retries: 0 })
      try {
        for (const [key, body] of written) expect(await read(client, key)).toBe(digest(body))
        await put(client, 'moved', LARGE_BYTES)
        await client.delete('moved', { ack: 'persisted' })
      } finally {
        client.close()
        await gateway.kill()
      }
    } finally {
      await etcd.remove()
    }
  },
  WAIT_MS_MAX,
)

it(
  'C34: a directory that all nodes see is such a store too',
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tidegate-shared-directory-'))
    const flags = ['--remote', `file://${directory}`]
    const nodes = await SharedGateways.start({
      count: 2,
      flags: [...flags, '--remote-shared', 'on', '--segment-age', '200ms', '--names-interval', '500ms'],
    })
    try {
      const body = randomBytes(LARGE_BYTES)
      await nodes.kv(0).put('key', body, { ack: 'persisted' })
      await nodes.kv(1).put('key-2', body, { ack: 'persisted' })
      // Recovery finds segments of the other there, and leaves them alone.
      await nodes.stop(1)
      await nodes.start(1)
      await nodes.kill(0)
      rmSync(nodes.data(0), { recursive: true, force: true })
      for (const key of ['key', 'key-2']) expect(await read(nodes.kv(1), key)).toBe(digest(body))
      await nodes.kill(1)
      const restored = await runTidegate(['restore', '--data', nodes.file('restored'), ...flags, '--verify'])
      expect(restored).toMatchObject({ code: 0 })
      expect(restored.output).toContain('2 objects')
    } finally {
      await nodes.end()
      rmSync(directory, { recursive: true, force: true })
    }
  },
  WAIT_MS_MAX,
)
