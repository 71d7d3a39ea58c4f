/** The PageReader of the disk level without threads, over any file system: for tests and the simulation. */
import { crc32 } from 'node:zlib'
import { must } from '../../src/common/assert.ts'
import type { CacheFile, CacheFileSystem, PageRead, PageReader } from '../../src/cache-tier/ports.ts'

export class InlinePageReader implements PageReader {
  readonly #fileSystem: CacheFileSystem
  readonly #slab: SharedArrayBuffer
  readonly #open = new Map<number, CacheFile>()
  #nextHandle = 1
  /** What a read waits for before it begins. */
  gate: Promise<void> = Promise.resolve()

  constructor(fileSystem: CacheFileSystem, slab: SharedArrayBuffer) {
    this.#fileSystem = fileSystem
    this.#slab = slab
  }

  get openFiles(): number {
    return this.#open.size
  }

  start(): Promise<void> {
    return Promise.resolve()
  }

  stop(): Promise<void> {
    return Promise.resolve()
  }

  async open(path: string): Promise<number> {
    const file = await this.#fileSystem.open(path, 'read')
    this.#open.set(this.#nextHandle, file)
    return this.#nextHandle++
  }

  async close(handle: number): Promise<void> {
    const file = must(this.#open.get(handle), 'open file')
    this.#open.delete(handle)
    await file.close()
  }

  async read(want: PageRead): Promise<'good' | 'bad' | 'failed'> {
    await this.gate
    const into = Buffer.from(this.#slab, want.slabOffset, want.length)
    const got = await must(this.#open.get(want.handle), 'open file')
      .read(into, want.position)
      .catch(() => undefined)
    if (got === undefined) return 'failed'
    if (got < want.length) return 'bad'
    for (let page = 0; page * want.pageBytes < want.length; page++) {
      const bytes = into.subarray(page * want.pageBytes, (page + 1) * want.pageBytes)
      if (crc32(bytes) !== want.pageCrcs[page]) return 'bad'
    }
    return 'good'
  }
}
