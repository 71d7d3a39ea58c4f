/**
 * Advisory locks of a mount where other nodes have the same files: they lie in metadata (`SharedFileLocks`), so each change of one is a commit. What is told to the kernel is what
 * metadata said.
 *
 * - A lock is granted once the kernel here has been told of what others have changed until then: so what was written under the lock before, and
 *   published before it was given up (operations/locks.ts), is read.
 * - A lock that waits looks again whenever locks on the file have changed, and now and then in case that was not told. Who asked first is
 *   not first served. It ends when its caller is interrupted.
 * - Owners that wait for each other in a circle within this mount are found (EDEADLK); over several nodes they are not, and wait until interrupted.
 * - What could not be given up, because metadata are away, is given up later; its owner is gone by then. With the mount, and with the node, go all that are left.
 */
import type { Clock } from '../../common/clock.ts'
import type { FileLock, LockSort, SharedFileLocks, SharedLock, SharedLockTarget } from '../../common/file-locks.ts'
import type { Logger } from '../../common/logging.ts'
import { LockTable, type LockTarget, type MountLocks } from './lock-table.ts'
import { inodeOf } from './nodes.ts'
import { FuseError } from './protocol/errno.ts'
import { isVirtualNodeId } from './virtual/nodes.ts'

const LOOK_AGAIN_MS = 5_000
const RELEASE_AGAIN_MS = 1_000
const TOLD_MS_MAX = 5_000
/** Beyond: ENOLCK. */
const WAITERS_MAX = 4096

const EVERYTHING: FileLock = { type: 'unlock', start: 0, end: Number.MAX_SAFE_INTEGER, pid: 0 }

export interface SharedLocksOptions {
  readonly locks: SharedFileLocks
  /** 16 hex digits, of this mount alone. */
  readonly session: string
  readonly clock: Clock
  readonly log: Logger
  /** Resolves when the kernel has been told of every change seen so far. */
  readonly told: () => Promise<void>
}

interface Waiter {
  readonly target: LockTarget
  readonly lock: FileLock
  readonly interrupted: AbortController
  /** It was found not to close a circle. */
  isWaiting: boolean
}

export class SharedLocks implements MountLocks {
  readonly areShared = true
  readonly #options: SharedLocksOptions
  /** Of files that only this mount shows. */
  readonly #own = new LockTable()
  readonly #waiters = new Map<number, Waiter>()
  /** Owners that may hold a lock, by file: who closes without one costs nothing. */
  readonly #holders = new Set<string>()
  /** What is still to be given up. */
  readonly #left = new Map<string, LockTarget>()
  #checking: Promise<unknown> = Promise.resolve()
  readonly #stopping = new AbortController()

  constructor(options: SharedLocksOptions) {
    this.#options = options
  }

