/** Locks of two mounts on two nodes, over one etcd in memory. */
import { randomBytes } from 'node:crypto'
import { afterEach, expect, it, vi } from 'vitest'
import { systemClock, type Clock } from '../../../../src/common/clock.ts'
import type { FileLock, LockType, SharedFileLocks } from '../../../../src/common/file-locks.ts'
import type { ByteString } from '../../../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../../../src/common/limits.ts'
import { silentLogger } from '../../../../src/common/logging.ts'
import { Coherence } from '../../../../src/gateway/fuse/coherence.ts'
import type { LockTarget } from '../../../../src/gateway/fuse/lock-table.ts'
import { SharedLocks } from '../../../../src/gateway/fuse/shared-locks.ts'
import { MemoryBackend } from '../../../../src/meta/memory/memory-backend.ts'
import { createNamespace, type Namespace } from '../../../../src/meta/namespace/namespace.ts'
import { createEtcdStore } from '../../../../src/meta/raft/etcd-store.ts'
import type { EmbeddedStore } from '../../../../src/meta/stage/ports.ts'
import { FakeEtcd, type FakeEtcdClient } from '../../../support/fake-etcd.ts'
import { OWNER, publishRequest } from '../../meta/namespace/fixture.ts'

interface Node {
  readonly namespace: Namespace
  readonly client: FakeEtcdClient
  readonly locks: SharedLocks
}

const stores: EmbeddedStore[] = []
afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.stop()))
})

async function startNode(etcd: FakeEtcd, node: number): Promise<Node> {
  const client = etcd.client()
  await client.start()
  const store = createEtcdStore({ etcd: client, node, replica: new MemoryBackend(), clock: systemClock })
  stores.push(store)
  await store.start()
  const namespace = createNamespace({ store, clock: systemClock, limits: DEFAULT_LIMITS, nodeNumber: node })
  await namespace.join()
  return { namespace, client, locks: mountOf(namespace) }
}

function mountOf(namespace: Namespace, told: () => Promise<void> = () => Promise.resolve()): SharedLocks {
  const locks = namespace.files.locks as SharedFileLocks
  // What wakes a waiter is that it is told: looking again now and then would hide that it is not.
  const clock: Clock = { ...systemClock, sleep: (ms, signal) => systemClock.sleep(ms * 1000, signal) }
  return new SharedLocks({ locks, session: randomBytes(8).toString('hex'), clock, log: silentLogger, told })
}

async function twoNodes(): Promise<[Node, Node]> {
  const etcd = new FakeEtcd({ clock: systemClock })
  return [await startNode(etcd, 1), await startNode(etcd, 2)]
}

const posix = (owner: number): LockTarget => ({ nodeId: 7, sort: 'posix', owner: BigInt(owner) })
const range = (type: LockType, start: number, end: number): FileLock => ({ type, start, end, pid: 42 })
const WHOLE = range('write', 0, Number.MAX_SAFE_INTEGER)

it('a lock taken on one node is in the way on the other: ranges, sorts, and the same owner number elsewhere', async () => {
  const [one, two] = await twoNodes()
  expect(await one.locks.set(posix(1), range('write', 10, 19))).toBe(true)
  expect(await two.locks.set(posix(1), range('read', 19, 30))).toBe(false)
  expect(await two.locks.conflict(posix(1), range('read', 0, 100))).toMatchObject({ type: 'write', start: 10, pid: 0 })
  expect(await one.locks.conflict(posix(2), range('read', 0, 100))).toMatchObject({ type: 'write', end: 19, pid: 42 })
  expect(await two.locks.set(posix(1), range('write', 20, 30))).toBe(true)
  expect(await two.locks.set({ ...posix(1), sort: 'flock' }, WHOLE)).toBe(true)
  expect(await one.locks.set({ ...posix(1), sort: 'flock' }, range('read', 0, 1))).toBe(false)
  expect(await one.locks.set(posix(1), range('unlock', 12, 14))).toBe(true)
  expect(await two.locks.set(posix(1), range('write', 12, 14))).toBe(true)
  expect(await two.locks.set(posix(1), range('write', 11, 14))).toBe(false)
})

it('of many who try at once one has it', async () => {
  const nodes = await twoNodes()
  for (let round = 0; round < 10; round++) {
    const tries = await Promise.all(
      [0, 1, 0, 1].map(async (at, owner) => await nodes[at]?.locks.set(posix(owner), WHOLE)),
    )
    expect(tries.filter(Boolean)).toHaveLength(1)
    await Promise.all([0, 1, 0, 1].map(async (at, owner) => await nodes[at]?.locks.releaseOwner(posix(owner))))
  }
})

it('who waits has it when the other node gives it up, and not before', async () => {
  const [one, two] = await twoNodes()
  await one.locks.set(posix(1), WHOLE)
  let outcome: string | undefined
  const waiting = two.locks.wait(9, posix(1), WHOLE).then((granted) => (outcome = granted))
  await systemClock.sleep(30)
  expect(outcome).toBeUndefined()
  await one.locks.releaseOwner(posix(1))
  expect(await waiting).toBe('granted')
  expect(await one.locks.set(posix(1), WHOLE)).toBe(false)
})

