// needs: etcd
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { ByteString } from '../../src/common/ids.ts'
import { createEtcdAdmin } from '../../src/meta/raft/admin-client.ts'
import { systemClock } from '../../src/common/clock.ts'
import type { Etcd } from '../../src/meta/raft/ports.ts'
import { ClusterNodes } from '../support/cluster-nodes.ts'

const MIB = 2 ** 20
const QUOTA_BYTES = 16 * MIB

let cluster: ClusterNodes
let etcd: Etcd

beforeAll(async () => {
  cluster = await ClusterNodes.create(2, {
    quotaBytes: QUOTA_BYTES,
    upkeep: { everyMs: 300 },
    voters: 3,
  })
  await cluster.init()
  await cluster.start(0)
  await cluster.start(1)
  await cluster.until(1, ({ role }) => role === 'voter')
  etcd = await cluster.client(0)
})

afterAll(async () => {
  await etcd.stop()
  await cluster.remove()
})

async function put(key: string, bytes: number): Promise<void> {
  const value = Buffer.alloc(bytes, key)
  await etcd.transact({ compares: [], success: [{ kind: 'put', key: key as ByteString, value }], failure: [] })
}

/** @returns how many writes passed until one was refused */
async function fill(bytes: number, key: (index: number) => string): Promise<number> {
  for (let index = 0; index < 500; index++) {
    const passed = await put(key(index), bytes).then(
      () => true,
      (error: Error) => {
        expect(error).toMatchObject({ kind: 'no space' })
        return false
      },
    )
    if (!passed) return index
  }
  throw new Error('it was never full')
}

it('recovers by itself when what fills it is history', async () => {
  expect(await fill(MIB / 2, () => 'one')).toBeGreaterThan(10)
  // Compacted and defragmented, member by member, and the alarm taken back.
  await cluster.until(0, ({ level }) => level !== 'failing')
  await put('two', MIB / 2)
  const { members } = await cluster.node(0).health()
  for (const { dbBytes } of members) expect(dbBytes).toBeLessThan(QUOTA_BYTES / 2)
}, 60_000)

it('says that it is full when what fills it is needed, and recovers once that is deleted', async () => {
  // Each time it is found that the file written anew is smaller, until it is not.
  let rows = 0
  let isFull = false
  for (let round = 0; !isFull && round < 10; round++) {
    rows += await fill(MIB / 10, (index) => `row/${rows + index}`)
    await systemClock.sleep(1_500)
    isFull = (await cluster.node(1).health()).level === 'failing'
  }
  const { words } = await cluster.node(1).health()
  expect(words.join()).toMatch(/etcd is over its quota, only reads and deletes pass: 1[4567] of 16 MiB are in use/)
  await expect(put('more', 1_000)).rejects.toMatchObject({ kind: 'no space' })
  const range = { start: 'row/' as ByteString, end: 'row0' as ByteString }
  await etcd.transact({ compares: [], success: [{ kind: 'delete', range }], failure: [] })
  await cluster.until(0, ({ level }) => level !== 'failing')
  await put('more', 1_000)
}, 60_000)

it('defragments what is wasted before it comes to that, each node its own member', async () => {
  const { clientUrl } = cluster.options(0)
  const admin = createEtcdAdmin({ endpoints: [clientUrl], clock: systemClock })
  // How many it takes depends on how many pages the rows deleted before have left free.
  let { revision, dbBytes } = await admin.status(clientUrl)
  for (let index = 0; index < 60 && dbBytes <= QUOTA_BYTES / 2; index++) {
    await put('again', MIB / 2)
    ;({ revision, dbBytes } = await admin.status(clientUrl))
  }
  expect(dbBytes).toBeGreaterThan(QUOTA_BYTES / 2)
  await admin.compact(revision)
  admin.close()
  // What was freed is counted with the next commits.
  await expect
    .poll(
      async () => {
        await put('again', 1_000)
        const { members } = await cluster.node(0).health()
        return Math.max(...members.map((member) => member.dbBytes ?? Infinity))
      },
      { timeout: 20_000 },
    )
    .toBeLessThan(QUOTA_BYTES / 2)
}, 60_000)
