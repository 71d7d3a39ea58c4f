/** The part of the engine that holds and moves bytes, and knows nothing of names (engine.ts). */
import type { BlockFetching } from './attach/external-blocks.ts'
import { crc32 } from './common/crc32.ts'
import { MemoryLevel, type FetchBlock, type FetchRun } from './cache-tier/memory-level.ts'
import { Slab } from './cache-tier/slab.ts'
import { assert } from './common/assert.ts'
import type { SegmentId } from './common/ids.ts'
import type { EngineParts } from './engine-parts.ts'
import type { Hashing } from './persist/hashing/ports.ts'
import type { JournalDevice } from './persist/journal/device.ts'
import type { AppendedBody, Journal } from './persist/journal/journal.ts'
import type { SegmentBody } from './persist/ports.ts'
import { SegmentFiles } from './persist/segment-files.ts'
import type { Memory as StoreMemory } from './store/byte-ports.ts'

/** Share of the slots that bodies under way may hold together; the rest stays for readers and the journal. */
const BODY_SLOTS_SHARE = 0.5
const SLOTS_MIN = 32

export interface Bytes {
  readonly slab: Slab
  readonly slabView: (offset: number, length: number) => Buffer
  readonly memory: MemoryLevel
  readonly sharedDevice: JournalDevice
  readonly streamDevice: JournalDevice
  readonly hashing: Hashing
  readonly files: SegmentFiles
}

export function buildBytes(parts: EngineParts): Bytes {
  const { clock, limits } = parts
  const { blockBytes, pageBytes } = limits
  const slab = new Slab({ bytes: parts.slabBytes, slotBytes: blockBytes, poison: parts.poison ?? false })
  assert(slab.slots >= SLOTS_MIN, `${slab.slots} slots of memory are at least ${SLOTS_MIN}`)
  const slabView = (offset: number, length: number): Buffer => slab.view(offset, length)
  const deviceMemory = { buffer: slab.buffer, slab: slabView, blockBytes, pageBytes }
  return {
    slab,
    slabView,
    memory: new MemoryLevel({ slab, limits, clock }),
    sharedDevice: parts.createDevice(deviceMemory),
    streamDevice: parts.createDevice(deviceMemory),
    hashing: parts.createHashing(slab.buffer),
    files: new SegmentFiles(parts.fileSystem, parts.places),
  }
}

export async function stopBytes({ sharedDevice, streamDevice, hashing, files }: Bytes): Promise<void> {
  await sharedDevice.stop()
  await streamDevice.stop()
  await hashing.stop()
  files.close()
}

/** The memory level as the store sees it. */
export function storeMemory({ memory, slab, slabView }: Bytes, source: BlockFetching): StoreMemory {
  const fetch: FetchBlock = (segment, block, slabOffset, need) => source.read(segment, block, slabOffset, need)
  const fetchRun: FetchRun = (segment, firstBlock, slots) => source.readRun(segment, firstBlock, slots)
  return {
    acquire: (purpose) => memory.acquire(purpose),
    release: (slabOffset) => memory.release(slabOffset),
    publish: (segment, block, slabOffset, length) => memory.publish(segment, block, slabOffset, length),
    settle: (segment, block) => memory.settle(segment, block),
    lend: (segment, block, needed) => memory.lend(segment, block, needed, fetch),
    lendNow: (segment, block, needed) => memory.lendNow(segment, block, needed),
    prefetch: (segment, firstBlock, count) => memory.prefetch({ segment, firstBlock, count }, fetchRun),
    aheadBytesMax: memory.bytesAheadMax,
    residentBytes: (segment, offset, length) => memory.residentBytes(segment, offset, length),
    giveBack: (lease) => memory.giveBack(lease),
    view: slabView,
    pin: (pin, untilMs) => memory.pin(pin, untilMs),
    unpin: (pin) => memory.unpin(pin),
    pinnedBytesMax: memory.bytesPinnedMax,
    bodySlotsMax: Math.floor(slab.slots * BODY_SLOTS_SHARE),
  }
}

/** Appends a copy of one body to the open segment, read through the cache and so checked (C14). */
export async function copyBody(
  parts: {
    memory: MemoryLevel
    journal: Journal
    fetch: FetchBlock
    fetchRun: FetchRun
    slabView: (offset: number, length: number) => Uint8Array
    blockBytes: number
    /** To where another node has it too. */
    copied: boolean
  },
  segment: SegmentId,
  body: SegmentBody,
): Promise<AppendedBody> {
  const bytes = Buffer.alloc(body.length)
  const firstBlock = Math.floor(body.offset / parts.blockBytes)
  const count = Math.ceil((body.offset + body.length) / parts.blockBytes) - firstBlock
  if (count > 1) parts.memory.prefetch({ segment, firstBlock, count }, parts.fetchRun)
  for (let done = 0; done < body.length;) {
    const at = body.offset + done
    const block = Math.floor(at / parts.blockBytes)
    const within = at - block * parts.blockBytes
    const length = Math.min(body.length - done, parts.blockBytes - within)
    const lent = await parts.memory.lend(segment, block, within + length, parts.fetch)
    bytes.set(parts.slabView(lent.slabOffset + within, length), done)
    parts.memory.giveBack(lent.lease)
    done += length
  }
  const { content, label, length } = body
  const { copied } = parts
  return await parts.journal.append({ content, label, pieces: [bytes], length, bodyCrc: crc32(bytes) }, { copied })
}
