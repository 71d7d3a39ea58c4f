/**
 * One open segment that many bodies share (C22). Appends come one after another (the journal sees to that); each copies
 * frame, label and body to the tail in the slab and hands the bytes to the device. A body is readable from memory at
 * once and durable when a sync that was submitted after it has been answered.
 *
 *   open --append--> open --seal--> sealed
 *     \--a write or sync failed--> failed   (keeps what was synced before; recovery or `seal` cuts the rest)
 */
import { crc32 } from '../../common/crc32.ts'
import { assert, must } from '../../common/assert.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { Limits } from '../../common/limits.ts'
import type { StoredRun } from '../../common/model.ts'
import type { OutgoingCopy } from '../copies/ports.ts'
import type { BlockMemory, SegmentBody } from '../ports.ts'
import type { DeviceOperation, DeviceResult, JournalDevice } from './device.ts'
import { deviceError } from './device-error.ts'
import { alignFrame, encodeFooter, encodeFrame, FRAME_BYTES } from './format.ts'

export interface AppendRequest {
  readonly content: number
  readonly label: string
  /** Pieces of the body, in order; copied before `append` settles. */
  readonly pieces: readonly Uint8Array[]
  readonly length: number
  /** CRC-32 of the whole body. */
  readonly bodyCrc: number
}

export interface SharedSegmentParts {
  readonly device: JournalDevice
  readonly memory: BlockMemory
  readonly limits: Limits
  readonly slabView: (slabOffset: number, length: number) => Uint8Array
  /** Another node is sent the same bytes. */
  readonly copy?: OutgoingCopy | undefined
}

export class SharedSegment {
  readonly segment: SegmentId
  #tail = 0
  #durableTail = 0
  #failure: DeviceResult['error']
  #sealing: Promise<number> | undefined
  readonly #parts: SharedSegmentParts
  readonly #blocks: number[] = []
  readonly #pageCrcs: number[] = []
  readonly #bodies: SegmentBody[] = []
  /** Settles when the last write that was submitted has been answered. */
  #writing: Promise<unknown> = Promise.resolve()
  #settledBlocks = 0
  /** How far the partner has it; blocks that are still to be sent stay where they are. */
  #copiedTo = 0
  /** Settles when nothing of it is sent any more. */
  #copyEnded: Promise<unknown> | undefined

  constructor(parts: SharedSegmentParts, segment: SegmentId) {
    this.#parts = parts
    this.segment = segment
  }

  get bytes(): number {
    return this.#tail
  }

  get failed(): boolean {
    return this.#failure !== undefined
  }

  /** Its partner failed: what comes next goes into another segment. */
  get isCopyLost(): boolean {
    return this.#parts.copy?.failed === true
  }

  /** End of what the last good sync made durable: where a broken segment is cut. */
  get durableBytes(): number {
    return this.#durableTail
  }

  get sealing(): boolean {
    return this.#sealing !== undefined
  }

  /** Whether everything appended so far is durable. */
  get durable(): boolean {
    return this.#durableTail === this.#tail
  }

