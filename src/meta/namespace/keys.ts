/**
 * Every key of the metadata schema, by byte.
 *
 * A key is a table letter, the record version 0x01, then fields. Integers are 8 bytes big-endian, so that they sort; ids of
 * segments and uploads are 16 bytes. A variable part that ends the key lies there raw. One that is followed by
 * another field is *ordered-encoded*: groups of 8 bytes, the last padded with zeros, each followed by a marker byte (0xFF: a
 * full group and more follows; 0xF6 + n: the last group, n of its bytes count). That keeps the order of the raw bytes, may
 * hold NUL (C9), and 1,024 bytes become 1,161 at most, which fits the 1,978 bytes of an LMDB key.
 *
 *   B | bucket name                                 bucket
 *   I | inode                                       object or directory
 *   D | parent | name                               the live current version, or a live directory (its name ends in "/")
 *   V | parent | ordered(name) | ~version           older versions, and every delete marker; newest first
 *   V | parent | ordered(name) | FF * 8             which of them is the null version (only while it lies in V)
 *   V | parent | ordered(name "/") | 00 * 8         hidden directory (C25)
 *   K | content                                     content record with its reference count
 *   E | content | first offset | index              pieces of a composite content
 *   U | bucket id | ordered(key) | upload id        upload in progress
 *   P | upload id | part number                     its parts
 *   T | expiry ms | inode                           a live current version (D) that expires; empty value
 *   S | 00 | segment  and  S | 01 | segment         state; live bytes (counters)
 *   G | kind | id                                   work of the reclaimer: contents (c), finished uploads (u), buckets (b), former places (d),
 *                                                   extended attributes (x)
 *   Q | bucket id | node                            usage: objects, bytes (counters); bucket id 0: number of buckets
 *   C | name                                        id sequences
 *   L | inode | parent | name                       a further name of an inode (C10: the first is in the inode); empty value
 *   X | inode | name                                extended attribute: its value
 *   O | inode | node                                unlinked and kept, because that node has it open; empty value
 *   F | inode                                       the file lies in too many pieces (C30): how many it must have to be looked at
 *   W | directory | node                            when that node last changed a directory through the mount (C8)
 *   H | inode | sort                                advisory locks on a file that mounts of several nodes hold (locks/)
 *   R | h  and  R | w | node                        who ships the names of a namespace that nodes share, and what each of the others waits for
 *                                                   (names-holder.ts)
 *   A | t | id                                      bearer token
 *   A | n                                           number of tokens (counter)
 *   Z | kind | ...                                  attached buckets: the attachment (a), what of it has been listed (c), keys changed
 *                                                   here (d), renames of directories (m), directories not wholly known (u),
 *                                                   external segments (x): attached/rows.ts
 *
 * There is a T row exactly for each D row with an expiry: a version that stops being current loses it, one that becomes
 * current again gets it back. A rename leaves it alone, since the path is found through the inode (C10).
 *
 * A row of L is one entry, in D or in V; of those of an inode one is in the inode record, the others are in L. Rows of W and X may
 * outlive their inode until the reclaimer comes (G, of a directory its former place): an inode's number is never used again.
 *
 * A name holds no slash except that of a directory, which ends it; so walking D in key order is S3's byte order.
 */
import { assert, must } from '../../common/assert.ts'
import type { ByteString, ContentId, InodeId, SegmentId } from '../../common/ids.ts'
import type { KeyRange } from '../ports.ts'

const RECORD_VERSION = '\x01'

