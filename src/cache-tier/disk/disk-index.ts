/**
 * Where each block of the disk level is. In memory, and made anew from the files' own tables at each start: why not a database, with
 * figures, is in docs/decisions/0014-disk-level-index.md. Pure state.
 */
import { must } from '../../common/assert.ts'
import type { SegmentId } from '../../common/ids.ts'
import { WholeSegment, type BlockFile, type Pack } from './block-files.ts'
import type { PackRecord } from './pack-format.ts'

export interface BlockPlace {
  readonly file: BlockFile
  readonly ordinal: number
}

interface SegmentPlaces {
  whole: WholeSegment | undefined
  /** Blocks in packs. */
  readonly packed: Map<number, BlockPlace>
}

export class DiskIndex {
  readonly #segments = new Map<SegmentId, SegmentPlaces>()
  #blocks = 0

  /** Blocks that can be found. */
  get blocks(): number {
    return this.#blocks
  }

  find(segment: SegmentId, block: number): BlockPlace | undefined {
    const places = this.#segments.get(segment)
    if (!places) return undefined
    if (places.whole?.has(block)) return { file: places.whole, ordinal: block }
    return places.packed.get(block)
  }

  hasWhole(segment: SegmentId): boolean {
    return this.#segments.get(segment)?.whole !== undefined
  }

  /** Every place of a segment's blocks. */
  *ofSegment(segment: SegmentId): Iterable<BlockPlace> {
    const places = this.#segments.get(segment)
    if (!places) return
    if (places.whole) for (const ordinal of places.whole.ordinals()) yield { file: places.whole, ordinal }
    yield* places.packed.values()
  }

  addWhole(file: WholeSegment): void {
    this.#places(file.segment).whole = file
    this.#blocks += file.liveBlocks
  }

  /** Adds a record to the pack and to the index; of two copies of a block the later one is found. */
  addPacked(pack: Pack, record: PackRecord): BlockPlace {
    const places = this.#places(record.segment)
    const before = places.packed.get(record.block)
    if (before) this.drop(before)
    const place = { file: pack, ordinal: pack.add(record) }
    places.packed.set(record.block, place)
    this.#blocks++
    // `drop` may have emptied the entry and taken it out.
    this.#segments.set(record.segment, places)
    return place
  }

  drop({ file, ordinal }: BlockPlace): void {
    const { segment, block } = file.at(ordinal)
    file.drop(ordinal)
    this.#blocks--
    const places = must(this.#segments.get(segment), 'places of a segment')
    if (file instanceof WholeSegment) {
      if (file.liveBlocks === 0) places.whole = undefined
    } else {
      places.packed.delete(block)
    }
    if (places.whole === undefined && places.packed.size === 0) this.#segments.delete(segment)
  }

  /** Takes out all blocks of a file. */
  dropFile(file: BlockFile): void {
    for (const ordinal of file.ordinals()) this.drop({ file, ordinal })
  }

  #places(segment: SegmentId): SegmentPlaces {
    let places = this.#segments.get(segment)
    if (!places) this.#segments.set(segment, (places = { whole: undefined, packed: new Map() }))
    return places
  }
}
