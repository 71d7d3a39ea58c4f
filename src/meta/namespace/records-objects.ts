/**
 * Records of buckets, entries and inodes, field by field in the order they lie (primitives: codec.ts).
 *
 * B  bucket     integer id, root, created ms; text name, owner, region; byte versioning; byte ack; [byte flags, if not 0 (1 attached)]
 *
 * D, V entry    byte kind, then
 *   1 object      byte flags (1 null version, 2 has checksum, 4 storage class is not STANDARD, 8 expires, 16 its inode has a
 *                 POSIX part, 32 stamped); [stamp]; integer inode, version, size, mtime ms, revision; etag; text owner; [byte checksum: algorithm * 2 + type];
 *                 [text storage class]; [integer expiry ms]
 *   2 directory   integer inode
 *   3 marker      byte flags (1 null version, 32 stamped); [stamp]; integer inode (an id only, it has no I row), version, mtime ms, revision;
 *                 text owner
 *   4 pointer     integer version: which version of the name in V is the null version
 *
 * I  inode      byte kind, then
 *   1 object      integer mask (bits below); [stamp]; integer parent; byteString name; integer size, mtime ms, revision; etag; text owner;
 *                 byte ack; then what the mask announces, in the order of its bits; then the body: integer content id, or the
 *                 inline bytes to the end of the record, or an external one; before an inline one perhaps its twin, as an external one
 *   2 directory   integer parent; byteString name (for a root: 0 and the bucket's name); integer created ms; POSIX part, if
 *                 anything follows (files/posix-part.ts)
 *
 * external      byte flags (1 described, 2 another ETag than the inode's, 4 another size); text key; [etag]; [integer size]
 *
 * G  former     integer parent; byteString name
 *
 * stamp         the revision, 8 bytes big-endian, which the store fills in when it commits (`Transaction.put`, `stampAt`). The integer `revision` is 0
 *               then. Only in rows of a store that several nodes share, and in what was copied from there
 *
 * An entry repeats what a listing shows, so that a page needs no look-up per row; the inode record is complete in
 * itself, so that what is known by inode (an expiry, an open handle) needs no entry. Tags and redirects lie in the inode only.
 */
import { must, unreachable } from '../../common/assert.ts'
import type { ExternalBody } from '../../common/external.ts'
import type { InodeId, Revision } from '../../common/ids.ts'
import {
  ACK_LEVELS,
  CHECKSUM_ALGORITHMS,
  type AckLevel,
  type BucketRecord,
  type ChecksumAlgorithm,
  type ChecksumType,
  type ObjectAttributes,
  type ObjectBody,
  type ObjectChecksum,
  type Versioning,
} from '../../common/model.ts'
import { RecordReader, recordWriter, type RecordWriter } from './codec.ts'
import { readPosixPart, writePosixPart, type PosixPart } from './files/posix-part.ts'
import {
  CHECKSUM_TYPES,
  DEFAULT_STORAGE_CLASS,
  FIRST_BIT_FREE,
  MASK,
  attributesMask,
  checksumByte,
  readAttributes,
  readChecksum,
  readEtag,
  writeAttributes,
  writeChecksum,
  writeEtag,
} from './records-fields.ts'

export interface ObjectEntry {
  readonly kind: 'object'
  readonly inode: InodeId
  readonly version: number
  /** The version that S3 calls `null`: made while versioning was off or suspended. */
  readonly isNull: boolean
  readonly size: number
  readonly mtimeMs: number
  /** The inode's. */
  readonly revision: Revision
  readonly etag: string
  readonly owner: string
  readonly storageClass: string
  readonly checksumAlgorithm: ChecksumAlgorithm | undefined
  readonly checksumType: ChecksumType | undefined
  /** The inode's. */
  readonly expiresMs: number | undefined
  /** Whether the inode has a POSIX part. */
  readonly isFile?: boolean | undefined
}

