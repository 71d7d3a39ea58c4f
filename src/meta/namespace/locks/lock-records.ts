/**
 * Locks on a file, in table H (primitives: codec.ts).
 *
 * H  locks   integer count; for each: integer node; 8 bytes session; 8 bytes owner; byte type (0 read, 1 write); integer start, end, pid
 */
import { must } from '../../../common/assert.ts'
import type { FileLock, LockType } from '../../../common/file-locks.ts'
import { RecordReader, recordWriter } from '../codec.ts'

/** Who holds a lock: an owner, as the kernel tells them apart, in one mount of one node. */
export interface LockHolder {
  readonly node: number
  /** 16 hex digits, of a mount. */
  readonly session: string
  readonly owner: bigint
}

export interface RecordedLock extends FileLock {
  readonly holder: LockHolder
}

const TYPES: readonly LockType[] = ['read', 'write']

export function encodeLocks(locks: readonly RecordedLock[]): Uint8Array {
  const writer = recordWriter.begin()
  writer.integer(locks.length)
  for (const { holder, type, start, end, pid } of locks) {
    writer.integer(holder.node)
    writer.hex(holder.session)
    writer.hex(BigInt.asUintN(64, holder.owner).toString(16).padStart(16, '0'))
    writer.byte(TYPES.indexOf(type))
    writer.integer(start)
    writer.integer(end)
    writer.integer(pid)
  }
  return writer.finish()
}

export function decodeLocks(record: Uint8Array | undefined): RecordedLock[] {
  if (!record) return []
  const reader = new RecordReader(record)
  const locks: RecordedLock[] = []
  for (let left = reader.integer(); left > 0; left--) {
    const holder = { node: reader.integer(), session: reader.hex(8), owner: BigInt(`0x${reader.hex(8)}`) }
    const type = must(TYPES[reader.byte()], 'type of lock')
    locks.push({ holder, type, start: reader.integer(), end: reader.integer(), pid: reader.integer() })
  }
  return locks
}
