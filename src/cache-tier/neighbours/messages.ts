/**
 * Head of a question for a block (`NodeMethod` `block`), integers little-endian:
 *
 *   0   16  segment
 *   16   4  block
 *   20   4  bytes needed, from the start of the block
 *   24   4  bytes that are not to be sent, from the start of the block: whole pages, and fewer than needed
 *   28   1  1: may be fetched from the remote store for this; 0: only if it lies there
 *
 * and of the answer, whose body is the block from there on:
 *
 *   0    1  outcome, an index of `OUTCOMES`
 *   1    4  length of the block; from here on only if the outcome is `here`
 *   5    4  bytes of a page
 *   9    4n CRC-32 of each page of the body, in n pages, the last of which may be short (C14)
 */
import { isSegmentId, type SegmentId } from '../../common/ids.ts'

/**
 * `lost`: it lies there, and cannot be read any more. `busy`: there is no memory for it now. `failed`: it could not be fetched, which says nothing of whether the bytes are there.
 */
export const OUTCOMES = ['here', 'elsewhere', 'busy', 'lost', 'failed'] as const
export type Outcome = (typeof OUTCOMES)[number]

export interface BlockQuestion {
  readonly segment: SegmentId
  readonly block: number
  readonly needed: number
  readonly from: number
  readonly mayFetch: boolean
}

export type BlockAnswer =
  | { readonly outcome: Exclude<Outcome, 'here'> }
  | {
      readonly outcome: 'here'
      readonly length: number
      readonly pageBytes: number
      readonly pageCrcs: Uint32Array
    }

const QUESTION_BYTES = 29
const PAGES_AT = 9

export function encodeQuestion({ segment, block, needed, from, mayFetch }: BlockQuestion): Uint8Array {
  const head = Buffer.alloc(QUESTION_BYTES)
  head.write(segment, 'hex')
  head.writeUInt32LE(block, 16)
  head.writeUInt32LE(needed, 20)
  head.writeUInt32LE(from, 24)
  head.writeUInt8(mayFetch ? 1 : 0, 28)
  return head
}

/** Undefined: it is not a question. */
export function decodeQuestion(head: Uint8Array): BlockQuestion | undefined {
  if (head.length !== QUESTION_BYTES) return undefined
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength)
  const segment = bytes.toString('hex', 0, 16)
  const [needed, from, flags] = [bytes.readUInt32LE(20), bytes.readUInt32LE(24), bytes.readUInt8(28)]
  if (!isSegmentId(segment) || flags > 1 || (from > 0 && from >= needed)) return undefined
  return { segment, block: bytes.readUInt32LE(16), needed, from, mayFetch: flags === 1 }
}

export function encodeAnswer(answer: BlockAnswer): Uint8Array {
  if (answer.outcome !== 'here') return Buffer.of(OUTCOMES.indexOf(answer.outcome))
  const { length, pageBytes, pageCrcs } = answer
  const head = Buffer.alloc(PAGES_AT + 4 * pageCrcs.length)
  head.writeUInt8(OUTCOMES.indexOf('here'))
  head.writeUInt32LE(length, 1)
  head.writeUInt32LE(pageBytes, 5)
  for (const [page, crc] of pageCrcs.entries()) head.writeUInt32LE(crc, PAGES_AT + 4 * page)
  return head
}

/** Undefined: it is not an answer. */
export function decodeAnswer(head: Uint8Array): BlockAnswer | undefined {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength)
  const outcome = OUTCOMES[bytes[0] ?? OUTCOMES.length]
  if (outcome === undefined) return undefined
  if (outcome !== 'here') return bytes.length === 1 ? { outcome } : undefined
  if (bytes.length < PAGES_AT) return undefined
  const [length, pageBytes] = [bytes.readUInt32LE(1), bytes.readUInt32LE(5)]
  const pages = (bytes.length - PAGES_AT) / 4
  if (length === 0 || pageBytes === 0 || pages === 0 || !Number.isInteger(pages)) return undefined
  const pageCrcs = Uint32Array.from({ length: pages }, (_, page) => bytes.readUInt32LE(PAGES_AT + 4 * page))
  return { outcome, length, pageBytes, pageCrcs }
}
