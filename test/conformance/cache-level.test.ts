import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createDiskLevel, type DiskLevel } from '../../src/cache-tier/disk/disk-level.ts'
import { createPageReaderThreads } from '../../src/cache-tier/disk/page-reader.ts'
import { packedBytes } from '../../src/cache-tier/disk/pack-format.ts'
import { MemoryLevel } from '../../src/cache-tier/memory-level.ts'
import type { PageReader } from '../../src/cache-tier/ports.ts'
import { Slab } from '../../src/cache-tier/slab.ts'
import { systemClock } from '../../src/common/clock.ts'
import { DEFAULT_LIMITS } from '../../src/common/limits.ts'
import { nodeFileSystem } from '../../src/persist/node-file-system.ts'
import { InlinePageReader } from '../support/inline-page-reader.ts'
import { BLOCK_BYTES, PAGE_BYTES, testCacheLevel, type CacheLevelHarness } from './cache-level.ts'
import { MemoryCacheLevel } from './memory-cache-level.ts'

const SLOTS = 4
const LIMITS = { ...DEFAULT_LIMITS, blockBytes: BLOCK_BYTES, pageBytes: PAGE_BYTES }

function memoryHarness(): CacheLevelHarness {
  let level: MemoryCacheLevel
  return {
    create: (blocks) => {
      const slab = new Slab({ bytes: blocks * BLOCK_BYTES, slotBytes: BLOCK_BYTES, poison: true })
      const into = new Uint8Array(SLOTS * BLOCK_BYTES)
      level = new MemoryCacheLevel(new MemoryLevel({ slab, limits: LIMITS, clock: systemClock }), slab)
      return Promise.resolve({ level, slot: (offset) => into.subarray(offset, offset + BLOCK_BYTES) })
    },
    settled: () => level.settled(),
    dispose: () => Promise.resolve(),
  }
}

function diskHarness(createReader: (slab: SharedArrayBuffer) => PageReader): CacheLevelHarness {
  let level: DiskLevel
  let directory: string
  return {
    create: async (blocks) => {
      directory = await mkdtemp(join(tmpdir(), 'tidegate-disk-level-'))
      const slab = new SharedArrayBuffer(SLOTS * BLOCK_BYTES)
      level = createDiskLevel({
        fileSystem: nodeFileSystem,
        directory: join(directory, 'cache'),
        // Packs are a 32nd of it: with some room for their heads, as many blocks.
        bytesMax: blocks * packedBytes(LIMITS, BLOCK_BYTES) * 4,
        freeBytesMin: 0,
        limits: LIMITS,
        clock: systemClock,
        reader: createReader(slab),
        readFooter: () => Promise.resolve(undefined),
        onFailure: (doing, cause) => {
          throw new Error(`${doing} failed`, { cause })
        },
      })
      await level.start()
      return { level, slot: (offset) => new Uint8Array(slab, offset, BLOCK_BYTES) }
    },
    // Adoption of nothing comes after all that was offered.
    settled: async () =>
      void (await level.adopt('0'.repeat(32) as never, '/nonexistent', {
        dataBytes: 1,
        pageBytes: PAGE_BYTES,
        pageCrcs: new Uint32Array(1),
      })),
    dispose: async () => {
      await level.stop()
      await rm(directory, { recursive: true })
    },
  }
}

testCacheLevel('memory', memoryHarness())
testCacheLevel(
  'disk, threads',
  diskHarness((slab) => createPageReaderThreads({ slab, clock: systemClock, threads: 2 })),
)
testCacheLevel(
  'disk, inline',
  diskHarness((slab) => new InlinePageReader(nodeFileSystem, slab)),
)