export interface MarkerEntry {
  readonly kind: 'marker'
  readonly inode: InodeId
  readonly version: number
  readonly isNull: boolean
  readonly mtimeMs: number
  /** As of an object's inode. */
  readonly revision: Revision
  readonly owner: string
}

export interface DirectoryEntry {
  readonly kind: 'directory'
  readonly inode: InodeId
}

export interface PointerEntry {
  readonly kind: 'pointer'
  readonly version: number
}

export type VersionEntry = ObjectEntry | MarkerEntry
export type Entry = VersionEntry | DirectoryEntry | PointerEntry

export interface ObjectInode {
  readonly kind: 'object'
  readonly parent: InodeId
  readonly name: string
  readonly size: number
  readonly mtimeMs: number
  /** Of the commit that made it. Grows with every version of a key. */
  readonly revision: Revision
  readonly etag: string
  readonly owner: string
  readonly ack: AckLevel
  readonly attributes: ObjectAttributes
  readonly checksum: ObjectChecksum | undefined
  readonly partsCount: number | undefined
  /** The upload that it was completed from, so that a repeated Complete is answered alike. */
  readonly uploadId: string | undefined
  /** From this time on its key does not name it any more; undefined: for ever. Never changes (keys.ts, table T). */
  readonly expiresMs: number | undefined
  readonly posix?: PosixPart | undefined
  /** Of an inline body that has been carried out and is kept here all the same: what lies outside, until a dirty row says so (docs/decisions/0015). */
  readonly twin?: ExternalBody | undefined
  readonly body: ObjectBody
}

export interface DirectoryInode {
  readonly kind: 'directory'
  readonly parent: InodeId
  readonly name: string
  readonly createdMs: number
  readonly posix?: PosixPart | undefined
}

export type Inode = ObjectInode | DirectoryInode

/** Parent and name. */
export interface NamedPlace {
  readonly parent: InodeId
  readonly name: string
}

/** The revision of what is being made over a store that several nodes share: not known yet. No commit has it. */
export const REVISION_OF_ITS_COMMIT: Revision = 0

const KIND = { object: 1, directory: 2, marker: 3, pointer: 4 } as const
const FLAG_NULL = 1
const FLAG_CHECKSUM = 2
const FLAG_STORAGE_CLASS = 4
const FLAG_EXPIRES = 8
const FLAG_FILE = 16
const FLAG_STAMPED = 32
const VERSIONINGS: readonly Versioning[] = ['off', 'enabled', 'suspended']

/** After those of the attributes: an expiry and a POSIX part follow, and the body is external. */
const EXPIRES_BIT = FIRST_BIT_FREE
const POSIX_BIT = EXPIRES_BIT << 1
const EXTERNAL_BIT = POSIX_BIT << 1
const TWIN_BIT = EXTERNAL_BIT << 1
const STAMPED_BIT = TWIN_BIT << 1

/** Where stamps lie: after kind and flags; after kind and a mask, which with its highest bit is three bytes long. */
const ENTRY_STAMP_AT = 2
const INODE_STAMP_AT = 4

const BUCKET_ATTACHED = 1
const EXTERNAL_FLAG = { described: 1, etag: 2, size: 4 } as const

/** Where in a record of D, V or I its stamp is still to be filled in; undefined: there is none, or it says the revision already. */
export function openStampAt(table: 'entry' | 'inode', record: Uint8Array): number | undefined {
  const reader = new RecordReader(record)
  const kind = reader.byte()
  if (kind !== KIND.object && (table === 'inode' || kind !== KIND.marker)) return undefined
  const isStamped = table === 'entry' ? reader.byte() & FLAG_STAMPED : reader.integer() & STAMPED_BIT
  if (!isStamped || reader.uint64() !== REVISION_OF_ITS_COMMIT) return undefined
  return table === 'entry' ? ENTRY_STAMP_AT : INODE_STAMP_AT
}

const NO_STAMP = new Uint8Array(8)

function isUnstamped({ revision }: { readonly revision: Revision }): boolean {
  return revision === REVISION_OF_ITS_COMMIT
}

