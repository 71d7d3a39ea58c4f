/**
 * Objects opened for reading, and their bytes as leases on the slab (see doors.ts, Reading; C12, C13).
 *
 * Holes are served from one slot of zeros, which is taken when the first hole is read and kept. A slice of it has a lease like
 * any other, so that each has a number of its own, but there is nothing to give back.
 */
import { must } from '../common/assert.ts'
import { TidegateError } from '../common/errors.ts'
import type { Revision } from '../common/ids.ts'
import type { Extent, ObjectVersion } from '../common/model.ts'
import type { Memory } from './byte-ports.ts'
import type { Reading } from './doors.ts'
import { versionExtents, type BodyPlaces } from './external-extents.ts'
import { StreamAhead } from './stream-ahead.ts'
import type { ReaderId, SlabSlice } from './types.ts'

interface Reader {
  readonly revision: Revision
  version: ObjectVersion | undefined
  /** A window of the content's extents, around where the last read was. */
  extents: readonly Extent[]
  windowFrom: number
  windowTo: number
  readonly ahead: StreamAhead
}

/** Bytes of content whose extents are asked for at once. */
const EXTENT_WINDOW_BYTES = 256 * 1024 * 1024
/** Fetched ahead of one reader, if the memory allows it: several requests to the remote store at the same time. */
const WINDOW_BYTES_MAX = 32 * 1024 * 1024
/** An external object up to this size comes by one request: a second one would cost more than its bytes. */
const WHOLE_BYTES_MAX = 4 * 1024 * 1024
/** It is filled up by so much: a request to the remote store. */
const WINDOW_STEP_BYTES = 8 * 1024 * 1024
/** Share that one reader may have of the memory for what is fetched ahead. */
const WINDOW_SHARE_MAX = 0.25

export class Readers implements Reading {
  readonly #memory: Memory
  readonly #contents: BodyPlaces
  readonly #blockBytes: number
  readonly #windowBytesMax: number
  readonly #readers = new Map<ReaderId, Reader>()
  /** Offset of a slot of zeros. */
  #zeros: Promise<number> | undefined
  /** Negative, so that none is one of the memory's. */
  #nextZerosLease = -1
  #nextId = 1

  constructor(parts: { memory: Memory; contents: BodyPlaces; blockBytes: number }) {
    this.#memory = parts.memory
    this.#contents = parts.contents
    this.#blockBytes = parts.blockBytes
    this.#windowBytesMax = Math.min(WINDOW_BYTES_MAX, parts.memory.aheadBytesMax * WINDOW_SHARE_MAX)
  }

  get count(): number {
    return this.#readers.size
  }

