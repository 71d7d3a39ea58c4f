/**
 * Advisory locks of the mount, for all who use it on this node: POSIX byte ranges (fcntl(2)), which belong to an owner and are split
 * and merged as it changes them, and BSD locks (flock(2)) on whole files. The two sorts do not see each other, as on Linux. They live
 * in memory, as long as the mount. Where other nodes have the same files it is shared-locks.ts that keeps them.
 *
 * A lock that waits is granted in the order of asking as soon as nothing held is in its way, or ends when its caller is interrupted.
 */
import { assert } from '../../common/assert.ts'
import { isInTheWay, withRange, type FileLock, type HeldLock, type LockSort } from '../../common/file-locks.ts'
import { FuseError } from './protocol/errno.ts'

/** Ranges held, all files together. Beyond: ENOLCK. */
const LOCKS_MAX = 65_536

export interface LockTarget {
  readonly nodeId: number
  readonly sort: LockSort
  readonly owner: bigint
}

interface Waiter {
  readonly unique: number
  readonly target: LockTarget
  readonly lock: FileLock
  readonly settle: (outcome: 'granted' | 'interrupted') => void
}

interface LockedFile {
  held: HeldLock<bigint>[]
  readonly waiters: Waiter[]
}

/** What the operations of a mount ask. Promises where other nodes are asked. */
export interface MountLocks {
  /** Others see what is locked here, and what is written under a lock must be found by who has it next. */
  readonly areShared: boolean
  conflict(target: LockTarget, lock: FileLock): FileLock | undefined | Promise<FileLock | undefined>
  set(target: LockTarget, lock: FileLock): boolean | Promise<boolean>
  wait(unique: number, target: LockTarget, lock: FileLock): Promise<'granted' | 'interrupted'>
  interrupt(unique: number): void
  releaseOwner(target: LockTarget): void | Promise<void>
  /** The mount has ended. */
  stop(): Promise<void>
}

export class LockTable implements MountLocks {
  readonly areShared = false
  readonly #files = new Map<string, LockedFile>()
  readonly #waiters = new Map<number, Waiter>()
  #heldCount = 0

  /** The first lock of another owner that is in the way. */
  conflict(target: LockTarget, lock: FileLock): FileLock | undefined {
    return this.#files.get(keyOf(target))?.held.find((held) => isInTheWay(held, target.owner, lock))
  }

  /** Takes, changes or gives up a range. False when another owner's lock is in the way. @throws FuseError ENOLCK */
  set(target: LockTarget, lock: FileLock): boolean {
    if (lock.type === 'unlock') {
      this.#replace(target, lock)
      return true
    }
    if (this.conflict(target, lock) !== undefined) return false
    // A range in the middle of another leaves three.
    if (this.#heldCount + 2 > LOCKS_MAX) throw new FuseError('ENOLCK')
    this.#replace(target, lock)
    return true
  }

  /** `set`, waiting as long as it takes, or until `interrupt` is called with the same number. @throws FuseError EDEADLK */
  wait(unique: number, target: LockTarget, lock: FileLock): Promise<'granted' | 'interrupted'> {
    if (this.set(target, lock)) return Promise.resolve('granted')
    if (target.sort === 'posix' && this.#wouldDeadlock(target, lock)) throw new FuseError('EDEADLK')
    return new Promise((resolve) => {
      const waiter: Waiter = { unique, target, lock, settle: resolve }
      this.#file(target).waiters.push(waiter)
      this.#waiters.set(unique, waiter)
    })
  }

  /** Nothing happens when no lock waits by this number. */
  interrupt(unique: number): void {
    const waiter = this.#waiters.get(unique)
    if (waiter === undefined) return
    this.#forget(waiter)
    this.#dropIfUnused(keyOf(waiter.target))
    waiter.settle('interrupted')
  }

  /** Gives up all that an owner holds on a file. */
  releaseOwner(target: LockTarget): void {
    if (!this.#files.has(keyOf(target))) return
    this.#replace(target, { type: 'unlock', start: 0, end: Number.MAX_SAFE_INTEGER, pid: 0 })
  }

  /** It goes with the mount. */
  stop(): Promise<void> {
    return Promise.resolve()
  }

  /** Whether whoever is in the way waits, over any number of steps, for this owner. */
  #wouldDeadlock(target: LockTarget, lock: FileLock): boolean {
    const seen = new Set<bigint>()
    const owners = this.#blockers(target, lock)
    for (let owner = owners.pop(); owner !== undefined; owner = owners.pop()) {
      if (owner === target.owner) return true
      if (seen.has(owner)) continue
      seen.add(owner)
      for (const waiter of this.#waiters.values()) {
        if (waiter.target.owner !== owner || waiter.target.sort !== 'posix') continue
        owners.push(...this.#blockers(waiter.target, waiter.lock))
      }
    }
    return false
  }

  #blockers(target: LockTarget, lock: FileLock): bigint[] {
    const held = this.#files.get(keyOf(target))?.held ?? []
    return held.filter((each) => isInTheWay(each, target.owner, lock)).map(({ owner }) => owner)
  }

  /** The owner's range becomes this; then whoever can go on does. */
  #replace(target: LockTarget, lock: FileLock): void {
    const key = keyOf(target)
    const file = this.#file(target)
    const before = file.held.length
    file.held = withRange(file.held, target.owner, lock)
    this.#heldCount += file.held.length - before
    this.#wake(file)
    this.#dropIfUnused(key)
  }

  #wake(file: LockedFile): void {
    const waiters = file.waiters.slice()
    for (const waiter of waiters) {
      if (this.conflict(waiter.target, waiter.lock) !== undefined) continue
      this.#forget(waiter)
      const before = file.held.length
      file.held = withRange(file.held, waiter.target.owner, waiter.lock)
      this.#heldCount += file.held.length - before
      waiter.settle('granted')
    }
  }

  #forget(waiter: Waiter): void {
    this.#waiters.delete(waiter.unique)
    const file = this.#file(waiter.target)
    const at = file.waiters.indexOf(waiter)
    assert(at !== -1, 'a waiter waits at its file')
    file.waiters.splice(at, 1)
  }

  #file(target: LockTarget): LockedFile {
    const key = keyOf(target)
    let file = this.#files.get(key)
    if (file === undefined) this.#files.set(key, (file = { held: [], waiters: [] }))
    return file
  }

  #dropIfUnused(key: string): void {
    const file = this.#files.get(key)
    if (file?.held.length === 0 && file.waiters.length === 0) this.#files.delete(key)
  }
}

function keyOf({ sort, nodeId }: LockTarget): string {
  return `${sort} ${nodeId}`
}
