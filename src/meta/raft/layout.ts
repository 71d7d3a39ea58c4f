/**
 * What lies in etcd below the prefix, by byte. Integers are big-endian.
 *
 *   <prefix> row's key                     flags (1 byte), if bit 0 is set the place of a stamp (2 bytes), then the row's value
 *   <prefix> 01 parts of counters          as rows (counter-parts.ts)
 *   <prefix> 00 clock                      name of the group that committed last; written by every group, even one of which nothing took effect
 *   <prefix> 00 cluster                    format (1 byte), 16 random bytes: which metadata these are
 *   <prefix> 00 base                       what is added to etcd's revisions below this prefix (8); without the row 0 (shifted-etcd.ts)
 *   <prefix> 00 moving                     these metadata are on their way to or from a data directory, or have left (src/meta/migrate/moving-row.ts)
 *   <prefix> 00 node/ node (4)             16 random bytes: who has that number (node-number.ts)
 *   <prefix> 00 session/ node (4)          incarnation of the node's process (8; zeros: it was shut out, nodes/lost-nodes.ts), a number that grows (8)
 *   <prefix> 00 mark/ node (4) index (2)   name of the last group of that node of which component `index` took effect
 *   <prefix> 00 pause/ node (4)            empty; written when a transaction of that node that no other commit may come before has failed (group-transaction.ts)
 *   <prefix> 00 secret                     32 random bytes, which nodes prove to each other that they know (nodes/secret.ts)
 *   <prefix> 00 remote                     which remote store is that of these metadata, as JSON (src/shared-remote.ts)
 *   <prefix> 00 member/ node (4)           under a lease: what that node says of itself, as JSON (nodes/register.ts)
 *
 * A group's name is node (4), incarnation (8), number (8). Flags of a row, for the other nodes: bit 0 stamped, bit 1 only rewritten, bit 2 watchers are
 * not told (`Transaction.rewrite`, `rewriteUntold`).
 *
 * A stamp is 8 bytes of the value that stand for the revision of the commit that wrote it. Whoever reads the row puts in its mod revision.
 */
import { assert } from '../../common/assert.ts'
import type { ByteString, Revision } from '../../common/ids.ts'
import type { KeyRange } from '../ports.ts'
import { readUint64, writeUint64 } from '../stage/change-log.ts'

const STAMPED = 1
const REWRITTEN = 2
const UNTOLD = 4

const OWN = '\0'
const AFTER_OWN = '\x01'
const GROUP_NAME_BYTES = 20

/** Identifies one life of a process of a node: 8 random bytes. */
export type Incarnation = ByteString

export type GroupName = ByteString

export class EtcdLayout {
  readonly prefix: string
  readonly all: KeyRange
  readonly clock: ByteString
  readonly cluster: ByteString
  readonly base: ByteString
  readonly moving: ByteString
  readonly secret: ByteString
  readonly remote: ByteString

  constructor(prefix: string) {
    assert(prefix.length > 0, 'rows in etcd lie below a prefix')
    this.prefix = prefix
    this.all = { start: prefix as ByteString, end: afterPrefix(prefix) }
    this.clock = this.#own('clock')
    this.cluster = this.#own('cluster')
    this.base = this.#own('base')
    this.moving = this.#own('moving')
    this.secret = this.#own('secret')
    this.remote = this.#own('remote')
  }

  rowKey(key: ByteString): ByteString {
    return (this.prefix + key) as ByteString
  }

  rowRange({ start, end }: KeyRange): KeyRange {
    return { start: this.rowKey(start), end: this.rowKey(end) }
  }

  /** The row's key, or undefined for the store's own rows. */
  keyOf(etcdKey: ByteString): ByteString | undefined {
    return etcdKey.startsWith(OWN, this.prefix.length) ? undefined : (etcdKey.slice(this.prefix.length) as ByteString)
  }

  node(number: number): ByteString {
    return this.#own(`node/${uint32(number)}`)
  }

  /** All rows but the store's own. No key is empty or begins with 00. */
  get rows(): KeyRange {
    return { start: (this.prefix + AFTER_OWN) as ByteString, end: this.all.end }
  }

  get nodes(): KeyRange {
    const start = this.#own('node/')
    return { start, end: afterPrefix(start) }
  }