  conflict(target: LockTarget, lock: FileLock): FileLock | undefined | Promise<FileLock | undefined> {
    if (isVirtualNodeId(target.nodeId)) return this.#own.conflict(target, lock)
    const { locks } = this.#options
    return locks.inTheWay(this.#shared(target), lock).then(([first]) => {
      // A process id of another node says nothing here.
      return first && { ...first, pid: first.node === locks.node ? first.pid : 0 }
    })
  }

  set(target: LockTarget, lock: FileLock): boolean | Promise<boolean> {
    if (isVirtualNodeId(target.nodeId)) return this.#own.set(target, lock)
    return this.#set(target, lock)
  }

  async #set(target: LockTarget, lock: FileLock): Promise<boolean> {
    const key = keyOf(target)
    if (this.#left.has(key)) await this.#release(key, target)
    if (lock.type !== 'unlock') this.#holders.add(key)
    else if (!this.#holders.has(key)) return true
    const outcome = await this.#options.locks.set(this.#shared(target), lock)
    if (outcome === 'too many') throw new FuseError('ENOLCK')
    if (outcome === 'granted' && lock.type !== 'unlock') await this.#allTold()
    return outcome === 'granted'
  }

  async wait(unique: number, target: LockTarget, lock: FileLock): Promise<'granted' | 'interrupted'> {
    if (isVirtualNodeId(target.nodeId)) return await this.#own.wait(unique, target, lock)
    if (this.#waiters.size >= WAITERS_MAX) throw new FuseError('ENOLCK')
    const interrupted = new AbortController()
    const waiter: Waiter = { target, lock, interrupted, isWaiting: false }
    this.#waiters.set(unique, waiter)
    let change = Promise.withResolvers<void>()
    const end = this.#options.locks.onChange({ inode: inodeOf(target.nodeId), sort: target.sort }, () =>
      change.resolve(),
    )
    const signal = AbortSignal.any([interrupted.signal, this.#stopping.signal])
    try {
      for (let isFirst = true; !signal.aborted; isFirst = false) {
        change = Promise.withResolvers<void>()
        if (await this.#set(target, lock)) return 'granted'
        if (isFirst && target.sort === 'posix' && !(await this.#mayWait(waiter))) throw new FuseError('EDEADLK')
        await this.#pause(change.promise, signal)
      }
      return 'interrupted'
    } finally {
      end()
      this.#waiters.delete(unique)
    }
  }

  interrupt(unique: number): void {
    this.#own.interrupt(unique)
    this.#waiters.get(unique)?.interrupted.abort()
  }

  releaseOwner(target: LockTarget): void | Promise<void> {
    if (isVirtualNodeId(target.nodeId)) return this.#own.releaseOwner(target)
    const key = keyOf(target)
    if (!this.#holders.has(key)) return
    return this.#release(key, target).catch((error: unknown) => {
      this.#options.log.warn({ error, nodeId: target.nodeId }, 'a lock could not be given up; that is tried again')
      if (this.#left.size === 0) void this.#releaseLeft()
      this.#left.set(key, target)
    })
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    const { locks, session, log } = this.#options
    if (this.#holders.size === 0) return
    await locks.dropSession(session).catch((error: unknown) => {
      log.warn({ error }, 'the locks of a mount that has ended stay until this gateway starts again')
    })
  }

  async #release(key: string, target: LockTarget): Promise<void> {
    await this.#options.locks.set(this.#shared(target), EVERYTHING)
    this.#holders.delete(key)
    this.#left.delete(key)
  }

  /** One such loop at a time, as long as something is left. */
  async #releaseLeft(): Promise<void> {
    const { signal } = this.#stopping
    do {
      await this.#options.clock.sleep(RELEASE_AGAIN_MS, signal).catch(() => undefined)
      for (const [key, target] of this.#left) {
        if (signal.aborted || !(await this.#release(key, target).then(isDone, isNotDone))) break
      }
    } while (this.#left.size > 0 && !signal.aborted)
  }

  async #pause(changed: Promise<void>, signal: AbortSignal): Promise<void> {
    const over = new AbortController()
    const either = AbortSignal.any([signal, over.signal])
    const asleep = this.#options.clock.sleep(LOOK_AGAIN_MS, either).catch(() => undefined)
    await Promise.race([changed, asleep])
    over.abort()
  }

  async #allTold(): Promise<void> {
    const over = new AbortController()
    const asleep = this.#options.clock.sleep(TOLD_MS_MAX, over.signal).catch(() => undefined)
    await Promise.race([this.#options.told(), asleep])
    over.abort()
  }

  /** One after another, so that of two who close a circle together the second is told. */
  #mayWait(waiter: Waiter): Promise<boolean> {
    const check = this.#checking.then(async () => {
      waiter.isWaiting = !(await this.#wouldDeadlock(waiter))
      return waiter.isWaiting
    })
    this.#checking = check.catch(() => undefined)
    return check
  }

  /** Whether whoever is in the way waits in this mount, over any number of steps, for this owner. */
  async #wouldDeadlock({ target, lock }: Waiter): Promise<boolean> {
    const seen = new Set<bigint>()
    const owners = await this.#blockers(target, lock)
    for (let owner = owners.pop(); owner !== undefined; owner = owners.pop()) {
      if (owner === unsigned(target.owner)) return true
      if (seen.has(owner)) continue
      seen.add(owner)
      for (const waiter of this.#waiters.values()) {
        if (!waiter.isWaiting || unsigned(waiter.target.owner) !== owner) continue
        owners.push(...(await this.#blockers(waiter.target, waiter.lock)))
      }
    }
    return false
  }

  /** Of this mount. */
  async #blockers(target: LockTarget, lock: FileLock): Promise<bigint[]> {
    const { locks, session } = this.#options
    const isHere = (held: SharedLock): boolean => held.node === locks.node && held.session === session
    const held = await locks.inTheWay(this.#shared(target), lock)
    return held.filter(isHere).map(({ owner }) => unsigned(owner))
  }

  #shared({ nodeId, sort, owner }: LockTarget): SharedLockTarget {
    return { inode: inodeOf(nodeId), sort, owner, session: this.#options.session }
  }
}

const isDone = (): boolean => true
const isNotDone = (): boolean => false

function keyOf({ sort, nodeId, owner }: { sort: LockSort; nodeId: number; owner: bigint }): string {
  return `${sort} ${nodeId} ${owner}`
}

function unsigned(owner: bigint): bigint {
  return BigInt.asUintN(64, owner)
}
