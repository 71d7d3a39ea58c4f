/**
 * Checksums of a block's pages (C14), computed where that costs least: for a few bytes, and wherever the processor helps (common/crc32.ts: 50 us a MiB), handing them to a thread takes
 * longer than computing them.
 */
import { crc32, nativePageReader } from '../../common/crc32.ts'
import type { Limits } from '../../common/limits.ts'
import type { PageHashing, SlabSlice } from './ports.ts'

export interface PageChecksOptions {
  readonly hashing: PageHashing
  readonly limits: Pick<Limits, 'hashInlineBytesMax'>
  readonly slabView: (slabOffset: number, length: number) => Uint8Array
}

export class PageChecks {
  readonly #options: PageChecksOptions

  constructor(options: PageChecksOptions) {
    this.#options = options
  }

  /** @throws Unavailable */
  async compute(slice: SlabSlice, pageBytes: number): Promise<Uint32Array> {
    if (!this.#isInline(slice)) return await this.#options.hashing.pageChecksums(slice, pageBytes)
    const pages = Math.ceil(slice.length / pageBytes)
    return Uint32Array.from({ length: pages }, (_, page) => this.#crcOf(slice, pageBytes, page))
  }

  /** Whether every page has the checksum given for it. @throws Unavailable */
  async verify(slice: SlabSlice, pageBytes: number, pageCrcs: Uint32Array): Promise<boolean> {
    if (!this.#isInline(slice)) return await this.#options.hashing.verifyPages(slice, pageBytes, pageCrcs)
    if (pageCrcs.length !== Math.ceil(slice.length / pageBytes)) return false
    return pageCrcs.every((crc, page) => this.#crcOf(slice, pageBytes, page) === crc)
  }

  #isInline({ length }: SlabSlice): boolean {
    return length <= this.#options.limits.hashInlineBytesMax || nativePageReader() !== undefined
  }

  #crcOf({ slabOffset, length }: SlabSlice, pageBytes: number, page: number): number {
    const at = page * pageBytes
    return crc32(this.#options.slabView(slabOffset + at, Math.min(pageBytes, length - at)))
  }
}