function stampedFlag(entry: VersionEntry): number {
  return isUnstamped(entry) ? FLAG_STAMPED : 0
}

export function encodeBucket(bucket: BucketRecord): Uint8Array {
  const writer = recordWriter.begin()
  writer.integer(bucket.id)
  writer.integer(bucket.root)
  writer.integer(bucket.createdMs)
  writer.text(bucket.name)
  writer.text(bucket.owner)
  writer.text(bucket.region)
  writer.byte(VERSIONINGS.indexOf(bucket.versioning))
  writer.byte(ACK_LEVELS.indexOf(bucket.ack))
  if (bucket.isAttached) writer.byte(BUCKET_ATTACHED)
  return writer.finish()
}

export function decodeBucket(record: Uint8Array): BucketRecord {
  const reader = new RecordReader(record)
  return {
    id: reader.integer(),
    root: reader.integer(),
    createdMs: reader.integer(),
    name: reader.text(),
    owner: reader.text(),
    region: reader.text(),
    versioning: must(VERSIONINGS[reader.byte()], 'versioning'),
    ack: must(ACK_LEVELS[reader.byte()], 'ack level'),
    ...(!reader.isAtEnd && reader.byte() === BUCKET_ATTACHED ? { isAttached: true } : {}),
  }
}

export function encodeEntry(entry: Entry): Uint8Array {
  const writer = recordWriter.begin()
  writer.byte(KIND[entry.kind])
  switch (entry.kind) {
    case 'object':
      encodeObjectEntry(writer, entry)
      break
    case 'directory':
      writer.integer(entry.inode)
      break
    case 'marker':
      writer.byte((entry.isNull ? FLAG_NULL : 0) | stampedFlag(entry))
      if (isUnstamped(entry)) writer.rest(NO_STAMP)
      writer.integer(entry.inode)
      writer.integer(entry.version)
      writer.integer(entry.mtimeMs)
      writer.integer(entry.revision)
      writer.text(entry.owner)
      break
    case 'pointer':
      writer.integer(entry.version)
      break
    default:
      unreachable(entry, 'entry')
  }
  return writer.finish()
}

function encodeObjectEntry(writer: RecordWriter, entry: ObjectEntry): void {
  const named = entry.storageClass !== DEFAULT_STORAGE_CLASS
  writer.byte(
    (entry.isNull ? FLAG_NULL : 0) |
      (entry.checksumAlgorithm ? FLAG_CHECKSUM : 0) |
      (named ? FLAG_STORAGE_CLASS : 0) |
      (entry.expiresMs === undefined ? 0 : FLAG_EXPIRES) |
      (entry.isFile ? FLAG_FILE : 0) |
      stampedFlag(entry),
  )
  if (isUnstamped(entry)) writer.rest(NO_STAMP)
  writer.integer(entry.inode)
  writer.integer(entry.version)
  writer.integer(entry.size)
  writer.integer(entry.mtimeMs)
  writer.integer(entry.revision)
  writeEtag(writer, entry.etag)
  writer.text(entry.owner)
  if (entry.checksumAlgorithm) writer.byte(checksumByte(entry.checksumAlgorithm, entry.checksumType))
  if (named) writer.text(entry.storageClass)
  if (entry.expiresMs !== undefined) writer.integer(entry.expiresMs)
}

export function decodeEntry(record: Uint8Array): Entry {
  const reader = new RecordReader(record)
  const kind = reader.byte()
  switch (kind) {
    case KIND.object:
      return decodeObjectEntry(reader)
    case KIND.directory:
      return { kind: 'directory', inode: reader.integer() }
    case KIND.marker:
      return decodeMarkerEntry(reader)
    default:
      must(kind === KIND.pointer ? kind : undefined, 'kind of entry')
      return { kind: 'pointer', version: reader.integer() }
  }
}

