/** Bytes as the carrying out of changes hands them to an external bucket. */
import type { PieceSource, UploadPiece } from '../../src/attach/ports.ts'

const SLICE_BYTES = 300_000

/** Lends one buffer for all of its slices, and spoils it when the next one is asked for. */
export function sourceOf(bytes: Uint8Array): PieceSource {
  return {
    length: bytes.length,
    async *bytes() {
      const lent = Buffer.alloc(SLICE_BYTES)
      for (let offset = 0; offset < bytes.length; offset += SLICE_BYTES) {
        const slice = bytes.subarray(offset, offset + SLICE_BYTES)
        lent.set(slice)
        yield lent.subarray(0, slice.length)
        lent.fill(0xa5)
      }
    },
  }
}

export const piece = (bytes: Uint8Array): UploadPiece => ({ kind: 'bytes', source: sourceOf(bytes) })
