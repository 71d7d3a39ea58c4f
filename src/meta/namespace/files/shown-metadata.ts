/**
 * What S3 and KV are told of owner and mode of what the mount has made or changed: metadata under the names that Amazon FSx for Lustre
 * exports and imports (its user guide, "POSIX metadata support for data repositories").
 *
 *   file-owner, file-group   numbers
 *   file-permissions         st_mode of stat(2) in octal, after a zero: 0100644 is a file of rw-r--r--, 0120777 a symlink
 *   file-mtime               nanoseconds since 1970, and "ns"
 *   file-target              of a symlink, its target (C28), up to 1,024 bytes of UTF-8; not one of theirs: there it is the body, as it is here too
 */
import { isUtf8 } from 'node:buffer'
import type { FileKind } from '../../../common/file-model.ts'
import type { ObjectBody } from '../../../common/model.ts'
import type { PosixPart } from './posix-part.ts'

/** Longer ones are the body only: written for a header they may take four times as much, and clients bound those. */
const TARGET_BYTES_MAX = 1024

/** S_IFMT of inode(7). */
const TYPE_BITS = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  fifo: 0o010000,
  socket: 0o140000,
  'character-device': 0o020000,
  'block-device': 0o060000,
} as const satisfies Readonly<Record<FileKind, number>>

export function shownMetadata(part: PosixPart, body: ObjectBody): Readonly<Record<string, string>> {
  const { kind, mode, uid, gid, modified } = part
  const nanoseconds = BigInt(modified.seconds) * 1_000_000_000n + BigInt(modified.nanoseconds)
  const shown = {
    'file-owner': String(uid),
    'file-group': String(gid),
    'file-permissions': `0${(TYPE_BITS[kind] | mode).toString(8).padStart(6, '0')}`,
    'file-mtime': `${nanoseconds}ns`,
  }
  if (kind !== 'symlink' || body.kind !== 'inline') return shown
  if (body.bytes.length > TARGET_BYTES_MAX || !isUtf8(body.bytes)) return shown
  return { ...shown, 'file-target': Buffer.from(body.bytes).toString('utf8') }
}