export const BUCKETS: string = `B${RECORD_VERSION}`
export const INODES: string = `I${RECORD_VERSION}`
export const ENTRIES: string = `D${RECORD_VERSION}`
export const VERSIONS: string = `V${RECORD_VERSION}`
export const CONTENTS: string = `K${RECORD_VERSION}`
export const PIECES: string = `E${RECORD_VERSION}`
export const UPLOADS: string = `U${RECORD_VERSION}`
export const PARTS: string = `P${RECORD_VERSION}`
export const EXPIRIES: string = `T${RECORD_VERSION}`
export const SEGMENTS: string = `S${RECORD_VERSION}`
export const RECLAIM: string = `G${RECORD_VERSION}`
export const USAGE: string = `Q${RECORD_VERSION}`
export const SEQUENCES: string = `C${RECORD_VERSION}`
export const LINKS: string = `L${RECORD_VERSION}`
export const FILE_ATTRIBUTES: string = `X${RECORD_VERSION}`
export const ORPHANS: string = `O${RECORD_VERSION}`
export const FRAGMENTED: string = `F${RECORD_VERSION}`
export const DIRECTORY_TIMES: string = `W${RECORD_VERSION}`
export const HORIZONS: string = `N${RECORD_VERSION}`
export const LOCKS: string = `H${RECORD_VERSION}`
export const NAMES_HOLDING: string = `R${RECORD_VERSION}`
export const ATTACHED: string = `Z${RECORD_VERSION}`
/** Of table Z (attached/rows.ts). */
export const COVERAGE: string = `${ATTACHED}c`
const ACCESS = `A${RECORD_VERSION}`

const GROUP_BYTES = 8
const MORE_FOLLOWS = 0xff
const LAST_GROUP = 0xf6
const TWO_32 = 2 ** 32

const HIDDEN_SLOT = '\0'.repeat(8)
const NULL_SLOT = '\xff'.repeat(8)

const HIGH_ZEROS = '\0'.repeat(4)

/** 8 bytes, big-endian. */
export function integerBytes(value: number): string {
  const low = value >>> 0
  return value < TWO_32 ? HIGH_ZEROS + fourBytes(low) : fourBytes(Math.floor(value / TWO_32)) + fourBytes(low)
}

export function integerAt(key: string, at: number): number {
  let value = 0
  for (let i = at; i < at + 8; i++) value = value * 256 + key.charCodeAt(i)
  return value
}

