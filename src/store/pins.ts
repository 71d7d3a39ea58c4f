/**
 * Holds an object's bytes in memory for a time. What the memory level keeps is whole blocks, so an object is held by
 * pinning each block that it lies in; small bodies share blocks, and each pins on its own account (its inode).
 *
 * All or nothing: when a block cannot be fetched, or the share of memory for pins is used up, the pins that this call has
 * set are taken back. A pin is a promise of speed and never of safety: it ends with the segment that it lies in, so also
 * when compaction moves the object to another one.
 */
import { TidegateError } from '../common/errors.ts'
import type { SegmentId } from '../common/ids.ts'
import type { Limits } from '../common/limits.ts'
import type { ObjectVersion } from '../common/model.ts'
import type { Memory } from './byte-ports.ts'
import { versionExtents, type BodyPlaces } from './external-extents.ts'

export interface PinParts {
  readonly memory: Memory
  readonly metadata: BodyPlaces
  readonly limits: Limits
}

interface NeededBlock {
  readonly segment: SegmentId
  readonly block: number
  /** Bytes from the block's start that must be there. */
  needed: number
}

/** Bytes of content whose extents are asked for at once. */
const EXTENT_WINDOW_BYTES = 256 * 1024 * 1024
/** Blocks fetched ahead of those that are pinned, a batch at a time. */
const FETCH_AHEAD_BLOCKS = 8

/**
 * Resolves with the bytes held. The caller keeps the object open for reading meanwhile.
 * @param untilMs of the monotonic clock; a later end that was set before stays
 */
export async function pinObject(parts: PinParts, version: ObjectVersion, untilMs: number): Promise<number> {
  if (version.body.kind === 'inline') return 0
  const { memory } = parts
  const blocks = await blocksOf(parts, version)
  if (!blocks) throw full(version.size, memory)
  const undo: (() => void)[] = []
  try {
    for (const [index, { segment, block, needed }] of blocks.entries()) {
      if (index % FETCH_AHEAD_BLOCKS === 0) fetchAhead(memory, blocks.slice(index, index + 2 * FETCH_AHEAD_BLOCKS))
      const { lease } = await memory.lend(segment, block, needed)
      try {
        const unset = memory.pin({ segment, block, holder: version.inode }, untilMs)
        if (!unset) throw full(version.size, memory)
        undo.push(unset)
      } finally {
        memory.giveBack(lease)
      }
    }
    return version.size
  } catch (error) {
    for (const unset of undo) unset()
    throw error
  }
}

/** Blocks that follow each other in a segment are fetched together. */
function fetchAhead(memory: Memory, blocks: readonly NeededBlock[]): void {
  for (let from = 0; from < blocks.length;) {
    const { segment, block } = blocks[from] as NeededBlock
    let count = 1
    for (let next = blocks[from + count]; next?.segment === segment && next.block === block + count;) {
      next = blocks[from + ++count]
    }
    memory.prefetch(segment, block, count)
    from += count
  }
}

export async function unpinObject(parts: PinParts, version: ObjectVersion): Promise<void> {
  for (const { segment, block } of (await blocksOf(parts, version)) ?? []) {
    parts.memory.unpin({ segment, block, holder: version.inode })
  }
}

/** Blocks that the object lies in, in order, each once; undefined when they are more than may be pinned at all. */
async function blocksOf(parts: PinParts, version: ObjectVersion): Promise<NeededBlock[] | undefined> {
  const { memory, metadata, limits } = parts
  const { size } = version
  if (version.body.kind === 'inline') return []
  const blocks = new Map<string, NeededBlock>()
  for (let offset = 0; offset < size;) {
    const extents = await versionExtents(metadata, version, { offset, length: EXTENT_WINDOW_BYTES })
    for (const { segment, segmentOffset, length } of extents) {
      const end = segmentOffset + length
      for (let block = Math.floor(segmentOffset / limits.blockBytes); block * limits.blockBytes < end; block++) {
        const needed = Math.min(limits.blockBytes, end - block * limits.blockBytes)
        const known = blocks.get(`${segment}/${block}`)
        if (known) known.needed = Math.max(known.needed, needed)
        else blocks.set(`${segment}/${block}`, { segment, block, needed })
        if (blocks.size * limits.blockBytes > memory.pinnedBytesMax) return undefined
      }
    }
    // A window without an extent is a hole.
    const last = extents.at(-1)
    offset = last ? last.offset + last.length : offset + EXTENT_WINDOW_BYTES
  }
  return [...blocks.values()]
}

function full(bytes: number, { pinnedBytesMax }: Memory): TidegateError {
  return new TidegateError(
    'StorageFull',
    `pinning ${bytes} bytes would pass the ${pinnedBytesMax} bytes of memory that may be pinned`,
    { details: { bytes, pinnedBytesMax } },
  )
}
