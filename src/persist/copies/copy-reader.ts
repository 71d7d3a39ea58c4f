/**
 * Blocks of copies that are here. Checked like any other (C14): by the footer where there is one, by what was counted while the bytes arrived where they still do, and
 * else, after a restart, by their frames.
 */
import { crc32 } from '../../common/crc32.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { OpenFile } from '../ports.ts'
import type { PageVerifier } from '../reading/ports.ts'
import type { CopyFiles } from './copy-files.ts'
import type { IncomingCopy } from './incoming-copy.ts'

export interface CopyReaderOptions {
  readonly files: CopyFiles
  readonly writing: (segment: SegmentId) => IncomingCopy | undefined
  readonly verifier: PageVerifier
  readonly slabView: (slabOffset: number, length: number) => Uint8Array
  readonly pageBytes: number
  readonly blockBytes: number
}

/** What vouches for the pages of a copy that was cut off. */
interface Table {
  readonly dataBytes: number
  readonly crcs: Uint32Array
}

interface Place {
  readonly block: number
  readonly slabOffset: number
}

interface Known {
  readonly length: number
  readonly pageBytes: number
  readonly crcs: ArrayLike<number>
}

const TABLES_MAX = 64

export class CopyReader {
  readonly #options: CopyReaderOptions
  /** Of copies without a footer that nobody writes to. Oldest first. */
  readonly #tables = new Map<SegmentId, Promise<Table | undefined>>()

  constructor(options: CopyReaderOptions) {
    this.#options = options
  }

  async read(segment: SegmentId, block: number, slabOffset: number): Promise<number | undefined> {
    const { files, writing, blockBytes, pageBytes } = this.#options
    const place = { block, slabOffset }
    const known = writing(segment)?.block(block, blockBytes)
    if (known) return await this.#readFrom(segment, place, { ...known, pageBytes })
    const start = block * blockBytes
    const sealed = await files.useSealed(segment, async ({ file, footer }) => {
      const length = Math.min(blockBytes, footer.dataBytes - start)
      if (length <= 0) return undefined
      const first = start / footer.pageBytes
      const crcs = footer.pageCrcs.subarray(first, first + Math.ceil(length / footer.pageBytes))
      return await this.#readChecked(file, place, { length, pageBytes: footer.pageBytes, crcs })
    })
    if (sealed !== undefined) return sealed
    const table = await this.#table(segment)
    const length = Math.min(blockBytes, (table?.dataBytes ?? 0) - start)
    if (!table || length <= 0) return undefined
    const first = start / pageBytes
    const crcs = table.crcs.subarray(first, first + Math.ceil(length / pageBytes))
    return await this.#readFrom(segment, place, { length, pageBytes, crcs })
  }

  forget(segment: SegmentId): void {
    this.#tables.delete(segment)
  }

  #table(segment: SegmentId): Promise<Table | undefined> {
    const known = this.#tables.get(segment)
    if (known) return known
    const { files, pageBytes } = this.#options
    const table = files.useScanned(segment, async (file, dataBytes) => {
      const crcs = new Uint32Array(Math.ceil(dataBytes / pageBytes))
      const page = Buffer.alloc(pageBytes)
      for (let index = 0; index < crcs.length; index++) {
        const part = page.subarray(0, Math.min(pageBytes, dataBytes - index * pageBytes))
        await file.read(part, index * pageBytes)
        crcs[index] = crc32(part)
      }
      return { dataBytes, crcs }
    })
    this.#tables.set(segment, table)
    table.then(
      (found) => !found && this.#tables.delete(segment),
      () => this.#tables.delete(segment),
    )
    if (this.#tables.size > TABLES_MAX) this.#tables.delete(this.#tables.keys().next().value as SegmentId)
    return table
  }

  async #readFrom(segment: SegmentId, place: Place, known: Known): Promise<number | undefined> {
    const file = await this.#options.files.open(segment)
    if (!file) return undefined
    try {
      return await this.#readChecked(file, place, known)
    } finally {
      await file.close()
    }
  }

  /** Undefined when it does not check: there may be a better copy. */
  async #readChecked(
    file: OpenFile,
    { block, slabOffset }: Place,
    { length, pageBytes, crcs }: Known,
  ): Promise<number | undefined> {
    const { slabView, verifier, blockBytes } = this.#options
    const got = await file.read(slabView(slabOffset, length), block * blockBytes)
    if (got !== length) return undefined
    return (await verifier.verifyPages({ slabOffset, length }, pageBytes, crcs)) ? length : undefined
  }
}
