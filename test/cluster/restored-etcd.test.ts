// needs: etcd
/** An etcd whose data were put back to an earlier state under nodes that run, and behind one that does not (docs/decisions/0016). */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { must } from '../../src/common/assert.ts'
import { systemClock } from '../../src/common/clock.ts'
import { LmdbBackend } from '../../src/meta/lmdb/lmdb-backend.ts'
import { createEtcdClient } from '../../src/meta/raft/client.ts'
import { createEtcdStore } from '../../src/meta/raft/etcd-store.ts'
import type { EmbeddedStore } from '../../src/meta/stage/ports.ts'
import { bytes, key, rowTexts } from '../conformance/ordered-store-rows.ts'
import { EtcdCluster } from '../support/etcd-member.ts'

const directory = mkdtempSync(join(tmpdir(), 'tidegate-restored-'))
const DATA = join(directory, 'etcd', 'm0', 'data')
const BACKUP = join(directory, 'backup')
const ROWS = { start: key(''), end: key('\xff') }

let cluster: EtcdCluster
const running: Node[] = []

interface Node {
  readonly store: EmbeddedStore
  stop(): Promise<void>
}

async function startNode(number: number): Promise<Node> {
  const etcd = createEtcdClient({ endpoints: cluster.endpoints, clock: systemClock, callTimeoutMs: 1_000 })
  await etcd.start()
  const replica = new LmdbBackend({ directory: join(directory, `n${number}`) })
  const store = createEtcdStore({ etcd, node: number, replica })
  await store.start()
  const node: Node = {
    store,
    stop: async () => {
      running.splice(running.indexOf(node), 1)
      await store.stop()
      await etcd.stop()
    },
  }
  running.push(node)
  return node
}

const put = (node: Node, name: string, value: string): Promise<unknown> =>
  node.store.transact(async (tx) => tx.put(key(name), bytes(value)))
const rows = (node: Node): Promise<unknown> => node.store.read(async (view) => rowTexts(await view.scan(ROWS, 100)))

/** Copies its data to a place, or back, while it does not run. */
async function withoutEtcd(action: () => void): Promise<void> {
  const member = must(cluster.members[0], 'the member')
  await member.stop()
  action()
  member.start(cluster.initial)
  await member.waitHealthy()
}

function putBack(): void {
  rmSync(DATA, { recursive: true })
  cpSync(BACKUP, DATA, { recursive: true })
}

beforeAll(async () => {
  cluster = await EtcdCluster.start({ directory: join(directory, 'etcd'), members: 1 })
}, 60_000)

afterAll(async () => {
  for (const node of running.toReversed()) await node.stop()
  await cluster.remove()
  rmSync(directory, { recursive: true, force: true })
}, 60_000)

it('is noticed by nodes that run, and by one that starts when it has been overtaken', async () => {
  const [one, two] = [await startNode(1), await startNode(2)]
  await put(one, 'a', '1')
  await withoutEtcd(() => cpSync(DATA, BACKUP, { recursive: true }))
  await put(one, 'a', '2')
  await put(two, 'lost', '1')
  const seen = await rows(one)
  expect(await rows(two)).toEqual(seen)
  await two.stop()
  await withoutEtcd(putBack)
  const before = await rows(one)
  expect(before).not.toEqual(seen)
  expect(JSON.stringify(before)).not.toContain('lost')
  for (let i = 0; i < 20; i++) await put(one, `new${i % 4}`, String(i))
  const again = await startNode(2)
  const after = await rows(one)
  expect(JSON.stringify(after)).toContain('new3')
  expect(await rows(again)).toEqual(after)
  await put(again, 'last', '1')
  expect(JSON.stringify(await rows(one))).toContain('last')
}, 120_000)