  /** Whose `node` row that is. */
  nodeOf(etcdKey: ByteString): number {
    return Buffer.from(etcdKey.slice(this.#own('node/').length), 'latin1').readUInt32BE(0)
  }

  member(node: number): ByteString {
    return this.#own(`member/${uint32(node)}`)
  }

  get members(): KeyRange {
    const start = this.#own('member/')
    return { start, end: afterPrefix(start) }
  }

  /** Whose `member` row that is; undefined for what is none. */
  memberOf(etcdKey: ByteString): number | undefined {
    const before = this.#own('member/').length
    if (etcdKey.length !== before + 4) return undefined
    return Buffer.from(etcdKey.slice(before), 'latin1').readUInt32BE(0)
  }

  session(node: number): ByteString {
    return this.#own(`session/${uint32(node)}`)
  }

  get sessions(): KeyRange {
    const start = this.#own('session/')
    return { start, end: afterPrefix(start) }
  }

  /** Whose `session` row that is. */
  sessionNode(etcdKey: ByteString): number {
    return Buffer.from(etcdKey.slice(this.#own('session/').length), 'latin1').readUInt32BE(0)
  }

  mark(node: number, index: number): ByteString {
    return this.#own(`mark/${uint32(node)}${uint32(index).slice(2)}`)
  }

  marksOf(node: number): KeyRange {
    const start = this.#own(`mark/${uint32(node)}`)
    return { start, end: afterPrefix(start) }
  }

  pause(node: number): ByteString {
    return this.#own(`pause/${uint32(node)}`)
  }

  isPauseOfOther(node: number, etcdKey: ByteString): boolean {
    return etcdKey.startsWith(this.#own('pause/')) && etcdKey !== this.pause(node)
  }

  /** Index of the component whose mark of that node this is. */
  markIndex(node: number, etcdKey: ByteString): number | undefined {
    const before = this.#own(`mark/${uint32(node)}`)
    if (!etcdKey.startsWith(before)) return undefined
    return etcdKey.charCodeAt(before.length) * 256 + etcdKey.charCodeAt(before.length + 1)
  }

  #own(name: string): ByteString {
    return (this.prefix + OWN + name) as ByteString
  }
}

export function onlyKey(key: ByteString): KeyRange {
  return { start: key, end: `${key}\0` as ByteString }
}

/** The smallest byte string greater than everything that starts with `prefix`. */
export function afterPrefix(prefix: string): ByteString {
  let length = prefix.length
  while (length > 0 && prefix.charCodeAt(length - 1) === 255) length--
  assert(length > 0, 'a prefix has an end')
  return (prefix.slice(0, length - 1) + String.fromCharCode(prefix.charCodeAt(length - 1) + 1)) as ByteString
}

export interface RowNotes {
  readonly stampAt?: number | undefined
  readonly rewritten: boolean
  readonly untold: boolean
}

export function encodeRow(value: Uint8Array, { stampAt, rewritten, untold }: RowNotes): Uint8Array {
  const head = stampAt === undefined ? 1 : 3
  const bytes = Buffer.allocUnsafeSlow(head + value.length)
  bytes[0] = (stampAt === undefined ? 0 : STAMPED) | (rewritten ? REWRITTEN : 0) | (untold ? UNTOLD : 0)
  if (stampAt !== undefined) bytes.writeUInt16BE(stampAt, 1)
  bytes.set(value, head)
  return bytes
}

/** The row's value, stamped, in the same bytes. */
export function decodeRow(row: Uint8Array, modRevision: Revision): { value: Uint8Array } & RowNotes {
  const bytes = Buffer.from(row.buffer, row.byteOffset, row.length)
  const flags = bytes[0] ?? 0
  const notes = { rewritten: (flags & REWRITTEN) !== 0, untold: (flags & UNTOLD) !== 0 }
  if ((flags & STAMPED) === 0) return { value: row.subarray(1), ...notes }
  const stampAt = bytes.readUInt16BE(1)
  writeUint64(bytes, modRevision, 3 + stampAt)
  return { value: row.subarray(3), stampAt, ...notes }
}

export function groupName(node: number, incarnation: Incarnation, number: number): GroupName {
  return (uint32(node) + incarnation + uint64(number)) as GroupName
}

export function decodeGroupName(value: Uint8Array): GroupName {
  return value.length === GROUP_NAME_BYTES ? byteString(value) : ('' as GroupName)
}

export function encodeSession(incarnation: Incarnation, attempt: number): Uint8Array {
  return Buffer.from(incarnation + uint64(attempt), 'latin1')
}

export function sessionIncarnation(value: Uint8Array): Incarnation {
  return byteString(value.subarray(0, 8))
}

export function byteString(bytes: Uint8Array): ByteString {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1') as ByteString
}

export function uint32(value: number): string {
  return String.fromCharCode((value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255)
}

export function uint64(value: number): string {
  const bytes = Buffer.allocUnsafe(8)
  writeUint64(bytes, value, 0)
  return bytes.toString('latin1')
}

export function uint64At(bytes: Uint8Array, at: number): number {
  return readUint64(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), at)
}
