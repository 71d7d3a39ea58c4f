/**
 * Reading: what is not published over what is. The layers are looked at in one turn, and bytes in memory are copied in it, so a read
 * sees every write that was done before it; the extents of the rest are looked up afterwards and may show a later publish, never
 * an earlier one. Blocks are lent from the slab; a body of the journal that no commit names yet, and the extents' window, are
 * held until they are (C12, C13).
 */
import { assert } from '../../common/assert.ts'
import { isTidegateError } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { Memory } from '../byte-ports.ts'
import type { FilePiece } from '../../common/file-model.ts'
import type { UnpublishedBody } from './dirty-bytes.ts'
import type { OpenFile } from './open-file.ts'
import { extentFrom, type ExtentWindow } from './published-extents.ts'

export interface ReaderParts {
  readonly memory: Memory
  readonly blockBytes: number
}

interface StoredBytes {
  readonly kind: 'stored'
  readonly segment: SegmentId
  readonly segmentOffset: number
  readonly length: number
}

type Located = Exclude<FilePiece, { kind: 'slab' }> | StoredBytes
type Layered = Located | { readonly kind: 'published'; readonly offset: number; readonly length: number }

/** Of a read in more pieces than this, short ones are copied rather than lent: each lease keeps a whole block in memory. */
const LEASES_MAX = 8
const COPIED_BYTES_MAX = 64 * 1024
/** Blocks fetched ahead for one read. */
const PREFETCH_BLOCKS_MAX = 16

/**
 * The pieces of `[from, to)`, which lies within the file. Where it was known already where they lie, and they are not to be had there, that is looked up
 * again: in an attached bucket they may have gone elsewhere outside since.
 */
export async function readPieces(parts: ReaderParts, file: OpenFile, from: number, to: number): Promise<FilePiece[]> {
  const isKnown = file.published.cached(from) !== undefined
  try {
    return await readOnce(parts, file, from, to)
  } catch (error) {
    if (!isKnown || !isTidegateError(error, 'Unavailable')) throw error
    file.published.invalidate()
    return await readOnce(parts, file, from, to)
  }
}

async function readOnce(parts: ReaderParts, file: OpenFile, from: number, to: number): Promise<FilePiece[]> {
  const bodies: UnpublishedBody[] = []
  const windows: ExtentWindow[] = []
  try {
    const located: Located[] = []
    for (const piece of layers(file, from, to, bodies)) {
      if (piece.kind === 'published') await locate(file, piece, located, windows)
      else located.push(piece)
    }
    return await lendAll(parts, located)
  } finally {
    for (const body of bodies) body.letGo()
    for (const window of windows) file.published.letGo(window)
  }
}

/** `readPieces` when nothing unpublished lies in the range and all else is in memory, which is most reads; undefined otherwise. */
export function readPiecesNow(parts: ReaderParts, file: OpenFile, from: number, to: number): FilePiece[] | undefined {
  if (file.overlay.shows(from, to) || file.publishing?.overlay.shows(from, to)) return undefined
  const window = file.published.cached(from)
  if (!window || to > window.to) return undefined
  const pieces: FilePiece[] = []
  for (let offset = from; offset < to;) {
    const piece = publishedPiece(window, offset, to)
    if (piece.kind !== 'stored') pieces.push(piece)
    else if (!lendNow(parts, piece, pieces)) {
      for (const lent of pieces) if (lent.kind === 'slab') parts.memory.giveBack(lent.lease)
      return undefined
    }
    offset += pieceLength(piece)
  }
  return pieces
}

/** False when a block is not in memory, or there are too many to lend; what was lent before is in `pieces`. */
function lendNow({ memory, blockBytes }: ReaderParts, piece: StoredBytes, pieces: FilePiece[]): boolean {
  for (let done = 0; done < piece.length;) {
    if (pieces.length >= LEASES_MAX) return false
    const segmentOffset = piece.segmentOffset + done
    const block = Math.floor(segmentOffset / blockBytes)
    const within = segmentOffset - block * blockBytes
    const length = Math.min(piece.length - done, blockBytes - within)
    const lent = memory.lendNow(piece.segment, block, within + length)
    if (!lent) return false
    pieces.push({ kind: 'slab', slabOffset: lent.slabOffset + within, length, lease: lent.lease })
    done += length
  }
  return true
}

/** Synchronous. Holds the bodies it names. */
function layers(file: OpenFile, from: number, to: number, bodies: UnpublishedBody[]): Layered[] {
  const found: Layered[] = []
  const overlays = [file.overlay, file.publishing?.overlay]
  const descend = (depth: number, start: number, end: number): void => {
    const overlay = overlays[depth]
    if (!overlay) {
      found.push({ kind: 'published', offset: start, length: end - start })
      return
    }
    for (const { offset, length, entry } of overlay.pieces(start, end)) {
      if (!entry) descend(depth + 1, offset, offset + length)
      else if (!entry.source) found.push({ kind: 'hole', length })
      else {
        const at = entry.sourceOffset + offset - entry.offset
        const { place } = entry.source
        if (!place) {
          // A Buffer's `slice` would be a view.
          found.push({ kind: 'bytes', bytes: new Uint8Array(entry.source.bytes(at, length)) })
          continue
        }
        place.body.hold()
        bodies.push(place.body)
        const { segment, segmentOffset } = place.body.journaled.run
        found.push({ kind: 'stored', segment, segmentOffset: segmentOffset + place.offset + at, length })
      }
    }
  }
  descend(0, from, to)
  return found
}

