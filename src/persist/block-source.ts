/**
 * Reads blocks of segments from the local disk into the slab and checks every page on the way (C14). This is where the
 * cache gets what it does not hold.
 */
import { TidegateError } from '../common/errors.ts'
import type { SegmentId } from '../common/ids.ts'
import type { Limits } from '../common/limits.ts'
import type { Journal } from './journal/journal.ts'
import type { FileSystem, OpenFile } from './ports.ts'
import type { SegmentFiles } from './segment-files.ts'

export interface PageVerifier {
  /** Whether the CRC-32 of every page of the slice is the given one; the last page may be short. */
  verifyPages(
    slice: { slabOffset: number; length: number },
    pageBytes: number,
    crcs: readonly number[],
  ): Promise<boolean>
}

export interface BlockSourceOptions {
  readonly fileSystem: FileSystem
  readonly files: SegmentFiles
  readonly journal: () => Journal
  readonly verifier: PageVerifier
  readonly limits: Limits
  readonly slabView: (slabOffset: number, length: number) => Uint8Array
  readonly onBadBlock: (segment: SegmentId, block: number) => void
}

/** A page that fails its checksum is read again once: a read that raced with memory trouble must not cost an object. */
const READ_ATTEMPTS = 2

export class BlockSource {
  readonly #options: BlockSourceOptions

  constructor(options: BlockSourceOptions) {
    this.#options = options
  }

  /**
   * Fills a slot with a block; returns its length (short at the end of the segment).
   * @throws DataLost when the bytes are not there or fail their checksums, Unavailable when the disk fails
   */
  async read(segment: SegmentId, block: number, slabOffset: number): Promise<number> {
    const unsealed = this.#options.journal().unsealed(segment)
    const file = unsealed && (await this.#openUnsealed(segment))
    if (unsealed && file) {
      try {
        const { blockBytes, pageBytes } = this.#options.limits
        const firstPage = (block * blockBytes) / pageBytes
        const crcs = Array.from(
          { length: blockBytes / pageBytes },
          (_, page) => unsealed.pageCrc(firstPage + page) ?? -1,
        )
        return await this.#readChecked(file, { segment, block, slabOffset, length: blockBytes, pageBytes, crcs })
      } catch (error) {
        // The mender may be cutting its tail right now; what is durable of it is there again in a moment.
        if (unsealed.failed)
          throw new TidegateError('Unavailable', `segment ${segment} is being mended`, { cause: error })
        throw error
      } finally {
        await file.close()
      }
    }
    return await this.#options.files.use(segment, ({ file, footer }) => {
      const { blockBytes } = this.#options.limits
      const start = block * blockBytes
      const length = Math.min(blockBytes, footer.dataBytes - start)
      if (length <= 0) throw new TidegateError('DataLost', `segment ${segment} ends before block ${block}`)
      const firstPage = start / footer.pageBytes
      const crcs = [...footer.pageCrcs.subarray(firstPage, firstPage + Math.ceil(length / footer.pageBytes))]
      return this.#readChecked(file, { segment, block, slabOffset, length, pageBytes: footer.pageBytes, crcs })
    })
  }

  /** Undefined when it was sealed and adopted in this very moment. */
  async #openUnsealed(segment: SegmentId): Promise<OpenFile | undefined> {
    const { fileSystem, files } = this.#options
    return await fileSystem.open(files.journalPath(segment), 'read').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw unreadable(segment, error)
    })
  }

  async #readChecked(
    file: OpenFile,
    want: { segment: SegmentId; block: number; slabOffset: number; length: number; pageBytes: number; crcs: number[] },
  ): Promise<number> {
    const { limits, slabView, verifier, onBadBlock } = this.#options
    for (let attempt = 1; attempt <= READ_ATTEMPTS; attempt++) {
      const into = slabView(want.slabOffset, want.length)
      const got = await file.read(into, want.block * limits.blockBytes).catch((error: Error) => {
        throw unreadable(want.segment, error)
      })
      const slice = { slabOffset: want.slabOffset, length: want.length }
      if (got === want.length && (await verifier.verifyPages(slice, want.pageBytes, want.crcs))) return want.length
      onBadBlock(want.segment, want.block)
    }
    throw new TidegateError('DataLost', `block ${want.block} of segment ${want.segment} fails its checksum`, {
      details: { segment: want.segment, block: want.block },
    })
  }
}

function unreadable(segment: SegmentId, cause: Error): TidegateError {
  return new TidegateError('Unavailable', `cannot read segment ${segment}: ${cause.message}`, { cause })
}
