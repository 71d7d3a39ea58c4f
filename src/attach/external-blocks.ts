/**
 * Blocks of external segments, for the memory level: from the disk level if it has them, else by range from the external bucket, one request for
 * blocks that follow each other. `If-Match` vouches that they are of the object that the segment's id names; bytes that come are given checksums
 * here (C14), and are kept on disk under them.
 *
 * Whoever is refused learns that the object was changed outside: its key is looked at anew by the next who asks for it, and whoever reads what was there
 * before is told to try again.
 */
import { crc32 } from 'node:zlib'
import { isTidegateError, TidegateError } from '../common/errors.ts'
import { isExternalSegment } from '../common/external.ts'
import type { SegmentId } from '../common/ids.ts'
import type { Limits } from '../common/limits.ts'
import type { ExternalSegments } from './external-segments.ts'
import type { Freshness } from './freshness.ts'

/** What the memory level fetches blocks from (persist/block-source.ts). */
export interface BlockFetching {
  /** Fills a slot with a block; resolves with its length. */
  read(segment: SegmentId, block: number, slabOffset: number, need?: BlockNeed): Promise<number>
  /** The same for blocks that follow each other. */
  readRun(segment: SegmentId, firstBlock: number, slots: readonly number[]): readonly Promise<number>[]
}

/** How much of the block there must be, and what is here of it; for those of our own segments, which may still grow. */
export interface BlockNeed {
  readonly needed: number
  readonly held?: { readonly slabOffset: number; readonly length: number } | undefined
}

/** The disk level (persist/reading/ports.ts). */
export interface KeptBlocks {
  read(segment: SegmentId, block: number, slabOffset: number): Promise<number | undefined>
  keep(segment: SegmentId, block: number, bytes: Uint8Array, pageCrcs: Uint32Array): void
}

export interface ExternalBlocksParts {
  readonly segments: Pick<ExternalSegments, 'find'>
  readonly freshness: Pick<Freshness, 'changedOutside'>
  readonly limits: Pick<Limits, 'blockBytes' | 'pageBytes'>
  readonly slabView: (slabOffset: number, length: number) => Uint8Array
  readonly disk?: KeptBlocks | undefined
}

export interface ExternalBlocksStatus {
  readonly requests: number
  readonly bytes: number
  /** Reads that found another object in the place of the one they wanted. */
  readonly changedOutside: number
}

export class ExternalBlocks implements BlockFetching {
  readonly #parts: ExternalBlocksParts
  #requests = 0
  #bytes = 0
  #changedOutside = 0

  constructor(parts: ExternalBlocksParts) {
    this.#parts = parts
  }

  get status(): ExternalBlocksStatus {
    return { requests: this.#requests, bytes: this.#bytes, changedOutside: this.#changedOutside }
  }

  /** @throws Unavailable when it cannot be had now, or the object is another one by now */
  async read(segment: SegmentId, block: number, slabOffset: number): Promise<number> {
    return await (this.readRun(segment, block, [slabOffset])[0] as Promise<number>)
  }

  readRun(segment: SegmentId, firstBlock: number, slots: readonly number[]): readonly Promise<number>[] {
    const { disk } = this.#parts
    // A cache that fails is no reason not to look further.
    const kept = slots.map(async (slot, index) => disk?.read(segment, firstBlock + index, slot).catch(() => undefined))
    const fetching = this.#fetchMissing(segment, firstBlock, { slots, kept })
    return kept.map(async (look, index) => (await look) ?? ((await fetching)[index]?.() as Promise<number>))
  }

  /** One request for each gap in what is on disk. Of each block that was fetched its outcome, which nobody else is told of. */
  async #fetchMissing(
    segment: SegmentId,
    firstBlock: number,
    { slots, kept }: { readonly slots: readonly number[]; readonly kept: readonly Promise<number | undefined>[] },
  ): Promise<readonly ((() => Promise<number>) | undefined)[]> {
    const lengths = await Promise.all(kept)
    const outcomes: (() => Promise<number>)[] = []
    for (let from = 0; from < slots.length; from++) {
      if (lengths[from] !== undefined) continue
      let to = from + 1
      while (to < slots.length && lengths[to] === undefined) to++
      const first = from
      const run = this.#fetch(segment, firstBlock + first, slots.slice(first, to))
      run.catch(() => undefined)
      for (let index = first; index < to; index++) outcomes[index] = async () => (await run)[index - first] as number
      from = to
    }
    return outcomes
  }

  /** Lengths of blocks that follow each other. */
  async #fetch(segment: SegmentId, firstBlock: number, slots: readonly number[]): Promise<readonly number[]> {
    const { segments, limits, slabView } = this.#parts
    const found = await segments.find(segment)
    if (!found) {
      throw new TidegateError(
        'Unavailable',
        `external segment ${segment} is not known any more: look its object up again`,
      )
    }
    const { attached, body } = found
    const offset = firstBlock * limits.blockBytes
    const lengths = slots.map((_, index) =>
      Math.max(0, Math.min(limits.blockBytes, body.size - offset - index * limits.blockBytes)),
    )
    const views = slots
      .map((slot, index) => slabView(slot, lengths[index] as number))
      .filter(({ length }) => length > 0)
    const wanted = lengths.reduce((sum, length) => sum + length, 0)
    if (wanted === 0) throw new TidegateError('DataLost', `external segment ${segment} ends before block ${firstBlock}`)
    this.#requests++
    const got = await attached.external.read(body, offset, views).catch((cause: unknown) => {
      if (isTidegateError(cause, 'PreconditionFailed') || isTidegateError(cause, 'NoSuchKey')) {
        this.#changedOutside++
        this.#parts.freshness.changedOutside(attached, body.key)
        throw changed(attached.record.bucket, body.key, cause)
      }
      throw unreadable(attached.record.bucket, body.key, cause)
    })
    this.#bytes += got
    if (got !== wanted) throw unreadable(attached.record.bucket, body.key, `${got} bytes of ${wanted} came`)
    for (const [index, view] of views.entries()) this.#keep(segment, firstBlock + index, view)
    return lengths
  }

  #keep(segment: SegmentId, block: number, bytes: Uint8Array): void {
    const { disk, limits } = this.#parts
    if (!disk) return
    const crcs = new Uint32Array(Math.ceil(bytes.length / limits.pageBytes))
    for (let page = 0; page < crcs.length; page++) {
      crcs[page] = crc32(bytes.subarray(page * limits.pageBytes, (page + 1) * limits.pageBytes))
    }
    disk.keep(segment, block, bytes, crcs)
  }
}

/** Sends each segment to where its blocks are. */
export function withExternalBlocks(ours: BlockFetching, external: BlockFetching): BlockFetching {
  const of = (segment: SegmentId): BlockFetching => (isExternalSegment(segment) ? external : ours)
  return {
    read: (segment, block, slabOffset, need) => of(segment).read(segment, block, slabOffset, need),
    readRun: (segment, firstBlock, slots) => of(segment).readRun(segment, firstBlock, slots),
  }
}

function changed(bucket: string, key: string, cause: unknown): TidegateError {
  return new TidegateError('Unavailable', `${JSON.stringify(key)} of bucket ${bucket} was changed outside: try again`, {
    cause,
    details: { bucket, key },
  })
}

function unreadable(bucket: string, key: string, cause: unknown): TidegateError {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new TidegateError(
    'Unavailable',
    `${JSON.stringify(key)} cannot be read from what bucket ${bucket} is attached to: ${why}`,
    {
      cause,
      details: { bucket, key },
    },
  )
}
