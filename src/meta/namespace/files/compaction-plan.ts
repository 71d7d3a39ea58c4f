/**
 * C30: which files are to be compacted, and what of them is to be rewritten. Pure: contents-compact.ts reads and writes.
 *
 * A file is looked at when its extents are shorter than 64 KiB on average, or more than 1,024. Rewriting pays where neighbours are short:
 * a stretch of them becomes one run. What lies alone between holes or long extents stays as it is, holes are not filled, and a file of
 * few extents is left alone, else a log that grows by a line would be written again and again.
 */
import type { CompactionPiece } from '../../../common/file-contents.ts'

const KIB = 1024
const MIB = 1024 * KIB

/** Below this many pieces no file is compacted. */
const PIECES_MIN = 16
const PIECES_MAX = 1024
const MEAN_BYTES_MIN = 64 * KIB
/** Extents that are longer on average are not worth writing anew, however many they are. */
const WORTH_BYTES_MAX = MIB
/** Of the extents that one publish by reference puts in place. */
const REFERRED_MAX = 256

/**
 * `rewrite`: the pieces' bytes are to become one run. `refer`: the file is to refer to the pieces themselves, no longer to the contents
 * of files that they lie in. `nothing`: there is nothing to do up to the end of the last of them.
 */
export interface CompactionStretch {
  readonly what: 'rewrite' | 'refer' | 'nothing'
  readonly pieces: readonly CompactionPiece[]
}

export function isFragmented(file: { readonly pieceCount: number; readonly storedBytes: number }): boolean {
  const { pieceCount, storedBytes } = file
  if (pieceCount < PIECES_MIN) return false
  const meanBytes = storedBytes / pieceCount
  return meanBytes < MEAN_BYTES_MIN || (pieceCount > PIECES_MAX && meanBytes <= WORTH_BYTES_MAX)
}

/** From how many pieces on a file is looked at again, of which so many could not be helped. */
export function nextLookAt(pieceCount: number): number {
  return pieceCount + Math.max(256, Math.ceil(pieceCount / 4))
}

/**
 * The first thing to do. `pieces` follow each other without a gap; `isEnd` says that nothing follows them.
 * @param runBytesMax of one run
 */
export function nextStretch(
  pieces: readonly CompactionPiece[],
  { isEnd, runBytesMax }: { readonly isEnd: boolean; readonly runBytesMax: number },
): CompactionStretch {
  let referredFrom = 0
  for (let at = 0; at < pieces.length; at++) {
    const end = stretchEnd(pieces, at, runBytesMax)
    const isCutShort = end === pieces.length && !isEnd && at > 0
    const stretch = pieces.slice(at, end)
    if (isCutShort || isWorthIt(stretch)) {
      if (at === 0) return { what: 'rewrite', pieces: stretch }
      return before(pieces, referredFrom, at)
    }
    const piece = pieces[at] as CompactionPiece
    if (!piece.isNested && referredFrom < at) return before(pieces, referredFrom, at)
    if (!piece.isNested) referredFrom = at + 1
    else if (at + 1 - referredFrom >= REFERRED_MAX) return before(pieces, referredFrom, at + 1)
  }
  return before(pieces, referredFrom, pieces.length)
}

/** What lies before `end`: nested pieces from `from` on, or nothing to do. */
function before(pieces: readonly CompactionPiece[], from: number, end: number): CompactionStretch {
  if (from < end) return { what: 'refer', pieces: pieces.slice(from, end) }
  return { what: 'nothing', pieces: pieces.slice(0, end) }
}

/** Behind the last of the short neighbours that begin here. */
function stretchEnd(pieces: readonly CompactionPiece[], first: number, runBytesMax: number): number {
  let bytes = 0
  for (let at = first; at < pieces.length; at++) {
    const { content, length } = pieces[at] as CompactionPiece
    bytes += length
    if (content === undefined || length >= runBytesMax / 2 || bytes > runBytesMax) return at
  }
  return pieces.length
}

function isWorthIt(stretch: readonly CompactionPiece[]): boolean {
  const bytes = stretch.reduce((sum, { length }) => sum + length, 0)
  return stretch.length >= 2 && bytes <= stretch.length * WORTH_BYTES_MAX
}
