/**
 * Blocks of segments that lie in the remote store: one request for several that follow each other, each given out as soon as it is
 * there and its pages are checked (C14). The checksums come from the segment's page table, a range of its footer that has a checksum of
 * its own (../journal/format.ts); a segment from before there was one costs its whole footer once.
 *
 * A block that fails is fetched once more by itself. What fails again is DataLost, and so is a segment that is not there: the
 * remote store said that it had it. All else that goes wrong there is Unavailable, since the bytes may well be there tomorrow.
 */
import { isTidegateError, TidegateError } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { Limits } from '../../common/limits.ts'
import {
  decodeFooter,
  decodePageTable,
  pageTableBytes,
  readTrailer,
  TRAILER_BYTES,
  type Footer,
} from '../journal/format.ts'
import type { SegmentIndex } from '../ports.ts'
import { segmentObjectName, type RemoteStore } from '../remote/ports.ts'
import { PageTables } from './page-tables.ts'
import type { DiskBlocks, PageTable, PageVerifier } from './ports.ts'
import type { RemoteHealth } from './remote-health.ts'

export interface RemoteSegmentsOptions {
  readonly remote: Pick<RemoteStore, 'description' | 'read' | 'stat'>
  readonly health: RemoteHealth
  readonly index: Pick<SegmentIndex, 'segment'>
  readonly verifier: PageVerifier
  readonly limits: Limits
  readonly slabView: (slabOffset: number, length: number) => Uint8Array
  readonly onBadBlock: (segment: SegmentId, block: number) => void
  /** Keeps blocks that were fetched. */
  readonly disk?: DiskBlocks | undefined
  /** Page tables that are held, in bytes. */
  readonly tableBytesMax?: number
}

interface SlotForBlock {
  readonly block: number
  readonly slabOffset: number
  readonly length: number
}

/** Time that a request may take beside that for its bytes; what the provider retries is within it. */
const CALL_MS = 10_000
/** A remote store that brings fewer bytes a second than this is as good as down. */
const SLOWEST_BYTES_PER_MS = 512
const TABLE_BYTES_MAX = 16 * 1024 * 1024
/** No footer comes near: bodies in a segment are bounded by its bytes, and a label by the length of a key. */
const FOOTER_BYTES_MAX = 512 * 1024 * 1024

export class RemoteSegments {
  readonly #options: RemoteSegmentsOptions
  readonly #tables: PageTables

  constructor(options: RemoteSegmentsOptions) {
    this.#options = options
    this.#tables = new PageTables(options.tableBytesMax ?? TABLE_BYTES_MAX)
  }

  /**
   * Fills slots with blocks that follow each other, by one request. Each promise resolves with the length of its block, as soon as that
   * one is there and checked; a block that is bad fails alone. @throws DataLost, Unavailable, SlowDown
   */
  read(segment: SegmentId, firstBlock: number, slots: readonly number[]): readonly Promise<number>[] {
    const filled = slots.map(() => Promise.withResolvers<void>())
    const asking = this.#ask(segment, { firstBlock, slots, onFilled: (index) => filled[index]?.resolve() })
    return slots.map(async (_, index) => {
      const { loading, blocks, reading } = await asking
      const slot = blocks[index]
      if (!slot) throw dataLost(segment, `it ends before block ${firstBlock + index}`)
      // Told of on the way, or by the end of it all: a failure is told when the slot is not written to any more.
      const arriving = Promise.race([filled[index]?.promise, reading])
      const [table, got] = await Promise.allSettled([loading, arriving])
      if (got.status === 'rejected') throw got.reason
      if (table.status === 'rejected') throw table.reason
      const end = index * this.#options.limits.blockBytes + slot.length
      return await this.#checked(segment, table.value, slot, got.value === undefined || got.value >= end)
    })
  }

