/**
 * What a file system keeps of an inode and S3 does not: the POSIX part of an inode record. It is there only if something was
 * made or changed through the mount, so what S3 and KV make costs nothing more; then `FileDefaults` are shown.
 *
 * part          byte kind; integer mode, uid, gid, links, device, bytes of its attributes, bytes of its holes; three times:
 *               accessed, modified, changed
 * time          integer seconds (2s, of negative ones -2s - 1); integer nanoseconds
 *
 * `links` counts the entries that refer to the inode, in D and in V: 0 is an unlinked file that is kept because it is open
 * (table O). Of a directory it is 1, as of one on btrfs: not counted. (2 would say that there is no directory in it, and programs
 * believe that.) Of an inode without this part it is 1.
 */
import { assert, must } from '../../../common/assert.ts'
import type { RecordReader, RecordWriter } from '../codec.ts'
import type { FileKind, FileTime } from '../../../common/file-model.ts'
import type { FileDefaults } from './types.ts'

export interface PosixPart {
  readonly kind: FileKind
  /** 0 to 0o7777. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly links: number
  readonly device: number
  /** Names and values of its extended attributes (table X). */
  readonly attributesBytes: number
  /** Of its size, what is not stored anywhere. */
  readonly holeBytes: number
  readonly accessed: FileTime
  readonly modified: FileTime
  readonly changed: FileTime
}

/** Of the record on disk: the order must not change. */
const KINDS: readonly FileKind[] = [
  'file',
  'directory',
  'symlink',
  'fifo',
  'socket',
  'character-device',
  'block-device',
]

export const MODE_BITS = 0o7777

export function writePosixPart(writer: RecordWriter, part: PosixPart): void {
  assert(part.mode <= MODE_BITS, 'a mode has permission bits only')
  writer.byte(KINDS.indexOf(part.kind))
  writer.integer(part.mode)
  writer.integer(part.uid)
  writer.integer(part.gid)
  writer.integer(part.links)
  writer.integer(part.device)
  writer.integer(part.attributesBytes)
  writer.integer(part.holeBytes)
  writeTime(writer, part.accessed)
  writeTime(writer, part.modified)
  writeTime(writer, part.changed)
}

export function readPosixPart(reader: RecordReader): PosixPart {
  return {
    kind: must(KINDS[reader.byte()], 'kind of file'),
    mode: reader.integer(),
    uid: reader.integer(),
    gid: reader.integer(),
    links: reader.integer(),
    device: reader.integer(),
    attributesBytes: reader.integer(),
    holeBytes: reader.integer(),
    accessed: readTime(reader),
    modified: readTime(reader),
    changed: readTime(reader),
  }
}

export function writeTime(writer: RecordWriter, time: FileTime): void {
  const { seconds, nanoseconds } = time
  writer.integer(seconds >= 0 ? seconds * 2 : -seconds * 2 - 1)
  writer.integer(nanoseconds)
}

export function readTime(reader: RecordReader): FileTime {
  const folded = reader.integer()
  const seconds = folded % 2 === 0 ? folded / 2 : -(folded + 1) / 2
  return { seconds, nanoseconds: reader.integer() }
}

export function timeOfMs(ms: number): FileTime {
  const seconds = Math.floor(ms / 1000)
  return { seconds, nanoseconds: Math.floor((ms - seconds * 1000) * 1_000_000) }
}

/** As S3 shows it: whole milliseconds, not before 1970. */
export function msOfTime(time: FileTime): number {
  return Math.max(0, time.seconds * 1000 + Math.floor(time.nanoseconds / 1_000_000))
}

export function laterOf(a: FileTime, b: FileTime): FileTime {
  return b.seconds > a.seconds || (b.seconds === a.seconds && b.nanoseconds > a.nanoseconds) ? b : a
}

/** What an inode without the part is shown as. */
export function posixOf(
  inode:
    | { readonly kind: 'object'; readonly posix?: PosixPart | undefined; readonly mtimeMs: number }
    | { readonly kind: 'directory'; readonly posix?: PosixPart | undefined; readonly createdMs: number },
  defaults: FileDefaults,
): PosixPart {
  if (inode.posix) return inode.posix
  const directory = inode.kind === 'directory'
  return newPosixPart(directory ? 'directory' : 'file', {
    mode: directory ? defaults.directoryMode : defaults.fileMode,
    uid: defaults.uid,
    gid: defaults.gid,
    time: timeOfMs(directory ? inode.createdMs : inode.mtimeMs),
  })
}

export function newPosixPart(
  kind: FileKind,
  made: {
    readonly mode: number
    readonly uid: number
    readonly gid: number
    readonly time: FileTime
    readonly device?: number | undefined
  },
): PosixPart {
  const { mode, uid, gid, time } = made
  return {
    kind,
    mode: mode & MODE_BITS,
    uid,
    gid,
    links: 1,
    device: made.device ?? 0,
    attributesBytes: 0,
    holeBytes: 0,
    accessed: time,
    modified: time,
    changed: time,
  }
}

/** C27: what a PUT over a file keeps of it. What it makes is a plain file, whatever it replaces. */
export function inheritedPosixPart(old: PosixPart, defaults: FileDefaults, nowMs: number): PosixPart {
  const { uid, gid } = old
  return newPosixPart('file', {
    mode: old.kind === 'file' ? old.mode : defaults.fileMode,
    uid,
    gid,
    time: timeOfMs(nowMs),
  })
}
