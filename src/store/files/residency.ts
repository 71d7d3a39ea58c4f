/**
 * Where a file's bytes are right now: in memory, in the journal, in the remote store. Nothing is read and nothing is held; what is
 * being written or evicted meanwhile may be counted as it was or as it is.
 */
import { TidegateError } from '../../common/errors.ts'
import type { InodeId, SegmentId } from '../../common/ids.ts'
import type { FileResidency } from '../../common/file-model.ts'
import type { Memory, Persisting } from '../byte-ports.ts'
import type { MetadataFiles } from '../file-ports.ts'
import type { OpenFile } from './open-file.ts'
import type { Overlay } from './overlay.ts'

export interface ResidencyParts {
  readonly metadata: Pick<MetadataFiles, 'fileExtents' | 'seekFile'>
  readonly memory: Pick<Memory, 'residentBytes'>
  readonly persisting: Pick<Persisting, 'isLocal'>
}

/** Looked up at once. */
const WINDOW_BYTES = 256 * 1024 * 1024
/** More than these are 256 GiB of data, and would take longer than whoever asks can wait. */
const WINDOWS_MAX = 1024

/** @throws EntityTooLarge */
export async function residencyOf(
  parts: ResidencyParts,
  inode: InodeId,
  file: OpenFile | undefined,
): Promise<FileResidency> {
  const count = new Count(parts)
  const overlays = file ? [file.overlay, file.publishing?.overlay].filter((overlay) => overlay !== undefined) : []
  countUnpublished(count, overlays)
  let windows = 0
  for (let from = await parts.metadata.seekFile(inode, 0, 'data'); from !== undefined;) {
    if (++windows > WINDOWS_MAX) throw new TidegateError('EntityTooLarge', `inode ${inode} has too much to be counted`)
    const { inline, extents } = await parts.metadata.fileExtents(inode, from, WINDOW_BYTES)
    if (inline) {
      for (const { length } of gaps(overlays, 0, inline.length)) count.metadata += length
      break
    }
    for (const { offset, length, segment, segmentOffset } of extents) {
      for (const gap of gaps(overlays, offset, offset + length)) {
        count.stored(segment, segmentOffset + gap.offset - offset, gap.length)
      }
    }
    from = await parts.metadata.seekFile(inode, from + WINDOW_BYTES, 'data')
  }
  const { memory, dirty, journal, remote, metadata } = count
  return { memory, dirty, journal, remote, metadata }
}

class Count {
  readonly #parts: ResidencyParts
  memory = 0
  dirty = 0
  journal = 0
  remote = 0
  metadata = 0

  constructor(parts: ResidencyParts) {
    this.#parts = parts
  }

  stored(segment: SegmentId, segmentOffset: number, length: number): void {
    this.memory += this.#parts.memory.residentBytes(segment, segmentOffset, length)
    if (this.#parts.persisting.isLocal(segment)) this.journal += length
    else this.remote += length
  }

  written(length: number): void {
    this.memory += length
    this.dirty += length
  }
}

function countUnpublished(count: Count, overlays: readonly Overlay[]): void {
  for (const [depth, overlay] of overlays.entries()) {
    for (const entry of overlay.entries) {
      const { source } = entry
      if (!source) continue
      for (const gap of gaps(overlays.slice(0, depth), entry.offset, entry.offset + entry.length)) {
        const { place } = source
        if (!place) {
          count.written(gap.length)
          continue
        }
        const { segment, segmentOffset } = place.body.journaled.run
        const within = place.offset + entry.sourceOffset + gap.offset - entry.offset
        count.stored(segment, segmentOffset + within, gap.length)
      }
    }
  }
}

interface Gap {
  readonly offset: number
  readonly length: number
}

/** The parts of `[from, to)` that none of the layers covers. */
function gaps(overlays: readonly Overlay[], from: number, to: number): Gap[] {
  let found: Gap[] = [{ offset: from, length: to - from }]
  for (const overlay of overlays) {
    found = found.flatMap(({ offset, length }) =>
      overlay.pieces(offset, offset + length).filter(({ entry }) => entry === undefined),
    )
  }
  return found
}