  /** Copies the body to the tail and submits its write. Settles when the bytes are in the slab; one at a time. */
  async append(request: AppendRequest): Promise<StoredRun> {
    assert(!this.#sealing, 'append to a segment that is being sealed')
    const label = Buffer.from(request.label, 'utf8')
    const frameStart = alignFrame(this.#tail)
    const offset = frameStart + FRAME_BYTES + label.length
    const end = offset + request.length
    await this.#extend(end)
    const frame = encodeFrame(this.segment, {
      labelBytes: label.length,
      bodyBytes: request.length,
      labelCrc: crc32(label),
      bodyCrc: request.bodyCrc,
      content: request.content,
    })
    let at = this.#tail
    if (frameStart > at) at = this.#copy(Buffer.alloc(frameStart - at), at)
    at = this.#copy(frame, at)
    at = this.#copy(label, at)
    for (const piece of request.pieces) at = this.#copy(piece, at)
    assert(at === end, `body of ${request.length} bytes has pieces of another length`)
    this.#submitWrites(this.#tail, end)
    this.#tail = end
    this.#bodies.push({ content: request.content, offset, length: request.length, label: request.label })
    this.#publishBlocks(frameStart)
    return { content: request.content, segment: this.segment, segmentOffset: offset, length: request.length }
  }

  /** Acquires slots until the segment's memory reaches `end`. */
  async #extend(end: number): Promise<void> {
    const { blockBytes } = this.#parts.limits
    while (this.#blocks.length * blockBytes < end) this.#blocks.push(await this.#parts.memory.acquire('journal'))
  }

  #copy(bytes: Uint8Array, at: number): number {
    const { blockBytes } = this.#parts.limits
    let from = 0
    while (from < bytes.length) {
      const within = (at + from) % blockBytes
      const length = Math.min(bytes.length - from, blockBytes - within)
      const slot = must(this.#blocks[Math.floor((at + from) / blockBytes)], 'slot of the tail')
      this.#parts.slabView(slot + within, length).set(bytes.subarray(from, from + length))
      from += length
    }
    return at + bytes.length
  }

  #submitWrites(from: number, to: number): void {
    const { blockBytes } = this.#parts.limits
    const operations: DeviceOperation[] = []
    for (let position = from; position < to;) {
      const within = position % blockBytes
      const length = Math.min(to - position, blockBytes - within)
      const slabOffset = must(this.#blocks[Math.floor(position / blockBytes)], 'slot of the tail') + within
      operations.push({ kind: 'write', segment: this.segment, position, slabOffset, length })
      position += length
    }
    this.#writing = this.#parts.device.submit(operations).then((results) => {
      this.#collect(results)
      this.#settleFullBlocks(to)
    })
    if (this.#parts.copy) this.#submitCopy(this.#parts.copy, { operations, to })
  }

  #submitCopy(
    copy: OutgoingCopy,
    { operations, to }: { readonly operations: readonly DeviceOperation[]; readonly to: number },
  ): void {
    const writing = this.#writing
    const pieces = operations.flatMap((operation) =>
      operation.kind === 'write' ? [this.#parts.slabView(operation.slabOffset, operation.length)] : [],
    )
    const copied = copy.write(pieces).then(async () => {
      this.#copiedTo = Math.max(this.#copiedTo, to)
      await writing
      this.#settleFullBlocks(to)
    })
    this.#copyEnded = Promise.all([this.#copyEnded, copied])
  }

  #collect(results: readonly DeviceResult[]): void {
    for (const result of results) {
      this.#failure ??= result.error
      for (const [page, crc] of result.pages ?? []) this.#pageCrcs[page] = crc
    }
  }

  /** Readers find the tail's blocks in memory, as far as they are written. */
  #publishBlocks(from: number): void {
    const { blockBytes } = this.#parts.limits
    for (let block = Math.floor(from / blockBytes); block * blockBytes < this.#tail; block++) {
      const length = Math.min(blockBytes, this.#tail - block * blockBytes)
      this.#parts.memory.publish(this.segment, block, must(this.#blocks[block], 'slot of the tail'), length)
    }
  }

