/** Advisory locks on ranges of a file, as fcntl(2) and flock(2) know them: who is in whose way, and what is held once an owner's range changes. */
import type { InodeId } from './ids.ts'

export type LockType = 'read' | 'write' | 'unlock'

/** POSIX byte ranges and BSD locks do not see each other. */
export type LockSort = 'posix' | 'flock'

/** A range of bytes; `end` is its last byte, the largest safe integer for "to the end of the file, however it grows". */
export interface FileLock {
  readonly type: LockType
  readonly start: number
  readonly end: number
  readonly pid: number
}

/** Owners are compared by identity. */
export interface HeldLock<Owner> extends FileLock {
  readonly owner: Owner
}

export function isInTheWay<Owner>(held: HeldLock<Owner>, owner: Owner, lock: FileLock): boolean {
  if (held.owner === owner || held.start > lock.end || held.end < lock.start) return false
  return held.type === 'write' || lock.type === 'write'
}

/** What is held once `owner`'s range is `lock`: pieces of its old locks that stick out stay, and what touches is merged. */
export function withRange<Owner>(held: readonly HeldLock<Owner>[], owner: Owner, lock: FileLock): HeldLock<Owner>[] {
  const kept: HeldLock<Owner>[] = []
  let { start, end } = lock
  for (const each of held) {
    const isSame = each.type === lock.type
    if (each.owner !== owner || each.end < start - 1 || each.start > end + 1) {
      kept.push(each)
    } else if (isSame) {
      start = Math.min(start, each.start)
      end = Math.max(end, each.end)
    } else {
      if (each.start < lock.start) kept.push({ ...each, end: Math.min(each.end, lock.start - 1) })
      if (each.end > lock.end) kept.push({ ...each, start: Math.max(each.start, lock.end + 1) })
    }
  }
  if (lock.type !== 'unlock') kept.push({ type: lock.type, start, end, pid: lock.pid, owner })
  return kept
}

/** Whose lock it is to be, on what. */
export interface SharedLockTarget {
  readonly inode: InodeId
  readonly sort: LockSort
  /** 16 hex digits, of the mount. */
  readonly session: string
  /** As the kernel tells them apart, 64 bits. */
  readonly owner: bigint
}

/** Somebody's lock, here or on another node. */
export interface SharedLock extends FileLock {
  readonly node: number
  readonly session: string
  readonly owner: bigint
}

/** Locks that the mounts of all nodes see. Linearizable: what was granted or given up before a call began is seen by it. */
export interface SharedFileLocks {
  /** Of this node. */
  readonly node: number
  /** Held by others, and in the way of this one. */
  inTheWay(target: SharedLockTarget, lock: FileLock): Promise<readonly SharedLock[]>
  /** Takes, changes or gives up a range. Nothing changes unless it is granted. */
  set(target: SharedLockTarget, lock: FileLock): Promise<'granted' | 'in the way' | 'too many'>
  /** Gives up all that a mount of this node holds; resolves with how many ranges that were. */
  dropSession(session: string): Promise<number>
  /** Called when locks on the file have changed, whoever changed them; sometimes it is not, so look again now and then. Returns what ends that. */
  onChange(file: Pick<SharedLockTarget, 'inode' | 'sort'>, listener: () => void): () => void
}