  /** Registers a reader before its look-up, so that what the look-up finds cannot be reclaimed in between (C12). */
  begin(revision: Revision): ReaderId {
    const id = this.#nextId++
    this.#readers.set(id, {
      revision,
      version: undefined,
      extents: [],
      windowFrom: 0,
      windowTo: 0,
      ahead: new StreamAhead({
        blockBytes: this.#blockBytes,
        windowBytesMax: this.#windowBytesMax,
        stepBytesMax: WINDOW_STEP_BYTES,
      }),
    })
    return id
  }

  opened(id: ReaderId, version: ObjectVersion): void {
    must(this.#readers.get(id), 'reader').version = version
  }

  /** One more reader, for an object that was found after `holder` was begun and while it is open. */
  openWith(holder: ReaderId, version: ObjectVersion): ReaderId {
    const id = this.begin(must(this.#readers.get(holder), 'reader').revision)
    this.opened(id, version)
    return id
  }

  /** The oldest revision that is still being read, or `now` when nothing is. */
  horizon(now: Revision): Revision {
    let oldest = now
    for (const reader of this.#readers.values()) if (reader.revision < oldest) oldest = reader.revision
    return oldest
  }

  version(id: ReaderId): ObjectVersion {
    const version = this.#readers.get(id)?.version
    if (!version) throw new TidegateError('InvalidRequest', `there is no open reader ${id}`)
    return version
  }

  async read(id: ReaderId, offset: number, length: number): Promise<SlabSlice> {
    const version = this.version(id)
    const { size } = version
    const reader = must(this.#readers.get(id), 'reader')
    if (version.body.kind === 'inline')
      throw new TidegateError('InvalidRequest', 'an inline body comes with its version')
    if (offset < 0 || length < 1 || offset >= size) {
      throw new TidegateError('InvalidRange', `${length} bytes at ${offset} of ${size}`)
    }
    const { extent, holeEnd } = await this.#extentAt(reader, version, offset)
    const askedTo = Math.min(offset + length, size)
    if (!extent) {
      const zeros = Math.min(length, holeEnd - offset, this.#blockBytes)
      this.#readAhead(reader, { offset, end: offset + zeros, askedTo, size })
      return await this.#zerosOf(zeros)
    }
    const segmentOffset = extent.segmentOffset + offset - extent.offset
    const block = Math.floor(segmentOffset / this.#blockBytes)
    const within = segmentOffset - block * this.#blockBytes
    const available = Math.min(length, extent.offset + extent.length - offset, this.#blockBytes - within)
    const isShort = version.body.kind === 'external' && size <= WHOLE_BYTES_MAX
    if (isShort && size > this.#blockBytes) this.#prefetch(reader, 0, size)
    // The block that is waited for is asked for first, what comes after it right behind.
    const lending = this.#memory.lend(extent.segment, block, within + available)
    this.#readAhead(reader, { offset, end: offset + available, askedTo, size })
    const lent = await lending
    return { slabOffset: lent.slabOffset + within, length: available, lease: lent.lease }
  }

  #readAhead(reader: Reader, read: Parameters<StreamAhead['next']>[0]): void {
    const range = reader.ahead.next(read)
    if (!range) return
    const reached = this.#prefetch(reader, range.from, range.to)
    if (reached > range.from) reader.ahead.fetched(reached)
  }

  /** Fetches what the known extents have in that range; returns how far that went. */
  #prefetch(reader: Reader, from: number, to: number): number {
    const { extents } = reader
    const end = Math.min(to, reader.windowTo)
    for (let index = indexEndingAfter(extents, from); index < extents.length; index++) {
      const extent = extents[index] as Extent
      if (extent.offset >= end) break
      const shift = extent.segmentOffset - extent.offset
      const first = Math.floor((Math.max(from, extent.offset) + shift) / this.#blockBytes)
      const last = Math.floor((Math.min(end, extent.offset + extent.length) + shift - 1) / this.#blockBytes)
      const covered = this.#memory.prefetch(extent.segment, first, last - first + 1)
      if (covered <= last - first) return Math.max(from, (first + covered) * this.#blockBytes - shift)
    }
    return end
  }

  /** The extent that holds the offset, or how far the hole reaches, as far as is known. */
  async #extentAt(
    reader: Reader,
    version: ObjectVersion,
    offset: number,
  ): Promise<{ extent: Extent | undefined; holeEnd: number }> {
    // Before its end is reached, so that what is fetched ahead does not end there.
    const windowEnd = reader.windowTo < version.size ? reader.windowTo - this.#windowBytesMax : version.size
    if (offset < reader.windowFrom || offset >= windowEnd) {
      reader.extents = await versionExtents(this.#contents, version, { offset, length: EXTENT_WINDOW_BYTES })
      reader.windowFrom = offset
      reader.windowTo = Math.min(offset + EXTENT_WINDOW_BYTES, version.size)
    }
    const next = reader.extents[indexEndingAfter(reader.extents, offset)]
    if (next && next.offset <= offset) return { extent: next, holeEnd: offset }
    return { extent: undefined, holeEnd: Math.min(next?.offset ?? reader.windowTo, reader.windowTo) }
  }

  async #zerosOf(length: number): Promise<SlabSlice> {
    this.#zeros ??= this.#takeZeros()
    const slabOffset = await this.#zeros
    return { slabOffset, length, lease: this.#nextZerosLease-- }
  }

  async #takeZeros(): Promise<number> {
    try {
      const slabOffset = await this.#memory.acquire('stream')
      this.#memory.view(slabOffset, this.#blockBytes).fill(0)
      return slabOffset
    } catch (error) {
      this.#zeros = undefined
      throw error
    }
  }

  view(slice: SlabSlice): Uint8Array {
    return this.#memory.view(slice.slabOffset, slice.length)
  }

  release(lease: number): void {
    if (lease > 0) this.#memory.giveBack(lease)
  }

  close(id: ReaderId): void {
    this.#readers.delete(id)
  }
}

/** Of the first extent that ends after the offset; their number when there is none. */
function indexEndingAfter(extents: readonly Extent[], offset: number): number {
  let low = 0
  let high = extents.length
  while (low < high) {
    const middle = (low + high) >> 1
    const extent = extents[middle] as Extent
    if (extent.offset + extent.length <= offset) low = middle + 1
    else high = middle
  }
  return low
}
