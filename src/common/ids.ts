import { randomFillSync } from 'node:crypto'
import { assert } from './assert.ts'

/**
 * A string that holds one byte (0..255) in each char, so that comparing two with `<` compares their bytes.
 * Keys of the ordered store are such strings: they work in a `Map`, sort correctly and cost no wrapper object.
 */
export type ByteString = string & { readonly __bytes: true }

/** Commit number of the metadata store: a safe integer that only grows. 0 is before the first commit. */
export type Revision = number

/** Names an inode record. A safe integer, never reused. */
export type InodeId = number

/** Names a content record (an extent list with a reference count). A safe integer, never reused. */
export type ContentId = number

/** 32 lower-case hex digits: 16 bytes, the first 6 of them the creation time in ms (as in UUIDv7), so ids sort by age. */
export type SegmentId = string & { readonly __segment: true }

const SEGMENT_ID = /^[0-9a-f]{32}$/

export function segmentIdFrom(text: string): SegmentId {
  assert(SEGMENT_ID.test(text), `segment id ${JSON.stringify(text)}`)
  return text as SegmentId
}

export function isSegmentId(text: string): text is SegmentId {
  return SEGMENT_ID.test(text)
}

/** Makes segment ids. `fillRandom` is passed in by the seeded simulation. */
export function newSegmentId(nowMs: number, fillRandom: (bytes: Uint8Array) => void = randomFillSync): SegmentId {
  const bytes = Buffer.alloc(16)
  fillRandom(bytes)
  bytes.writeUIntBE(nowMs, 0, 6)
  return bytes.toString('hex') as SegmentId
}

/** When it was made, by the clock of the node that made it. */
export function segmentCreatedMs(segment: SegmentId): number {
  return Number.parseInt(segment.slice(0, 12), 16)
}

/** UTF-8 bytes of a text as a ByteString. `text` must be well-formed (no lone surrogates). */
export function utf8Bytes(text: string): ByteString {
  return isAscii(text) ? (text as ByteString) : (Buffer.from(text, 'utf8').toString('latin1') as ByteString)
}

/** The text whose UTF-8 bytes these are. */
export function utf8Text(bytes: string): string {
  return isAscii(bytes) ? bytes : Buffer.from(bytes, 'latin1').toString('utf8')
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return false
  return true
}
