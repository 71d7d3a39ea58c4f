/**
 * What the disk level knows of each of its files: which blocks are in it, where, with which checksums, and how often each was used.
 * A file is a pack (pack-format.ts) or a whole segment (the segment format). In both, a block has an ordinal: in a pack its place in the
 * order of writing, in a whole segment its number there. Pure state; with its
 * place in the index a block in a pack takes about 240 bytes of memory, one in a whole segment 65.
 */
import { assert, must } from '../../common/assert.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { SealedBytes } from '../ports.ts'
import { pagesOf, type PackGeometry, type PackRecord } from './pack-format.ts'

export interface StoredBlock {
  readonly segment: SegmentId
  readonly block: number
  readonly position: number
  readonly length: number
}

export interface BlockFile {
  /** Larger in younger files. */
  readonly sequence: number
  readonly path: string
  readonly pageBytes: number
  /** What it takes on disk, rounded up; grows while a pack is written. */
  bytes: number
  /** By ordinal: uses since it came to its queue, at most 3. */
  readonly uses: Uint8Array
  /** Resolves with whether it did come; undefined once it is there. */
  arriving: Promise<boolean> | undefined
  /** No longer found by anybody: its blocks are misses, and its file goes when the last reader has ended. */
  gone: boolean
  at(ordinal: number): StoredBlock
  pageCrcs(ordinal: number): Uint32Array
  /** The block is of no use any more. */
  drop(ordinal: number): void
  /** Of the blocks that are. */
  ordinals(): Iterable<number>
  readonly liveBlocks: number
}

export class WholeSegment implements BlockFile {
  readonly sequence: number
  readonly path: string
  readonly segment: SegmentId
  bytes: number
  readonly uses: Uint8Array
  arriving: Promise<boolean> | undefined
  gone = false
  readonly #sealed: SealedBytes
  readonly #blockBytes: number
  readonly #dropped = new Set<number>()

  constructor(
    place: { sequence: number; path: string; segment: SegmentId; bytes: number },
    sealed: SealedBytes,
    blockBytes: number,
  ) {
    this.sequence = place.sequence
    this.path = place.path
    this.segment = place.segment
    this.bytes = place.bytes
    this.#sealed = sealed
    this.#blockBytes = blockBytes
    this.uses = new Uint8Array(Math.ceil(sealed.dataBytes / blockBytes))
  }

  get pageBytes(): number {
    return this.#sealed.pageBytes
  }

  get liveBlocks(): number {
    return this.uses.length - this.#dropped.size
  }

  has(block: number): boolean {
    return block < this.uses.length && !this.#dropped.has(block)
  }

  at(ordinal: number): StoredBlock {
    const position = ordinal * this.#blockBytes
    const length = Math.min(this.#blockBytes, this.#sealed.dataBytes - position)
    return { segment: this.segment, block: ordinal, position, length }
  }

  pageCrcs(ordinal: number): Uint32Array {
    const { position, length } = this.at(ordinal)
    const first = position / this.pageBytes
    return this.#sealed.pageCrcs.subarray(first, first + pagesOf(length, this.pageBytes))
  }

  drop(ordinal: number): void {
    this.#dropped.add(ordinal)
  }

  *ordinals(): Iterable<number> {
    for (let ordinal = 0; ordinal < this.uses.length; ordinal++) if (this.has(ordinal)) yield ordinal
  }
}

const FIRST_RECORDS_MAX = 64

export class Pack implements BlockFile {
  readonly sequence: number
  readonly path: string
  bytes: number
  uses = new Uint8Array(FIRST_RECORDS_MAX)
  arriving: undefined
  gone = false
  readonly #geometry: PackGeometry
  readonly #segments: SegmentId[] = []
  readonly #blocks: number[] = []
  readonly #positions: number[] = []
  readonly #lengths: number[] = []
  /** For each record as many as a whole block has pages: arrays of their own would take three times the memory. */
  #crcs: Uint32Array
  readonly #dropped = new Set<number>()

  constructor(place: { sequence: number; path: string; bytes: number }, geometry: PackGeometry) {
    this.sequence = place.sequence
    this.path = place.path
    this.bytes = place.bytes
    this.#geometry = geometry
    this.#crcs = new Uint32Array(FIRST_RECORDS_MAX * this.#pagesMax)
  }

  get #pagesMax(): number {
    return this.#geometry.blockBytes / this.#geometry.pageBytes
  }

  get pageBytes(): number {
    return this.#geometry.pageBytes
  }

  get liveBlocks(): number {
    return this.#segments.length - this.#dropped.size
  }

  /** Returns its ordinal. */
  add(record: PackRecord): number {
    const ordinal = this.#segments.length
    if (ordinal === this.uses.length) this.#grow()
    this.#segments.push(record.segment)
    this.#blocks.push(record.block)
    this.#positions.push(record.position)
    this.#lengths.push(record.length)
    this.#crcs.set(record.pageCrcs, ordinal * this.#pagesMax)
    return ordinal
  }

  #grow(): void {
    const { uses } = this
    this.uses = new Uint8Array(uses.length * 2)
    this.uses.set(uses)
    const crcs = this.#crcs
    this.#crcs = new Uint32Array(crcs.length * 2)
    this.#crcs.set(crcs)
  }

  at(ordinal: number): StoredBlock {
    assert(ordinal < this.#segments.length, 'a block of the pack')
    return {
      segment: must(this.#segments[ordinal], 'segment'),
      block: must(this.#blocks[ordinal], 'block'),
      position: must(this.#positions[ordinal], 'position'),
      length: must(this.#lengths[ordinal], 'length'),
    }
  }

  pageCrcs(ordinal: number): Uint32Array {
    const first = ordinal * this.#pagesMax
    return this.#crcs.subarray(first, first + pagesOf(this.at(ordinal).length, this.pageBytes))
  }

  drop(ordinal: number): void {
    this.#dropped.add(ordinal)
  }

  *ordinals(): Iterable<number> {
    for (let ordinal = 0; ordinal < this.#segments.length; ordinal++) if (!this.#dropped.has(ordinal)) yield ordinal
  }

  /** For the footer. */
  records(): PackRecord[] {
    return [...this.ordinals()].map((ordinal) => ({ ...this.at(ordinal), pageCrcs: this.pageCrcs(ordinal) }))
  }
}