it('a counter that two nodes add to under the lock loses nothing', async () => {
  const nodes = await twoNodes()
  let [count, inside] = [0, 0]
  const add = async (at: number, owner: number): Promise<void> => {
    for (let round = 0; round < 5; round++) {
      const { locks } = nodes[at] as Node
      expect(await locks.wait(owner * 100 + round, posix(owner), WHOLE)).toBe('granted')
      expect(++inside).toBe(1)
      await systemClock.sleep(1)
      count++
      inside--
      await locks.releaseOwner(posix(owner))
    }
  }
  await Promise.all([add(0, 1), add(1, 2), add(0, 3), add(1, 4)])
  expect(count).toBe(20)
})

it('who waits is interrupted, and holds nothing then', async () => {
  const [one, two] = await twoNodes()
  await one.locks.set(posix(1), WHOLE)
  const waiting = two.locks.wait(9, posix(1), WHOLE)
  two.locks.interrupt(9)
  expect(await waiting).toBe('interrupted')
  await one.locks.releaseOwner(posix(1))
  expect(await one.locks.set(posix(2), WHOLE)).toBe(true)
})

it('owners of one mount that wait for each other are told so', async () => {
  const [one] = await twoNodes()
  await one.locks.set(posix(1), range('write', 0, 9))
  await one.locks.set(posix(2), range('write', 10, 19))
  const waiting = one.locks.wait(5, posix(1), range('write', 10, 19))
  await expect(one.locks.wait(6, posix(2), range('write', 0, 9))).rejects.toMatchObject({ message: 'EDEADLK' })
  await one.locks.releaseOwner(posix(2))
  expect(await waiting).toBe('granted')
})

it('the locks of a mount go with it, those of a node when it starts again, and a close without a lock writes nothing', async () => {
  const [one, two] = await twoNodes()
  await one.locks.set(posix(1), WHOLE)
  const other = mountOf(one.namespace)
  expect(await other.set(posix(1), range('read', 0, 0))).toBe(false)
  await one.locks.stop()
  expect(await other.set(posix(1), WHOLE)).toBe(true)
  expect(await two.locks.set(posix(1), WHOLE)).toBe(false)
  await one.namespace.join()
  expect(await two.locks.set(posix(1), WHOLE)).toBe(true)
  const before = one.namespace.revision()
  await other.releaseOwner(posix(77))
  await other.releaseOwner(posix(1))
  expect(one.namespace.revision()).toBe(before)
})

it('what could not be given up is given up later', async () => {
  const [one, two] = await twoNodes()
  const locks = one.namespace.files.locks as SharedFileLocks
  let isAway = false
  const cut: SharedFileLocks = {
    ...locks,
    set: (target, lock) => (isAway ? Promise.reject(new Error('away')) : locks.set(target, lock)),
  }
  const clock: Clock = { ...systemClock, sleep: (_, signal) => systemClock.sleep(5, signal) }
  const told = (): Promise<void> => Promise.resolve()
  const mount = new SharedLocks({ locks: cut, session: '11'.repeat(8), clock, log: silentLogger, told })
  await mount.set(posix(1), WHOLE)
  isAway = true
  await mount.releaseOwner(posix(1))
  expect(await two.locks.set(posix(1), WHOLE)).toBe(false)
  isAway = false
  await vi.waitFor(async () => expect(await two.locks.set(posix(1), WHOLE)).toBe(true), 5_000)
  await mount.stop()
})

it('the kernel of a mount is told what another node changes, before a lock is granted that followed it', async () => {
  const [one, two] = await twoNodes()
  await one.namespace.createBucket({ name: 'shared', owner: OWNER, region: 'us-east-1', ack: 'journal' })
  await one.namespace.publish(publishRequest('shared', 'k', { bytes: 'old' }))
  const { inode: root } = await two.namespace.files.findFile(0, 'shared' as ByteString)
  const { inode } = await two.namespace.files.findFile(root, 'k' as ByteString)

  const told: number[] = []
  const notify = async (message: Uint8Array): Promise<void> => {
    await systemClock.sleep(20)
    told.push(Buffer.from(message).readInt32LE(4))
  }
  const coherence = new Coherence({
    channel: { notify },
    clock: systemClock,
    log: silentLogger,
    isWritten: () => true,
    isAlone: () => false,
  })
  coherence.known(root)
  coherence.known(inode)
  const end = two.namespace.files.onFileChanges((changes) => coherence.changed(changes))
  const mount = mountOf(two.namespace, () => coherence.told())
  await one.locks.set(posix(1), WHOLE)
  const waiting = mount.wait(1, posix(1), WHOLE)
  const changed = await one.namespace.files.changeFile(inode, { mode: 0o600 })
  await one.namespace.publish(publishRequest('shared', 'k2', { bytes: 'new' }))
  expect(changed.value.mode & 0o777).toBe(0o600)
  await one.locks.releaseOwner(posix(1))
  expect(await waiting).toBe('granted')
  // FUSE_NOTIFY_INVAL_INODE with its pages, and FUSE_NOTIFY_INVAL_ENTRY (linux/fuse.h).
  expect(told).toContain(2)
  expect(told).toContain(3)
  end()
})
