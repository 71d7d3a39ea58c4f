/**
 * A segment of its own for one large body (C22). Blocks go to the device as they fill; the footer is written and synced
 * at the end, and only then may the body be published. Until then the file is worthless, and recovery removes it.
 *
 * One that is copied has its row, which names the partner, before its first byte is sent. If the partner fails the body goes on without it, and whoever wants it copied has
 * the whole file sent, once it is finished (copies/recopier.ts).
 */
import { crc32 } from '../../common/crc32.ts'
import { assert, must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ContentId, SegmentId } from '../../common/ids.ts'
import type { Limits } from '../../common/limits.ts'
import type { StoredRun } from '../../common/model.ts'
import type { OutgoingCopy } from '../copies/ports.ts'
import type { DeviceResult, JournalDevice } from './device.ts'
import { deviceError } from './device-error.ts'
import { encodeFooter } from './format.ts'

export interface BodyStreamParts {
  readonly device: JournalDevice
  readonly limits: Limits
  readonly slabView: (slabOffset: number, length: number) => Uint8Array
  readonly path: string
  readonly directory: string
  /** Tells metadata of the sealed segment, in order before the publish that names it. */
  readonly record: (segment: SegmentId, dataBytes: number) => Promise<void>
  /** Opens its copy on another node, and its row before that; undefined: no node takes it. Never rejects. Absent: it is not copied. */
  readonly copy?: ((segment: SegmentId) => Promise<OutgoingCopy | undefined>) | undefined
}

/** Dirty bytes that may wait for the final sync; a body is synced along the way so that its end does not stall. */
const SYNC_EVERY_BYTES = 32 * 1024 * 1024

export class BodyStream {
  readonly segment: SegmentId
  readonly #content: ContentId
  readonly #parts: BodyStreamParts
  readonly #pageCrcs: number[] = []
  /** Metadata may know the segment. */
  recorded = false
  #length = 0
  #unsyncedBytes = 0
  #failure: DeviceResult['error']
  #lastWrite: Promise<unknown>
  #ended = false
  readonly #copy: Promise<OutgoingCopy | undefined> | undefined

  constructor(parts: BodyStreamParts, segment: SegmentId, body: { content: ContentId }) {
    this.#parts = parts
    this.segment = segment
    this.#content = body.content
    const { path, directory } = parts
    this.#lastWrite = parts.device.submit([{ kind: 'create', segment, path, directory }]).then((r) => this.#collect(r))
    this.#copy = parts.copy?.(segment)
    if (this.#copy) this.recorded = true
  }

  get length(): number {
    return this.#length
  }

  /**
   * Writes one block from the slab; all but the last are whole. Resolves when the kernel has the bytes and the slot may be
   * reused. @throws StorageFull, Unavailable
   */
  async write(slabOffset: number, length: number): Promise<void> {
    const { device, limits, slabView } = this.#parts
    assert(!this.#ended && this.#length % limits.blockBytes === 0, 'only the last block of a body may be short')
    const position = this.#length
    this.#length += length
    this.#unsyncedBytes += length
    const rest = length % limits.pageBytes
    if (rest > 0) {
      const page = Math.floor(this.#length / limits.pageBytes)
      this.#pageCrcs[page] = crc32(slabView(slabOffset + length - rest, rest))
    }
    const { segment } = this
    const written = device
      .submit([{ kind: 'write', segment, position, slabOffset, length }])
      .then((r) => this.#collect(r))
    this.#lastWrite = written
    if (this.#unsyncedBytes >= SYNC_EVERY_BYTES) {
      this.#unsyncedBytes = 0
      this.#lastWrite = device.submit([{ kind: 'sync', segment }]).then((r) => this.#collect(r))
    }
    // The slot is read from until the partner has it.
    const copied = this.#copy?.then((copy) => copy?.write([slabView(slabOffset, length)]))
    await written
    if (copied) await copied
    this.#throwIfFailed()
  }

  /** Footer and sync: the body is durable. */
  async finish(label: string): Promise<StoredRun> {
    this.#ended = true
    await this.#lastWrite
    this.#throwIfFailed()
    const copy = this.#copy && (await this.#copy)
    const { segment } = this
    const dataBytes = this.#length
    const { pageBytes } = this.#parts.limits
    const pages = Math.ceil(dataBytes / pageBytes)
    const pageCrcs = Uint32Array.from({ length: pages }, (_, page) =>
      must(this.#pageCrcs[page], `checksum of page ${page}`),
    )
    const bodies = [{ content: this.#content, offset: 0, length: dataBytes, label }]
    const footer = encodeFooter({ segment, dataBytes, pageBytes, pageCrcs, bodies })
    const copied = copy?.seal(footer)
    const results = await this.#parts.device.submit([
      { kind: 'append', segment, position: dataBytes, bytes: footer },
      { kind: 'sync', segment },
      { kind: 'close', segment },
    ])
    this.#collect(results)
    this.#throwIfFailed()
    this.recorded = true
    await this.#parts.record(segment, dataBytes)
    if (copied) await copied
    return { content: this.#content, segment, segmentOffset: 0, length: dataBytes }
  }

  /** Gives the file handle back; the caller removes the file. Waits for what is under way, so that no slot is written from later. */
  async abandon(): Promise<void> {
    this.#failure ??= { code: 'ECANCELED', message: 'the body was discarded' }
    if (!this.#ended) await this.#lastWrite
    this.#ended = true
    if (this.#copy) await (await this.#copy)?.abandon()
    await this.#parts.device.submit([{ kind: 'close', segment: this.segment }])
  }

  #collect(results: readonly DeviceResult[]): void {
    for (const result of results) {
      this.#failure ??= result.error
      for (const [page, crc] of result.pages ?? []) this.#pageCrcs[page] = crc
    }
  }

  #throwIfFailed(): void {
    if (!this.#failure) return
    if (this.#failure.code === 'ECANCELED') throw new TidegateError('RequestTimeout', this.#failure.message)
    throw deviceError(this.segment, this.#failure)
  }
}
