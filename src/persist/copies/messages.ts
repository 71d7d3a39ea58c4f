/**
 * What owner and holder of a copy say to each other (common/node-calls.ts). Heads are JSON of at most `NODE_HEAD_BYTES_MAX` bytes:
 *
 *   copy-open    {segment, mode}                        `live`: as it is written; `whole`: a sealed file, which takes the place of what is there once it is sealed
 *   copy-write   {segment, mode, position, crc, sync}   body: bytes that follow the last ones. With `sync` they, and all before them, are durable when it is answered
 *   copy-seal    {segment, mode, position, crc}         body: the last bytes. Durable, closed, and under its name when it is answered
 *   copy-drop    {segments}                             not needed any more, says the owner; the holder looks for itself
 *   copies       {segments, wanted}                     -> {held: [{segment, bytes, sealed}]}; with `wanted` the one asked copies those of its own that have no copy
 *
 * `crc` is the CRC-32 of the body: received bytes are checked before anything is done with them (C33). Writes of one copy are carried out in order of
 * their positions, whatever order they come in; one that is not the next is waited for as long as its caller does.
 *
 * A peer may send anything: what does not decode is InvalidRequest, and nothing has happened.
 */
import { TidegateError } from '../../common/errors.ts'
import { isSegmentId, type SegmentId } from '../../common/ids.ts'

export type CopyMode = 'live' | 'whole'

export interface CopyName {
  readonly segment: SegmentId
  readonly mode: CopyMode
}

export interface CopyWrite extends CopyName {
  readonly position: number
  readonly crc: number
  readonly sync: boolean
}

export interface HeldCopy {
  readonly segment: SegmentId
  /** Of its file. */
  readonly bytes: number
  /** Whole, with a footer that was checked. */
  readonly sealed: boolean
}

/** Of one call: more do not fit a head. */
export const SEGMENTS_A_CALL_MAX = 500
/** No copy is larger: a body of 5 GiB, its footer, and room to grow. */
const POSITION_MAX = 2 ** 40

export const NOTHING: Uint8Array = new Uint8Array(0)

export function encodeHead(head: object): Uint8Array {
  return Buffer.from(JSON.stringify(head), 'utf8')
}

type Fields = Readonly<Record<string, unknown>>

function decodeFields(head: Uint8Array): Fields {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(head.buffer, head.byteOffset, head.byteLength).toString('utf8'))
  } catch (cause) {
    throw new TidegateError('InvalidRequest', 'the head of a call about copies is no JSON', { cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed('object')
  return value as Fields
}

function malformed(field: string): TidegateError {
  return new TidegateError('InvalidRequest', `a call about copies has no valid ${field}`)
}

function segmentOf(value: unknown): SegmentId {
  if (typeof value !== 'string' || !isSegmentId(value)) throw malformed('segment')
  return value
}

function numberOf(fields: Fields, field: string, max: number): number {
  const value = fields[field]
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > max) throw malformed(field)
  return value
}

function nameOf(fields: Fields): CopyName {
  const { segment, mode } = fields as { segment?: unknown; mode?: unknown }
  if (mode !== 'live' && mode !== 'whole') throw malformed('mode')
  return { segment: segmentOf(segment), mode }
}

export function decodeOpen(head: Uint8Array): CopyName {
  return nameOf(decodeFields(head))
}

export function decodeWrite(head: Uint8Array): CopyWrite {
  const fields = decodeFields(head)
  const { sync } = fields as { sync?: unknown }
  return {
    ...nameOf(fields),
    position: numberOf(fields, 'position', POSITION_MAX),
    crc: numberOf(fields, 'crc', 2 ** 32 - 1),
    sync: sync === true,
  }
}

export interface SegmentList {
  readonly segments: readonly SegmentId[]
  readonly wanted: boolean
}

export function decodeSegments(head: Uint8Array): SegmentList {
  const { segments, wanted } = decodeFields(head) as { segments?: unknown; wanted?: unknown }
  if (!Array.isArray(segments) || segments.length > SEGMENTS_A_CALL_MAX) throw malformed('segments')
  return { segments: segments.map(segmentOf), wanted: wanted === true }
}

export function decodeHeld(head: Uint8Array): readonly HeldCopy[] {
  const { held } = decodeFields(head) as { held?: unknown }
  if (!Array.isArray(held) || held.length > SEGMENTS_A_CALL_MAX) throw malformed('held')
  return held.map((entry: unknown) => {
    if (typeof entry !== 'object' || entry === null) throw malformed('held')
    const { segment, sealed } = entry as { segment?: unknown; sealed?: unknown }
    return {
      segment: segmentOf(segment),
      bytes: numberOf(entry as Fields, 'bytes', POSITION_MAX),
      sealed: sealed === true,
    }
  })
}
