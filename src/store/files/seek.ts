/**
 * SEEK_DATA and SEEK_HOLE over all layers of an open file: lseek(2). The end of the file is a hole. What is published is sought by
 * metadata, which walks over holes of any length without naming what lies between.
 */
import type { MetadataFiles } from '../file-ports.ts'
import type { OpenFile } from './open-file.ts'

type Metadata = Pick<MetadataFiles, 'seekFile'>

/** Undefined when the offset is behind the end, or no data follows it. */
export async function seek(
  metadata: Metadata,
  file: OpenFile,
  offset: number,
  what: 'data' | 'hole',
): Promise<number | undefined> {
  const { size } = file
  if (offset >= size) return undefined
  for (let at = offset; at < size;) {
    const { kind, until } = stretchAt(file, at, size)
    const found = kind === 'published' ? await seekPublished(metadata, file, at, what) : kind === what ? at : undefined
    if (found !== undefined && found < until) return found
    at = until
  }
  return what === 'hole' ? size : undefined
}

/** What shows at the offset, and up to where. */
function stretchAt(
  file: OpenFile,
  offset: number,
  end: number,
): { readonly kind: 'data' | 'hole' | 'published'; readonly until: number } {
  let until = end
  for (const overlay of [file.overlay, file.publishing?.overlay]) {
    if (!overlay) continue
    const stretch = overlay.stretchAt(offset, until)
    if (stretch.entry) return { kind: stretch.entry.source ? 'data' : 'hole', until: stretch.until }
    until = stretch.until
  }
  return { kind: 'published', until }
}

/** Behind the end of what is published is a hole. */
async function seekPublished(
  metadata: Metadata,
  file: OpenFile,
  offset: number,
  what: 'data' | 'hole',
): Promise<number | undefined> {
  const found = await metadata.seekFile(file.inode, offset, what)
  return found ?? (what === 'hole' ? offset : undefined)
}
