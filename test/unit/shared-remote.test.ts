/** Which remote store belongs to metadata that several nodes share (src/shared-remote.ts). */
import { beforeEach, expect, it } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import { EtcdLayout } from '../../src/meta/raft/layout.ts'
import { MemoryStore } from '../../src/persist/remote/memory-store.ts'
import { checkRemote, claimRemote, remoteHistory, takeOverRemote } from '../../src/persist/remote-marker.ts'
import { claimShared, locationOf, type ClaimRoom } from '../../src/shared-remote.ts'
import { FakeEtcd } from '../support/fake-etcd.ts'

const MINE = { location: 's3://bucket/a at http://x', description: 's3://bucket/a', from: undefined }
const HELD = { namespace: 'a'.repeat(32), holder: 'b'.repeat(32) }

let room: ClaimRoom
let store: MemoryStore

beforeEach(async () => {
  const etcd = new FakeEtcd({ clock: systemClock }).client()
  await etcd.start()
  room = { etcd, layout: new EtcdLayout('/tidegate/') }
  store = new MemoryStore({ clock: systemClock, fileSystem: undefined as never })
})

it('nodes that start at once have one claim, and the store is that of the metadata', async () => {
  const claims = await Promise.all([1, 2, 3].map(() => claimShared(room, store, MINE)))
  expect(new Set(claims.map(({ holder }) => holder)).size).toBe(1)
  for (const claim of claims) await checkRemote(store, claim)
  expect(await claimShared(room, store, MINE)).toEqual(claims[0])
})

it('a node that names another store is refused, and told which', async () => {
  await claimShared(room, store, MINE)
  const other = claimShared(room, store, { ...MINE, location: 's3://bucket/b at http://x' })
  await expect(other).rejects.toThrow(/have s3:\/\/bucket\/a .* names s3:\/\/bucket\/b/)
})

it('a store that is somebody else’s is refused, and another may be named then', async () => {
  await store.connect()
  await claimRemote(store, HELD, { nowMs: 1, unmarkedIsOurs: false })
  await expect(claimShared(room, store, MINE)).rejects.toThrow('holds another namespace')
  const empty = new MemoryStore({ clock: systemClock, fileSystem: undefined as never })
  const claim = await claimShared(room, empty, { ...MINE, location: 's3://bucket/b at http://x' })
  await checkRemote(empty, claim)
})

it('metadata that came from a data directory take over the store that it held', async () => {
  await store.connect()
  await claimRemote(store, HELD, { nowMs: 1, unmarkedIsOurs: false })
  const claim = await claimShared(room, store, { ...MINE, from: HELD })
  expect(claim.namespace).toBe(HELD.namespace)
  await checkRemote(store, claim)
  await expect(checkRemote(store, HELD)).rejects.toThrow('taken over')
  const { origins } = await remoteHistory(store)
  expect(origins).toMatchObject([{ holder: claim.holder, from: HELD.holder }])
  expect(await claimShared(room, store, MINE)).toEqual(claim)
})

it('a claim that was begun is finished by whoever comes next', async () => {
  const connect = store.connect.bind(store)
  store.connect = () => Promise.reject(new Error('it is away'))
  await expect(claimShared(room, store, MINE)).rejects.toThrow('it is away')
  store.connect = connect
  const claim = await claimShared(room, store, MINE)
  await checkRemote(store, claim)
})

it('a restore elsewhere shuts all nodes out', async () => {
  const claim = await claimShared(room, store, MINE)
  await takeOverRemote(store, 'd'.repeat(32), { namespace: claim.namespace, nowMs: 2 })
  await expect(checkRemote(store, await claimShared(room, store, MINE))).rejects.toThrow('taken over')
})

it('a location is told apart by what it names, not by how it is reached', () => {
  const s3 = {
    kind: 's3',
    bucket: 'b',
    prefix: 'p',
    endpoint: 'https://s3.example.com/',
    region: 'r',
    style: 'path',
  } as const
  expect(locationOf(s3)).toBe(locationOf({ ...s3, style: 'host', region: 'other' }))
  expect(locationOf(s3)).not.toBe(locationOf({ ...s3, prefix: 'q' }))
  expect(locationOf({ ...s3, endpoint: undefined })).not.toBe(locationOf(s3))
  expect(locationOf({ kind: 'file', directory: '/d' })).toBe('file:///d')
})
