/** SEEK_DATA and SEEK_HOLE over all layers of an open file: lseek(2). The end of the file is a hole. */
import type { OpenFile } from './open-file.ts'
import { pieceLength, publishedPiece } from './read-file.ts'

/** Undefined when the offset is behind the end, or no data follows it. */
export async function seek(file: OpenFile, offset: number, what: 'data' | 'hole'): Promise<number | undefined> {
  const { size } = file
  if (offset >= size) return undefined
  for (let at = offset; at < size;) {
    const { kind, length } = await pieceAt(file, at, size)
    if (kind === what) return at
    at += length
  }
  return what === 'hole' ? size : undefined
}

interface Stretch {
  readonly kind: 'data' | 'hole'
  readonly length: number
}

async function pieceAt(file: OpenFile, offset: number, size: number): Promise<Stretch> {
  let end = size
  for (const overlay of [file.overlay, file.publishing?.overlay]) {
    if (!overlay) continue
    const { entry, until } = overlay.stretchAt(offset, end)
    if (entry) return { kind: entry.source ? 'data' : 'hole', length: until - offset }
    end = until
  }
  const window = await file.published.acquire(offset)
  try {
    const piece = publishedPiece(window, offset, Math.min(end, window.to))
    return { kind: piece.kind === 'hole' ? 'hole' : 'data', length: pieceLength(piece) }
  } finally {
    file.published.letGo(window)
  }
}