  /** A full block whose bytes the kernel has may be evicted: it can be read back from the file. */
  #settleFullBlocks(writtenTo: number): void {
    if (this.#failure) return
    const { limits, copy } = this.#parts
    const { blockBytes } = limits
    const settledTo = copy ? Math.min(writtenTo, this.#copiedTo) : writtenTo
    while ((this.#settledBlocks + 1) * blockBytes <= settledTo) {
      this.#parts.memory.settle(this.segment, this.#settledBlocks++)
    }
  }

  /** Resolves when everything appended before the call is durable. @throws StorageFull, Unavailable */
  async sync(): Promise<void> {
    const tail = this.#tail
    if (this.#durableTail >= tail) return
    // Sealing syncs too, and then closes the file: a sync that comes after it must not be sent behind the close.
    if (this.#sealing) await this.#sealing.catch(() => undefined)
    if (this.#durableTail >= tail) return
    if (this.#failure) throw deviceError(this.segment, this.#failure)
    const results = await this.#parts.device.submit([{ kind: 'sync', segment: this.segment }])
    await this.#writing
    this.#collect(results)
    if (this.#failure) throw deviceError(this.segment, this.#failure)
    this.#durableTail = Math.max(this.#durableTail, tail)
  }

  /** Checksum of a completed page, for readers of a block that was evicted while the segment is open. */
  pageCrc(page: number): number | undefined {
    return this.#pageCrcs[page]
  }

  /**
   * Writes the footer after the last durable byte and syncs. After a failure everything past the last good sync is cut.
   * Returns the bytes of the data region. May be called again after it threw.
   */
  seal(): Promise<number> {
    this.#sealing ??= this.#seal().catch((error: unknown) => {
      this.#sealing = undefined
      this.#failure ??= { code: 'EIO', message: (error as Error).message }
      throw error
    })
    return this.#sealing
  }

  async #seal(): Promise<number> {
    await this.#writing
    if (this.#failure) throw deviceError(this.segment, this.#failure)
    const { segment } = this
    const dataBytes = this.#tail
    const footer = encodeFooter({
      segment,
      dataBytes,
      pageBytes: this.#parts.limits.pageBytes,
      pageCrcs: this.#allPageCrcs(dataBytes),
      bodies: this.#bodies,
    })
    const { copy } = this.#parts
    if (copy) this.#copyEnded = Promise.all([this.#copyEnded, copy.failed ? copy.abandon() : copy.seal(footer)])
    const results = await this.#parts.device.submit([
      { kind: 'append', segment, position: dataBytes, bytes: footer },
      { kind: 'sync', segment },
      { kind: 'close', segment },
    ])
    this.#collect(results)
    if (this.#failure) throw deviceError(segment, this.#failure)
    this.#durableTail = dataBytes
    return dataBytes
  }

  /** Resolves when nothing of it is sent to its partner any more, in a bounded time. */
  async copyEnded(): Promise<void> {
    const { copy } = this.#parts
    if (!copy) return
    if (this.#failure) await copy.abandon()
    await this.#copyEnded
  }

  /** No more of it is sent. Resolves when its memory is not read for that any more. */
  async abandonCopy(): Promise<void> {
    await this.#parts.copy?.abandon()
    await this.#copyEnded
  }

  get isCopied(): boolean {
    return this.#parts.copy !== undefined
  }

  #allPageCrcs(dataBytes: number): Uint32Array {
    const { pageBytes, blockBytes } = this.#parts.limits
    const crcs = new Uint32Array(Math.ceil(dataBytes / pageBytes))
    for (let page = 0; page < crcs.length; page++) {
      const start = page * pageBytes
      const length = Math.min(pageBytes, dataBytes - start)
      if (length === pageBytes) {
        crcs[page] = must(this.#pageCrcs[page], `checksum of page ${page}`)
      } else {
        const slot = must(this.#blocks[Math.floor(start / blockBytes)], 'slot of the last page')
        crcs[page] = crc32(this.#parts.slabView(slot + (start % blockBytes), length))
      }
    }
    return crcs
  }

  /** After sealing and adoption nothing is pinned any more. */
  settleAll(): void {
    for (; this.#settledBlocks < this.#blocks.length; this.#settledBlocks++) {
      if (this.#settledBlocks * this.#parts.limits.blockBytes < this.#tail) {
        this.#parts.memory.settle(this.segment, this.#settledBlocks)
      } else {
        this.#parts.memory.release(must(this.#blocks[this.#settledBlocks], 'slot'))
      }
    }
  }
}
