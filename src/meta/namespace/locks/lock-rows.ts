/**
 * Advisory locks that the mounts of all nodes see: one row of table H for the POSIX locks of a file, one for its BSD locks, while there are any. A change of
 * them is one transaction that reads the row, so two nodes cannot both have what only one may.
 *
 * Who waits does so beside the rows: `onLocksChanged` tells of every commit that wrote the row, whichever node made it, and then it is tried again.
 *
 * Locks go when they are given up, with the mount (`dropSession`), and with the node: when it starts again, or when another one lets go what it had
 * (remove-node.ts). A node that was cut off and shut out no longer has them: but what it could do under them, it cannot do either (C23).
 */
import type { ByteString } from '../../../common/ids.ts'
import {
  isInTheWay,
  withRange,
  type FileLock,
  type HeldLock,
  type SharedFileLocks,
  type SharedLock,
  type SharedLockTarget,
} from '../../../common/file-locks.ts'
import type { OrderedStore, Transaction } from '../../ports.ts'
import type { NamespaceContext } from '../context.ts'
import type { CommitEvents } from '../decoded-cache.ts'
import { LOCKS, locksKey, prefixEnd } from '../keys.ts'
import { decodeLocks, encodeLocks, type RecordedLock } from './lock-records.ts'

/** Of one file and sort, so that a row stays some hundreds of kilobytes. */
const LOCKS_MAX = 4096
const STEP_ROWS = 64

type Outcome = Awaited<ReturnType<SharedFileLocks['set']>>

/** Held by others and in the way of this lock. */
async function locksInTheWay(
  context: NamespaceContext,
  target: SharedLockTarget,
  lock: FileLock,
): Promise<readonly SharedLock[]> {
  const row = await context.store.read((view) => view.get(locksKey(target.inode, target.sort)))
  const owner = ownerKey(context.nodeNumber, target)
  return heldLocks(row)
    .filter((held) => isInTheWay(held, owner, lock))
    .map(({ holder, type, start, end, pid }) => ({ ...holder, type, start, end, pid }))
}

/** Takes, changes or gives up a range. */
async function setLock(context: NamespaceContext, target: SharedLockTarget, lock: FileLock): Promise<Outcome> {
  const { nodeNumber: node } = context
  const { inode, sort, session, owner: kernelOwner } = target
  const key = locksKey(inode, sort)
  const holder = { node, session, owner: kernelOwner }
  const owner = ownerKey(node, target)
  const { value } = await context.store.transact(async (tx) => {
    const row = await tx.get(key)
    const held = heldLocks(row)
    // A close gives up what is mostly not held.
    if (lock.type === 'unlock' && !held.some((each) => each.owner === owner)) return 'granted'
    if (lock.type !== 'unlock' && held.some((each) => isInTheWay(each, owner, lock))) return 'in the way'
    const after = withRange<string>(held, owner, lock).map((each) => ({ holder, ...each }))
    if (after.length > Math.max(LOCKS_MAX, held.length)) return 'too many'
    putLocks(tx, key, after)
    return 'granted'
  })
  return value
}

/** All locks of a mount. */
async function dropSession({ store, nodeNumber }: NamespaceContext, session: string): Promise<number> {
  return await dropWhere(store, (lock) => lock.holder.node === nodeNumber && lock.holder.session === session)
}

/** All locks of a node. */
export async function dropLocks(store: OrderedStore, node: number): Promise<number> {
  return await dropWhere(store, (lock) => lock.holder.node === node)
}

/** Called after every commit that wrote the locks of this file. Returns what ends that. */
function onLocksChanged(
  events: Partial<CommitEvents>,
  { inode, sort }: Pick<SharedLockTarget, 'inode' | 'sort'>,
  listener: () => void,
): () => void {
  const key = locksKey(inode, sort)
  const end = events.onCommit?.((keys) => {
    if (keys.includes(key)) listener()
  })
  return end ?? (() => {})
}

type Held = HeldLock<string> & RecordedLock

function heldLocks(row: Uint8Array | undefined): Held[] {
  return decodeLocks(row).map((lock) => ({ ...lock, owner: ownerKey(lock.holder.node, lock.holder) }))
}

function ownerKey(node: number, { session, owner }: Pick<SharedLockTarget, 'session' | 'owner'>): string {
  return `${node} ${session} ${BigInt.asUintN(64, owner)}`
}

function putLocks(tx: Transaction, key: ByteString, locks: readonly RecordedLock[]): void {
  if (locks.length === 0) tx.delete(key)
  else tx.put(key, encodeLocks(locks))
}

/** In bounded steps. */
async function dropWhere(store: OrderedStore, isDropped: (lock: RecordedLock) => boolean): Promise<number> {
  const end = prefixEnd(LOCKS)
  let dropped = 0
  for (let start: ByteString | undefined = LOCKS as ByteString; start !== undefined;) {
    const range = { start, end }
    const page = await store.read(async (view) => {
      const rows = await view.scan(range, STEP_ROWS)
      const keys = rows.filter(({ value }) => decodeLocks(value).some(isDropped)).map(({ key }) => key)
      return { keys, last: rows.length < STEP_ROWS ? undefined : rows.at(-1)?.key }
    })
    if (page.keys.length > 0) {
      const { value, durable } = await store.transact((tx) => dropFrom(tx, page.keys, isDropped))
      await durable
      dropped += value
    }
    start = page.last && (`${page.last}\0` as ByteString)
  }
  return dropped
}

async function dropFrom(
  tx: Transaction,
  keys: readonly ByteString[],
  isDropped: (lock: RecordedLock) => boolean,
): Promise<number> {
  let dropped = 0
  const rows = await tx.getMany(keys)
  for (const [index, key] of keys.entries()) {
    const locks = decodeLocks(rows[index])
    const kept = locks.filter((lock) => !isDropped(lock))
    if (kept.length === locks.length) continue
    putLocks(tx, key, kept)
    dropped += locks.length - kept.length
  }
  return dropped
}

/** Bound to one context, where the store is shared. */
export function createLocks(context: NamespaceContext, events: Partial<CommitEvents>): SharedFileLocks {
  return {
    node: context.nodeNumber,
    inTheWay: (target, lock) => locksInTheWay(context, target, lock),
    set: (target, lock) => setLock(context, target, lock),
    dropSession: (session) => dropSession(context, session),
    onChange: (file, listener) => onLocksChanged(events, file, listener),
  }
}