async function locate(
  file: OpenFile,
  range: { readonly offset: number; readonly length: number },
  located: Located[],
  windows: ExtentWindow[],
): Promise<void> {
  const end = range.offset + range.length
  for (let offset = range.offset; offset < end;) {
    const window = await file.published.acquire(offset)
    windows.push(window)
    const stop = Math.min(end, window.to)
    for (; offset < stop;) {
      const piece = publishedPiece(window, offset, stop)
      located.push(piece)
      offset += pieceLength(piece)
    }
  }
}

/** The first piece of `[offset, stop)` of what a window shows. */
export function publishedPiece(window: ExtentWindow, offset: number, stop: number): Located {
  const { inline, extents } = window.extents
  if (inline) {
    const bytes = inline.subarray(offset, stop)
    return bytes.length > 0 ? { kind: 'bytes', bytes } : { kind: 'hole', length: stop - offset }
  }
  const extent = extentFrom(extents, offset)
  if (!extent || extent.offset >= stop) return { kind: 'hole', length: stop - offset }
  if (extent.offset > offset) return { kind: 'hole', length: extent.offset - offset }
  const within = offset - extent.offset
  const length = Math.min(stop - offset, extent.length - within)
  return { kind: 'stored', segment: extent.segment, segmentOffset: extent.segmentOffset + within, length }
}

export function pieceLength(piece: FilePiece | StoredBytes): number {
  return piece.kind === 'bytes' ? piece.bytes.length : piece.length
}

/** Lends what is stored, block by block. On failure nothing stays lent. */
async function lendAll(parts: ReaderParts, located: readonly Located[]): Promise<FilePiece[]> {
  const byBlock: Located[] = located.flatMap<Located>((piece) =>
    piece.kind === 'stored' ? blocksOf(piece, parts.blockBytes) : [piece],
  )
  const only = byBlock[0]
  if (byBlock.length === 1 && only?.kind === 'stored') return [await lend(parts, only)]
  const pieces: FilePiece[] = []
  const lending: Promise<void>[] = []
  const toCopy: { readonly index: number; readonly piece: StoredBytes }[] = []
  const crowded = byBlock.length > LEASES_MAX
  for (const [index, piece] of byBlock.entries()) {
    if (piece.kind !== 'stored') pieces[index] = piece
    else if (crowded && piece.length <= COPIED_BYTES_MAX) toCopy.push({ index, piece })
    else lending.push(lend(parts, piece).then((lent) => void (pieces[index] = lent)))
  }
  const copying = async (): Promise<void> => {
    for (const { index, piece } of toCopy) pieces[index] = await copied(parts, piece)
  }
  const outcomes = await Promise.allSettled([...lending, copying()])
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failed) {
    for (const piece of pieces) if (piece?.kind === 'slab') parts.memory.giveBack(piece.lease)
    throw failed.reason as Error
  }
  return pieces
}

function blocksOf(piece: StoredBytes, blockBytes: number): StoredBytes[] {
  const slices: StoredBytes[] = []
  for (let done = 0; done < piece.length;) {
    const segmentOffset = piece.segmentOffset + done
    const length = Math.min(piece.length - done, blockBytes - (segmentOffset % blockBytes))
    slices.push({ kind: 'stored', segment: piece.segment, segmentOffset, length })
    done += length
  }
  return slices
}

async function lend({ memory, blockBytes }: ReaderParts, piece: StoredBytes): Promise<FilePiece & { kind: 'slab' }> {
  const block = Math.floor(piece.segmentOffset / blockBytes)
  const within = piece.segmentOffset - block * blockBytes
  assert(within + piece.length <= blockBytes, 'a slice lies in one block')
  const lent = await memory.lend(piece.segment, block, within + piece.length)
  return { kind: 'slab', slabOffset: lent.slabOffset + within, length: piece.length, lease: lent.lease }
}

async function copied(parts: ReaderParts, piece: StoredBytes): Promise<FilePiece> {
  const { slabOffset, length, lease } = await lend(parts, piece)
  const bytes = new Uint8Array(parts.memory.view(slabOffset, length))
  parts.memory.giveBack(lease)
  return { kind: 'bytes', bytes }
}

/** Hands the stored bytes over, block by block; each part is a view, valid until `take` returns. */
export async function readStored(
  parts: ReaderParts,
  where: Omit<StoredBytes, 'kind'>,
  take: (part: Uint8Array) => void,
): Promise<void> {
  for (const piece of blocksOf({ kind: 'stored', ...where }, parts.blockBytes)) {
    const { slabOffset, length, lease } = await lend(parts, piece)
    take(parts.memory.view(slabOffset, length))
    parts.memory.giveBack(lease)
  }
}

/** Fetches ahead what is known to be stored in the range; looks nothing up. */
export function prefetch({ memory, blockBytes }: ReaderParts, file: OpenFile, from: number, to: number): void {
  let blocks = 0
  for (let offset = from; offset < Math.min(to, file.publishedSize) && blocks < PREFETCH_BLOCKS_MAX;) {
    const window = file.published.cached(offset)
    if (!window) return
    const piece = publishedPiece(window, offset, Math.min(to, window.to))
    if (piece.kind === 'stored') {
      const first = Math.floor(piece.segmentOffset / blockBytes)
      const last = Math.floor((piece.segmentOffset + piece.length - 1) / blockBytes)
      const count = Math.min(last - first + 1, PREFETCH_BLOCKS_MAX - blocks)
      if (memory.prefetch(piece.segment, first, count) < count) return
      blocks += count
    }
    offset += pieceLength(piece)
  }
}