function decodeMarkerEntry(reader: RecordReader): MarkerEntry {
  const flags = reader.byte()
  const stamp = flags & FLAG_STAMPED ? reader.uint64() : undefined
  const [inode, version, mtimeMs, revision] = [reader.integer(), reader.integer(), reader.integer(), reader.integer()]
  const isNull = (flags & FLAG_NULL) !== 0
  return { kind: 'marker', isNull, inode, version, mtimeMs, revision: stamp ?? revision, owner: reader.text() }
}

/** Whether an entry is that of an object which expires at all: for who asks of very many, and of little else. */
export function isExpiringEntry(record: Uint8Array): boolean {
  return record[0] === KIND.object && (must(record[1], 'flags of an entry') & FLAG_EXPIRES) !== 0
}

function decodeObjectEntry(reader: RecordReader): ObjectEntry {
  const flags = reader.byte()
  const stamp = flags & FLAG_STAMPED ? reader.uint64() : undefined
  const inode = reader.integer()
  const version = reader.integer()
  const size = reader.integer()
  const mtimeMs = reader.integer()
  const revision = reader.integer()
  const etag = readEtag(reader)
  const owner = reader.text()
  const checksum = flags & FLAG_CHECKSUM ? reader.byte() : undefined
  return {
    kind: 'object',
    inode,
    version,
    isNull: (flags & FLAG_NULL) !== 0,
    size,
    mtimeMs,
    revision: stamp ?? revision,
    etag,
    owner,
    storageClass: flags & FLAG_STORAGE_CLASS ? reader.text() : DEFAULT_STORAGE_CLASS,
    checksumAlgorithm: checksum === undefined ? undefined : CHECKSUM_ALGORITHMS[checksum >> 1],
    checksumType: checksum === undefined ? undefined : CHECKSUM_TYPES[checksum & 1],
    expiresMs: flags & FLAG_EXPIRES ? reader.integer() : undefined,
    isFile: (flags & FLAG_FILE) !== 0,
  }
}

export function encodeInode(inode: Inode): Uint8Array {
  const writer = recordWriter.begin()
  writer.byte(KIND[inode.kind])
  if (inode.kind === 'directory') {
    writer.integer(inode.parent)
    writer.byteString(inode.name)
    writer.integer(inode.createdMs)
    if (inode.posix) writePosixPart(writer, inode.posix)
    return writer.finish()
  }
  writer.integer(inodeMask(inode))
  if (isUnstamped(inode)) writer.rest(NO_STAMP)
  writer.integer(inode.parent)
  writer.byteString(inode.name)
  writer.integer(inode.size)
  writer.integer(inode.mtimeMs)
  writer.integer(inode.revision)
  writeEtag(writer, inode.etag)
  writer.text(inode.owner)
  writer.byte(ACK_LEVELS.indexOf(inode.ack))
  if (inode.checksum) writeChecksum(writer, inode.checksum)
  if (inode.partsCount !== undefined) writer.integer(inode.partsCount)
  if (inode.uploadId !== undefined) writer.hex(inode.uploadId)
  writeAttributes(writer, inode.attributes)
  if (inode.expiresMs !== undefined) writer.integer(inode.expiresMs)
  if (inode.posix) writePosixPart(writer, inode.posix)
  if (inode.twin) writeExternal(writer, inode.twin, inode)
  writeBody(writer, inode)
  return writer.finish()
}

function writeBody(writer: RecordWriter, { body, etag, size }: ObjectInode): void {
  switch (body.kind) {
    case 'inline':
      writer.rest(body.bytes)
      return
    case 'content':
      writer.integer(body.content)
      return
    case 'external':
      writeExternal(writer, body.external, { etag, size })
      return
    default:
      unreachable(body, 'body')
  }
}

function writeExternal(writer: RecordWriter, external: ExternalBody, shown: { etag: string; size: number }): void {
  const hasEtag = external.etag !== shown.etag
  const hasSize = external.size !== shown.size
  writer.byte(
    (external.isDescribed ? EXTERNAL_FLAG.described : 0) |
      (hasEtag ? EXTERNAL_FLAG.etag : 0) |
      (hasSize ? EXTERNAL_FLAG.size : 0),
  )
  writer.text(external.key)
  if (hasEtag) writeEtag(writer, external.etag)
  if (hasSize) writer.integer(external.size)
}

