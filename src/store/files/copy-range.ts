/**
 * copy_file_range(2). What is worth it goes by reference: both files are published as far as they were written before the call, then
 * metadata makes the range a part of the target. Short ranges, and what lies inline, are copied as bytes.
 *
 * The line of the target is held while metadata works, so that nothing of it is published meanwhile; that of the source is not, so
 * two copies in opposite directions cannot wait for each other. Who writes to either file while it is copied may find what he wrote in
 * the copy or not, under it or over it, as in any file system.
 */
import { TidegateError } from '../../common/errors.ts'
import type { HandleId } from '../../common/file-model.ts'
import type { Files } from '../doors.ts'
import { isAboveJournal } from '../acknowledgement.ts'
import type { FilesParts } from './file-parts.ts'
import type { Handle, OpenFile } from './open-file.ts'
import type { FilePublisher } from './publish-file.ts'
import { fileTime, type FileWriter } from './write-file.ts'

/** What is shorter costs less as bytes than as a piece more. */
const CLONED_BYTES_MIN = 64 * 1024
/** Bytes that one call copies; a caller who wants more comes again, and then more may go by reference. */
const COPIED_BYTES_MAX = 1024 * 1024

export interface CopyParts {
  readonly parts: Pick<FilesParts, 'metadata' | 'memory' | 'persisting' | 'clock' | 'fileLimits'>
  readonly publisher: FilePublisher
  readonly writer: FileWriter
  readonly door: Pick<Files, 'read' | 'write' | 'allocate'>
}

export interface CopyEnd {
  readonly handle: Handle
  readonly file: OpenFile
  readonly offset: number
}

/** Resolves with the bytes copied: fewer than asked for, and 0 at the end of the source. @throws InvalidArgument */
export async function copyRange(copying: CopyParts, from: CopyEnd, to: CopyEnd, wanted: number): Promise<number> {
  const length = Math.min(wanted, from.file.size - from.offset)
  if (length <= 0) return 0
  if (from.file === to.file && Math.abs(from.offset - to.offset) < length) {
    throw new TidegateError('InvalidArgument', `${length} bytes at ${from.offset} and ${to.offset} overlap`)
  }
  copying.writer.checkSize(to.offset + length)
  from.file.guests++
  to.file.guests++
  try {
    const cloned = length < CLONED_BYTES_MIN ? undefined : await clone(copying, from, to, length)
    return cloned ?? (await copyBytes(copying, from, to, length))
  } finally {
    from.file.guests--
    to.file.guests--
  }
}

/** Undefined when it cannot be done by reference. */
async function clone(
  { parts, publisher }: CopyParts,
  from: CopyEnd,
  to: CopyEnd,
  length: number,
): Promise<number | undefined> {
  const { metadata, persisting, clock } = parts
  // Stores no byte, and yet is a write: refused when the disk is full (C19).
  await persisting.reserve(0)
  await publisher.publish(from.file, 'visible')
  if (to.file !== from.file) await publisher.publish(to.file, 'visible')
  const target = to.file
  return await target.exclusive(async () => {
    const level = await publisher.level(target)
    const commit = await metadata.cloneRange({
      source: { inode: from.file.inode, offset: from.offset },
      target: { inode: target.inode, offset: to.offset },
      length,
      modified: fileTime(clock.nowMs()),
      ack: level,
    })
    const cloned = commit.value
    if (!cloned || cloned.length === 0) return cloned?.length
    if (isAboveJournal(level)) for (const segment of cloned.segments) target.unpersisted.add(segment)
    to.handle.wrote = true
    const settled = publisher.settler(target)
    target.cloned(to.offset + cloned.length, commit.durable, (undone) => {
      if (undone !== undefined) target.lose(undone)
      settled(undone)
    })
    return cloned.length
  })
}

async function copyBytes({ parts, door }: CopyParts, from: CopyEnd, to: CopyEnd, length: number): Promise<number> {
  const { memory, fileLimits } = parts
  const wanted = Math.min(length, COPIED_BYTES_MAX, fileLimits.writeBytesMax)
  const pieces = await door.read(from.handle.id, from.offset, wanted)
  const target: HandleId = to.handle.id
  let done = 0
  try {
    for (const piece of pieces) {
      const offset = to.offset + done
      if (piece.kind === 'hole') {
        await door.allocate(target, { offset, length: piece.length }, { kind: 'zero', keepSize: false })
        done += piece.length
      } else {
        const bytes = piece.kind === 'bytes' ? piece.bytes : memory.view(piece.slabOffset, piece.length)
        await door.write(target, offset, bytes, false)
        done += bytes.length
      }
    }
  } finally {
    for (const piece of pieces) if (piece.kind === 'slab') memory.giveBack(piece.lease)
  }
  return done
}
