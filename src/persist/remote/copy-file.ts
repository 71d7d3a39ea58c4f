/** Copying between file systems, where a rename does not reach. */
import type { FileSystem, OpenFile } from '../ports.ts'

const CHUNK_BYTES = 1024 * 1024

/** Writes what is at `path` to the file, from its start. Syncing it is the caller's. */
export async function copyInto(
  target: OpenFile,
  from: { readonly fileSystem: FileSystem; readonly path: string },
  signal?: AbortSignal,
): Promise<void> {
  const source = await from.fileSystem.open(from.path, 'read')
  try {
    const chunk = Buffer.alloc(CHUNK_BYTES)
    for (let position = 0; ;) {
      signal?.throwIfAborted()
      const got = await source.read(chunk, position)
      if (got === 0) break
      await target.write(chunk.subarray(0, got), position)
      position += got
    }
  } finally {
    await source.close()
  }
}
