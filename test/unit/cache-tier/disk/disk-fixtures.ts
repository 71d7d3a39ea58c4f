/** A disk level over real files in a temporary directory, whose calls can be made to fail; and segment files to adopt. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createDiskLevel, type DiskLevel } from '../../../../src/cache-tier/disk/disk-level.ts'
import type { CacheFileSystem, SealedBytes } from '../../../../src/cache-tier/ports.ts'
import { systemClock, type Clock } from '../../../../src/common/clock.ts'
import type { SegmentId } from '../../../../src/common/ids.ts'
import { encodeFooter } from '../../../../src/persist/journal/format.ts'
import { nodeFileSystem } from '../../../../src/persist/node-file-system.ts'
import { readFooter } from '../../../../src/persist/segment-files.ts'
import { BLOCK_BYTES, PAGE_BYTES, blockBytes, pageCrcs } from '../../../conformance/cache-level.ts'
import { InlinePageReader } from '../../../support/inline-page-reader.ts'

export const GEOMETRY = { blockBytes: BLOCK_BYTES, pageBytes: PAGE_BYTES }

export class DiskFixture {
  readonly root = mkdtempSync(join(tmpdir(), 'tidegate-disk-level-'))
  readonly directory = join(this.root, 'cache')
  readonly slab = new SharedArrayBuffer(8 * BLOCK_BYTES)
  readonly failures: string[] = []
  reader!: InlinePageReader
  /** Throws, if the operation is to fail. */
  fault: (operation: 'open' | 'write' | 'rename' | 'remove' | 'read', path: string) => void = () => undefined
  freeBytes = Infinity
  /** The most that lay in the directory after any change. */
  bytesSeenMax = 0
  readonly #levels: DiskLevel[] = []

  async start(
    options: { bytesMax?: number; freeBytesMin?: number; clock?: Clock; keepsFailures?: boolean } = {},
  ): Promise<DiskLevel> {
    const fileSystem = this.#fileSystem()
    this.reader = new InlinePageReader(fileSystem, this.slab)
    const level = createDiskLevel({
      fileSystem,
      directory: this.directory,
      bytesMax: options.bytesMax ?? 1024 * 1024,
      freeBytesMin: options.freeBytesMin ?? 0,
      limits: GEOMETRY,
      clock: options.clock ?? systemClock,
      reader: this.reader,
      readFooter: async (path, segment) => {
        const file = await nodeFileSystem.open(path, 'read')
        const footer = await readFooter(file, segment)
        await file.close()
        return footer
      },
      onFailure: (doing, cause) => this.failures.push(`${doing}: ${(cause as Error).message}`),
    })
    this.#levels.push(level)
    await level.start()
    return level
  }

  async dispose(): Promise<void> {
    for (const level of this.#levels) await level.stop()
    rmSync(this.root, { recursive: true })
  }

  /** What lies in the directory, in bytes of disk. */
  bytesOnDisk(): number {
    return this.files().reduce((sum, name) => sum + statSync(join(this.directory, name)).blocks * 512, 0)
  }

  files(): string[] {
    return readdirSync(this.directory).toSorted()
  }

  /** Every change is followed by a look at what the directory takes. */
  #fileSystem(): CacheFileSystem {
    const changed = (): void => {
      this.bytesSeenMax = Math.max(this.bytesSeenMax, this.bytesOnDisk())
    }
    return {
      ...nodeFileSystem,
      open: async (path, mode) => {
        this.fault('open', path)
        const file = await nodeFileSystem.open(path, mode)
        return {
          read: async (into, position) => {
            this.fault('read', path)
            return await file.read(into, position)
          },
          write: async (bytes, position) => {
            this.fault('write', path)
            await file.write(bytes, position)
            changed()
          },
          size: () => file.size(),
          close: () => file.close(),
        }
      },
      rename: async (from, to) => {
        this.fault('rename', to)
        await nodeFileSystem.rename(from, to)
        changed()
      },
      remove: async (path) => {
        this.fault('remove', path)
        await nodeFileSystem.remove(path)
      },
      space: () => Promise.resolve({ freeBytes: this.freeBytes, totalBytes: Infinity }),
    }
  }

  /** A sealed segment as the journal leaves it. */
  sealedFile(segment: SegmentId, dataBytes: number): { path: string; sealed: SealedBytes } {
    const blocks = Array.from({ length: Math.ceil(dataBytes / BLOCK_BYTES) }, (_, block) =>
      blockBytes(segment, block, Math.min(BLOCK_BYTES, dataBytes - block * BLOCK_BYTES)),
    )
    const data = Buffer.concat(blocks)
    const footer = { segment, dataBytes, pageBytes: PAGE_BYTES, pageCrcs: pageCrcs(data), bodies: [] }
    const directory = join(this.root, 'journal')
    mkdirSync(directory, { recursive: true })
    const path = join(directory, `${segment}.seg`)
    writeFileSync(path, Buffer.concat([data, encodeFooter(footer)]))
    return { path, sealed: footer }
  }

  slot(index = 0): Uint8Array {
    return new Uint8Array(this.slab, index * BLOCK_BYTES, BLOCK_BYTES)
  }

  async read(level: DiskLevel, segment: SegmentId, block: number, slot = 0): Promise<Buffer | undefined> {
    const length = await level.read(segment, block, this.slot(slot))
    return length === undefined ? undefined : Buffer.from(this.slot(slot).subarray(0, length))
  }

  async keep(level: DiskLevel, segment: SegmentId, block: number, length = BLOCK_BYTES): Promise<void> {
    const bytes = blockBytes(segment, block, length)
    level.keep(segment, block, bytes, pageCrcs(bytes))
    await this.settled(level)
  }

  /** An adoption that comes to nothing, after all that was offered before. */
  async settled(level: DiskLevel): Promise<void> {
    const nothing = { dataBytes: 1, pageBytes: PAGE_BYTES, pageCrcs: new Uint32Array(1) }
    await level.adopt('0'.repeat(32) as SegmentId, join(this.root, 'nothing'), nothing)
  }
}