  /** Table and bytes at the same time: neither waits for the other. `reading` resolves with how many bytes came. */
  async #ask(
    segment: SegmentId,
    run: {
      readonly firstBlock: number
      readonly slots: readonly number[]
      readonly onFilled: (index: number) => void
    },
  ): Promise<{
    readonly blocks: readonly SlotForBlock[]
    readonly loading: PageTable | Promise<PageTable>
    readonly reading: Promise<number>
  }> {
    const { blockBytes } = this.#options.limits
    const dataBytes = await this.#dataBytes(segment)
    const blocks = run.slots
      .map((slabOffset, index) => {
        const block = run.firstBlock + index
        return { block, slabOffset, length: Math.min(blockBytes, dataBytes - block * blockBytes) }
      })
      .filter(({ length }) => length > 0)
    // Nobody would hear what becomes of a request.
    if (blocks.length === 0) throw dataLost(segment, `it ends before block ${run.firstBlock}`)
    const loading = this.#tables.get(segment, () => this.#loadTable(segment, dataBytes))
    return { blocks, loading, reading: this.#readBlocks(segment, blocks, run.onFilled) }
  }

  async #dataBytes(segment: SegmentId): Promise<number> {
    const record = await this.#options.index.segment(segment)
    if (!record) throw dataLost(segment, 'metadata does not know it')
    return record.bytes
  }

  /** Resolves with the length of the block once its pages are right. */
  async #checked(segment: SegmentId, table: PageTable, slot: SlotForBlock, isWhole: boolean): Promise<number> {
    const { disk, limits, onBadBlock, slabView } = this.#options
    const firstPage = (slot.block * limits.blockBytes) / table.pageBytes
    const pageCrcs = table.pageCrcs.subarray(firstPage, firstPage + Math.ceil(slot.length / table.pageBytes))
    const isGood = async (whole: boolean): Promise<boolean> => {
      if (whole && (await this.#options.verifier.verifyPages(slot, table.pageBytes, pageCrcs))) return true
      onBadBlock(segment, slot.block)
      return false
    }
    if (!(await isGood(isWhole)) && !(await isGood((await this.#readBlocks(segment, [slot])) === slot.length))) {
      throw dataLost(segment, `block ${slot.block} fails its checksum`, slot.block)
    }
    if (table.pageBytes === limits.pageBytes) {
      disk?.keep(segment, slot.block, slabView(slot.slabOffset, slot.length), pageCrcs)
    }
    return slot.length
  }

  /** Bytes read, from the start of the first block on. */
  async #readBlocks(
    segment: SegmentId,
    blocks: readonly SlotForBlock[],
    onFilled?: (index: number) => void,
  ): Promise<number> {
    const { limits, slabView } = this.#options
    const into = blocks.map(({ slabOffset, length }) => slabView(slabOffset, length))
    return await this.#readRange(segment, {
      offset: (blocks[0] as SlotForBlock).block * limits.blockBytes,
      into,
      onFilled,
    })
  }

  async #loadTable(segment: SegmentId, dataBytes: number): Promise<PageTable> {
    const shape = { segment, dataBytes, pageBytes: this.#options.limits.pageBytes }
    const bytes = Buffer.alloc(pageTableBytes(shape))
    await this.#readRange(segment, { offset: dataBytes, into: [bytes] })
    const pageCrcs = decodePageTable(shape, bytes)
    if (pageCrcs) return { ...shape, pageCrcs }
    // Written before tables had a checksum, or the answer was wrong; the footer tells which.
    const footer = await this.footer(segment)
    if (footer.dataBytes !== dataBytes) {
      throw dataLost(segment, `it holds ${footer.dataBytes} bytes in the remote store, and ${dataBytes} in metadata`)
    }
    return { dataBytes, pageBytes: footer.pageBytes, pageCrcs: footer.pageCrcs }
  }

  /** All that the footer says: the bodies too, so it may be long. @throws DataLost, Unavailable, SlowDown */
  async footer(segment: SegmentId): Promise<Footer> {
    const { health, remote } = this.#options
    const dataBytes = await this.#dataBytes(segment)
    const object = await this.#asked(segment, () =>
      health.call(CALL_MS, (control) => remote.stat(segmentObjectName(segment), control)),
    )
    if (!object) throw this.#missing(segment)
    const footerBytes = object.bytes - dataBytes
    if (footerBytes < TRAILER_BYTES || footerBytes > FOOTER_BYTES_MAX) {
      throw dataLost(segment, `its object holds ${object.bytes} bytes, of which ${dataBytes} are data`)
    }
    const bytes = Buffer.alloc(footerBytes)
    // Twice, as with blocks.
    for (let attempt = 1; attempt <= 2; attempt++) {
      await this.#readRange(segment, { offset: dataBytes, into: [bytes] })
      const described = readTrailer(segment, bytes.subarray(-TRAILER_BYTES), object.bytes)
      const footer = described?.dataBytes === dataBytes ? decodeFooter(segment, bytes) : undefined
      if (footer) return footer
    }
    throw dataLost(segment, 'its object has no valid footer')
  }

  async #readRange(
    segment: SegmentId,
    range: {
      readonly offset: number
      readonly into: readonly Uint8Array[]
      readonly onFilled?: ((index: number) => void) | undefined
    },
  ): Promise<number> {
    const { health, remote } = this.#options
    const { offset, into, onFilled } = range
    const bytes = into.reduce((sum, { length }) => sum + length, 0)
    const deadlineMs = CALL_MS + Math.ceil(bytes / SLOWEST_BYTES_PER_MS)
    return await this.#asked(segment, () =>
      health.call(deadlineMs, (control) =>
        remote.read(segmentObjectName(segment), offset, into, { ...control, onFilled }),
      ),
    )
  }

  /** Says what an error of the remote store means for who reads. */
  async #asked<T>(segment: SegmentId, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask()
    } catch (error) {
      if (isTidegateError(error, 'NoSuchKey')) throw this.#missing(segment, error)
      if (isTidegateError(error, 'SlowDown')) throw error
      const why = error instanceof Error ? error.message : String(error)
      // Refused credentials are the gateway's own, and not for the client to mend: Unavailable like all the rest.
      throw new TidegateError('Unavailable', `segment ${segment} cannot be read from the remote store: ${why}`, {
        cause: error,
      })
    }
  }

  #missing(segment: SegmentId, cause?: unknown): TidegateError {
    return new TidegateError(
      'DataLost',
      `segment ${segment} is on no disk, and ${this.#options.remote.description} has no ${segmentObjectName(segment)}`,
      { cause, details: { segment } },
    )
  }

  /** The segment is gone. */
  forget(segment: SegmentId): void {
    this.#tables.forget(segment)
  }
}

function dataLost(segment: SegmentId, why: string, block?: number): TidegateError {
  return new TidegateError('DataLost', `segment ${segment} in the remote store: ${why}`, {
    details: { segment, block },
  })
}