function readExternal(reader: RecordReader, shown: { etag: string; size: number }): ExternalBody {
  const flags = reader.byte()
  return {
    key: reader.text(),
    etag: flags & EXTERNAL_FLAG.etag ? readEtag(reader) : shown.etag,
    size: flags & EXTERNAL_FLAG.size ? reader.integer() : shown.size,
    isDescribed: (flags & EXTERNAL_FLAG.described) !== 0,
  }
}

function inodeMask(inode: ObjectInode): number {
  return (
    (inode.body.kind === 'inline' ? MASK.inline : 0) |
    (inode.body.kind === 'external' ? EXTERNAL_BIT : 0) |
    (inode.twin ? TWIN_BIT : 0) |
    (isUnstamped(inode) ? STAMPED_BIT : 0) |
    (inode.checksum ? MASK.checksum : 0) |
    (inode.partsCount === undefined ? 0 : MASK.partsCount) |
    (inode.uploadId === undefined ? 0 : MASK.uploadId) |
    attributesMask(inode.attributes) |
    (inode.expiresMs === undefined ? 0 : EXPIRES_BIT) |
    (inode.posix ? POSIX_BIT : 0)
  )
}

export function decodeInode(record: Uint8Array): Inode {
  const reader = new RecordReader(record)
  const kind = reader.byte()
  if (kind === KIND.directory) {
    const [parent, name, createdMs] = [reader.integer(), reader.byteString(), reader.integer()]
    return { kind: 'directory', parent, name, createdMs, posix: reader.isAtEnd ? undefined : readPosixPart(reader) }
  }
  must(kind === KIND.object ? kind : undefined, 'kind of inode')
  const mask = reader.integer()
  const stamp = mask & STAMPED_BIT ? reader.uint64() : undefined
  const parent = reader.integer()
  const name = reader.byteString()
  const size = reader.integer()
  const mtimeMs = reader.integer()
  const revision = reader.integer()
  const etag = readEtag(reader)
  const owner = reader.text()
  const ack = must(ACK_LEVELS[reader.byte()], 'ack level')
  const checksum = mask & MASK.checksum ? readChecksum(reader) : undefined
  const partsCount = mask & MASK.partsCount ? reader.integer() : undefined
  const uploadId = mask & MASK.uploadId ? reader.hex(16) : undefined
  const attributes = readAttributes(reader, mask)
  const expiresMs = mask & EXPIRES_BIT ? reader.integer() : undefined
  const posix = mask & POSIX_BIT ? readPosixPart(reader) : undefined
  const twin = mask & TWIN_BIT ? readExternal(reader, { etag, size }) : undefined
  const body = readBody(reader, mask, { etag, size })
  return {
    kind: 'object',
    parent,
    name,
    size,
    mtimeMs,
    revision: stamp ?? revision,
    etag,
    owner,
    ack,
    attributes,
    checksum,
    partsCount,
    uploadId,
    expiresMs,
    posix,
    ...(twin && { twin }),
    body,
  }
}

function readBody(reader: RecordReader, mask: number, shown: { etag: string; size: number }): ObjectBody {
  if (mask & MASK.inline) return { kind: 'inline', bytes: reader.rest() }
  if (mask & EXTERNAL_BIT) return { kind: 'external', external: readExternal(reader, shown) }
  return { kind: 'content', content: reader.integer() }
}

export function encodePlace(place: NamedPlace): Uint8Array {
  const writer = recordWriter.begin()
  writer.integer(place.parent)
  writer.byteString(place.name)
  return writer.finish()
}

export function decodePlace(record: Uint8Array): NamedPlace {
  const reader = new RecordReader(record)
  return { parent: reader.integer(), name: reader.byteString() }
}