function fourBytes(value: number): string {
  return String.fromCharCode((value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255)
}

/** The smallest byte string greater than everything that starts with `prefix`. */
export function prefixEnd(prefix: string): ByteString {
  let length = prefix.length
  while (length > 0 && prefix.charCodeAt(length - 1) === 255) length--
  assert(length > 0, 'a prefix has an end')
  return (prefix.slice(0, length - 1) + String.fromCharCode(prefix.charCodeAt(length - 1) + 1)) as ByteString
}

export function prefixRange(prefix: string): KeyRange {
  return { start: prefix as ByteString, end: prefixEnd(prefix) }
}

export function orderedBytes(raw: string): string {
  let encoded = ''
  let at = 0
  for (; raw.length - at > GROUP_BYTES; at += GROUP_BYTES) {
    encoded += raw.slice(at, at + GROUP_BYTES) + String.fromCharCode(MORE_FOLLOWS)
  }
  const rest = raw.slice(at)
  return encoded + rest + '\0'.repeat(GROUP_BYTES - rest.length) + String.fromCharCode(LAST_GROUP + rest.length)
}

/** The raw bytes of an ordered-encoded part that begins at `at`, and where the next field begins. */
export function orderedAt(key: string, at: number): { raw: string; next: number } {
  let raw = ''
  for (let group = at; ; group += GROUP_BYTES + 1) {
    const marker = key.charCodeAt(group + GROUP_BYTES)
    assert(marker >= LAST_GROUP, 'a group ends in its marker')
    if (marker !== MORE_FOLLOWS) {
      return { raw: raw + key.slice(group, group + marker - LAST_GROUP), next: group + GROUP_BYTES + 1 }
    }
    raw += key.slice(group, group + GROUP_BYTES)
  }
}

/** Ordered encodings of everything that starts with `raw`, after `before`, the fields that come first. */
export function orderedPrefixRange(before: string, raw: string): KeyRange {
  if (raw === '') return prefixRange(before)
  return {
    start: (before + orderedBytes(raw)) as ByteString,
    end: (before + orderedBytes(prefixEnd(raw))) as ByteString,
  }
}

/** Bucket names are ASCII (names.ts); a name that is not never gets here. */
export function bucketKey(name: string): ByteString {
  return (BUCKETS + name) as ByteString
}

export function inodeKey(inode: InodeId): ByteString {
  return (INODES + integerBytes(inode)) as ByteString
}

export function entriesPrefix(parent: InodeId): string {
  return ENTRIES + integerBytes(parent)
}

export const ENTRY_NAME_AT = 10

export function entryKey(parent: InodeId, name: string): ByteString {
  return (ENTRIES + integerBytes(parent) + name) as ByteString
}

export function versionsPrefix(parent: InodeId): string {
  return VERSIONS + integerBytes(parent)
}

export function versionsOfNamePrefix(parent: InodeId, name: string): string {
  return VERSIONS + integerBytes(parent) + orderedBytes(name)
}

export function versionSuffix(version: number): string {
  let inverted = ''
  const bytes = integerBytes(version)
  for (let i = 0; i < bytes.length; i++) inverted += String.fromCharCode(255 - bytes.charCodeAt(i))
  return inverted
}

export function versionKey(parent: InodeId, name: string, version: number): ByteString {
  return (versionsOfNamePrefix(parent, name) + versionSuffix(version)) as ByteString
}

/** The row that says which version in V is the null version. Sorts after the versions of its name. */
export function nullPointerKey(parent: InodeId, name: string): ByteString {
  return (versionsOfNamePrefix(parent, name) + NULL_SLOT) as ByteString
}

/** `name` ends in a slash. */
export function hiddenDirectoryKey(parent: InodeId, name: string): ByteString {
  return (versionsOfNamePrefix(parent, name) + HIDDEN_SLOT) as ByteString
}

/** What a key of the V table says. */
export function parseVersionKey(key: string): { parent: InodeId; name: string; slot: 'version' | 'null' | 'hidden' } {
  const { raw, next } = orderedAt(key, ENTRY_NAME_AT)
  const suffix = key.slice(next)
  const slot = suffix === NULL_SLOT ? 'null' : suffix === HIDDEN_SLOT ? 'hidden' : 'version'
  return { parent: integerAt(key, 2), name: raw, slot }
}

export function contentKey(content: ContentId): ByteString {
  return (CONTENTS + integerBytes(content)) as ByteString
}

export function piecesPrefix(content: ContentId): string {
  return PIECES + integerBytes(content)
}

/** Index counts pieces; it tells rows apart that begin at one offset because the pieces between are empty. */
export function piecesKey(content: ContentId, firstOffset: number, index: number): ByteString {
  return (PIECES + integerBytes(content) + integerBytes(firstOffset) + integerBytes(index)) as ByteString
}

export function uploadsPrefix(bucketId: number): string {
  return UPLOADS + integerBytes(bucketId)
}

export const UPLOAD_KEY_AT = 10

/** `uploadId` in hex. */
export function uploadKey(bucketId: number, key: string, uploadId: string): ByteString {
  return (uploadsPrefix(bucketId) + orderedBytes(key) + hexBytes(uploadId)) as ByteString
}

export function partsPrefix(uploadId: string): string {
  return PARTS + hexBytes(uploadId)
}

export const HORIZON_NODE_AT: number = HORIZONS.length

/** Horizon of a node's readers (horizons.ts). */
export function horizonKey(node: number): ByteString {
  return (HORIZONS + integerBytes(node)) as ByteString
}

export function partKey(uploadId: string, partNumber: number): ByteString {
  return (PARTS + hexBytes(uploadId) + integerBytes(partNumber)) as ByteString
}

export const PART_NUMBER_AT = 18

export function expiryKey(expiresMs: number, inode: InodeId): ByteString {
  return (EXPIRIES + integerBytes(expiresMs) + integerBytes(inode)) as ByteString
}

/** Where its fields lie: the time, and the inode. */
export const EXPIRY_TIME_AT = 2
export const EXPIRY_INODE_AT = 10

export const SEGMENT_STATE_ROWS: string = `${SEGMENTS}\0`
export const SEGMENT_LIVE_ROWS: string = `${SEGMENTS}\x01`

export function segmentStateKey(segment: SegmentId): ByteString {
  return (SEGMENT_STATE_ROWS + hexBytes(segment)) as ByteString
}

export function segmentLiveKey(segment: SegmentId): ByteString {
  return (SEGMENT_LIVE_ROWS + hexBytes(segment)) as ByteString
}

export function droppedContentKey(content: ContentId): ByteString {
  return `${RECLAIM}c${integerBytes(content)}` as ByteString
}

export function finishedUploadKey(uploadId: string): ByteString {
  return `${RECLAIM}u${hexBytes(uploadId)}` as ByteString
}

export function deletedBucketKey(bucketId: number): ByteString {
  return `${RECLAIM}b${integerBytes(bucketId)}` as ByteString
}

export const FORMER_PLACES: string = `${RECLAIM}d`

/** Where an inode had its entry before this revision: for watchers (changes.ts). */
export function formerPlaceKey(inode: InodeId): ByteString {
  return (FORMER_PLACES + integerBytes(inode)) as ByteString
}

/** The extended attributes of an inode that is gone. */
export function leftAttributesKey(inode: InodeId): ByteString {
  return `${RECLAIM}x${integerBytes(inode)}` as ByteString
}

export type ReclaimKind = 'content' | 'upload' | 'bucket' | 'former' | 'attributes'

const RECLAIM_KINDS: Readonly<Record<string, ReclaimKind>> = {
  c: 'content',
  u: 'upload',
  b: 'bucket',
  d: 'former',
  x: 'attributes',
}

export function reclaimKindOf(key: string): ReclaimKind {
  return must(RECLAIM_KINDS[key.charAt(2)], 'kind of reclaim row')
}

export const RECLAIM_ID_AT = 3

export function linksPrefix(inode: InodeId): string {
  return LINKS + integerBytes(inode)
}

export function linkKey(inode: InodeId, parent: InodeId, name: string): ByteString {
  return (linksPrefix(inode) + integerBytes(parent) + name) as ByteString
}

export const LINK_PARENT_AT = 10
export const LINK_NAME_AT = 18

export function fileAttributesPrefix(inode: InodeId): string {
  return FILE_ATTRIBUTES + integerBytes(inode)
}

export const FILE_ATTRIBUTE_NAME_AT = 10

export function fileAttributeKey(inode: InodeId, name: string): ByteString {
  return (fileAttributesPrefix(inode) + name) as ByteString
}

export function orphansPrefix(inode: InodeId): string {
  return ORPHANS + integerBytes(inode)
}

export function orphanKey(inode: InodeId, node: string): ByteString {
  return (orphansPrefix(inode) + node) as ByteString
}

/** POSIX and BSD locks do not see each other. */
export function locksKey(inode: InodeId, sort: 'posix' | 'flock'): ByteString {
  return (LOCKS + integerBytes(inode) + (sort === 'posix' ? 'p' : 'f')) as ByteString
}

/** Its record: an integer. */
export function fragmentedKey(inode: InodeId): ByteString {
  return (FRAGMENTED + integerBytes(inode)) as ByteString
}

export function directoryTimesPrefix(inode: InodeId): string {
  return DIRECTORY_TIMES + integerBytes(inode)
}

export function directoryTimeKey(inode: InodeId, node: string): ByteString {
  return (directoryTimesPrefix(inode) + node) as ByteString
}

export function usageKey(bucketId: number, node: string): ByteString {
  return (USAGE + integerBytes(bucketId) + node) as ByteString
}

export const BUCKET_COUNT_KEY: ByteString = (USAGE + integerBytes(0)) as ByteString

export function sequenceKey(name: string): ByteString {
  return (SEQUENCES + name) as ByteString
}

export const TOKENS: string = `${ACCESS}t`
export const TOKEN_COUNT_KEY: ByteString = `${ACCESS}n` as ByteString
export const TOKEN_ID_AT = 3

export function tokenKey(id: string): ByteString {
  return (TOKENS + id) as ByteString
}

export function hexBytes(hex: string): string {
  return Buffer.from(hex, 'hex').toString('latin1')
}

export function bytesHex(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString('hex')
}
