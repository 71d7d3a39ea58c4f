/** What the attached bucket holds, read whole through the store. */
import { NO_CONDITIONS } from '../../../src/common/conditions.ts'
import { isTidegateError } from '../../../src/common/errors.ts'
import type { FilePiece } from '../../../src/common/file-model.ts'
import type { Engine } from '../../../src/engine.ts'

export const BUCKET = 'far'

export function bytesOf(piece: FilePiece, reading: Engine['store']['reading']): Buffer {
  switch (piece.kind) {
    case 'bytes':
      return Buffer.from(piece.bytes)
    case 'hole':
      return Buffer.alloc(piece.length)
    case 'slab': {
      const bytes = Buffer.from(reading.view(piece))
      reading.release(piece.lease)
      return bytes
    }
  }
}

/** Undefined when there is nothing. */
export async function readObject(
  engine: Engine,
  key: string,
): Promise<{ readonly etag: string; readonly bytes: Buffer } | undefined> {
  const { objects, reading } = engine.store
  const opened = await objects.open({ bucket: BUCKET, key }, NO_CONDITIONS).catch((error: unknown) => {
    if (isTidegateError(error, 'NoSuchKey')) return undefined
    throw error
  })
  if (!opened) return undefined
  const { reader, version } = opened
  try {
    if (version.body.kind === 'inline') return { etag: version.etag, bytes: Buffer.from(version.body.bytes) }
    const bytes = Buffer.alloc(version.size)
    for (let at = 0; at < version.size;) {
      const slice = await reading.read(reader, at, version.size - at)
      bytes.set(reading.view(slice), at)
      reading.release(slice.lease)
      at += slice.length
    }
    return { etag: version.etag, bytes }
  } finally {
    reading.close(reader)
  }
}
