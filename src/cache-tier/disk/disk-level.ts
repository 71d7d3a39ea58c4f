/**
 * The disk level of the cache: blocks that were fetched from the remote store, and whole segments right after they were persisted, in
 * a directory of bounded size. All of it may be lost at any time; nothing here is the only copy of anything.
 *
 *   fetched block --keep--> queue in memory --> pack (pack-format.ts), appended to
 *   persisted segment --adopt--> its file, renamed into the directory (disk-files.ts): no byte is copied
 *   eviction: a file at a time, by S3-FIFO; what was used is copied to a pack of the main queue first (disk-queues.ts)
 *
 * Reads go straight from the file to the slab and are checked page by page (C14), off the event loop (page-reader.ts). A file is not
 * removed while it is read. Packs and segments are written once, in order, and never in place, so what the index tells of a file stays
 * true as long as the file is there; and the index itself is read from the files at start.
 *
 * Failures stay inside: a read that fails is a miss, and its block is dropped; a write that fails turns writing off for half a minute. The
 * level also gives way when the disk runs full (room.ts): it looks once a second, whether anything is offered or not. While the remote
 * store is away nothing is, and the journal fills the disk.
 *
 * Known gaps: how often blocks were used is forgotten at a restart, but for their queue; blocks of a segment that was forgotten
 * come back with their pack after a restart, until they are evicted, and nobody ever asks for them.
 */
import { assert } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { Lifecycle } from '../../common/lifecycle.ts'
import type { Limits } from '../../common/limits.ts'
import type { CacheFileSystem, CacheLevel, CacheLevelStats, PageReader, SealedBytes } from '../ports.ts'
import { findFiles } from './disk-files.ts'
import { DiskIndex, type BlockPlace } from './disk-index.ts'
import { DiskQueues } from './disk-queues.ts'
import { DiskWriter } from './disk-writer.ts'
import { OpenFiles } from './open-files.ts'
import { pagesOf, recordBytes } from './pack-format.ts'
import { Room } from './room.ts'

export interface DiskLevelOptions {
  readonly fileSystem: CacheFileSystem
  /** Made if absent, and nobody else's. On the file system of the journal, or segments cannot be adopted. */
  readonly directory: string
  readonly bytesMax: number
  /** The level gives way when the disk has less than this free. */
  readonly freeBytesMin: number
  readonly limits: Pick<Limits, 'blockBytes' | 'pageBytes'>
  readonly clock: Clock
  readonly reader: PageReader
  /** The table at the end of a sealed segment's file; undefined when it does not check. */
  readonly readFooter: (path: string, segment: SegmentId) => Promise<SealedBytes | undefined>
  readonly onFailure: (doing: string, cause: unknown) => void
}

export interface DiskLevel extends CacheLevel, Lifecycle {
  /**
   * Resolves once what lies in the directory can be read, or after a second: the rest is then found while others are served.
   * Rejects when the directory cannot be made.
   */
  start(): Promise<void>
  /**
   * Takes over the file of a sealed segment by renaming it. At every moment its blocks are found under `path` or here, by who looks in
   * this order. False: the file is where it was, for the caller to remove.
   */
  adopt(segment: SegmentId, path: string, sealed: SealedBytes): Promise<boolean>
}

export function createDiskLevel(options: DiskLevelOptions): DiskLevel {
  return new FileDiskLevel(options)
}

/** Of the file system, when nobody says how large the level is to be: the same at each start, however much lies in it. */
const DEFAULT_SHARE = 0.1

/** Bytes for the level on a file system of this size; 0: none. `wanted` is what `--cache-disk` says. */
export function diskLevelBytes(wanted: number | undefined, totalBytes: number): number {
  return wanted ?? Math.floor(totalBytes * DEFAULT_SHARE)
}

/** So much of the level is one pack, at most `PACK_BYTES_MAX`: evicting one is a small step. */
const PACK_SHARE = 1 / 32
const PACK_BYTES_MAX = 64 * 1024 * 1024
/** Blocks in memory on their way to a pack, in blocks' bytes; and segments that wait to be adopted. */
const QUEUED_BLOCKS_MAX = 16
const ADOPTIONS_WAITING_MAX = 64
const START_WAIT_MS_MAX = 1000
const DRAIN_WAIT_MS_MAX = 10_000
const GIVE_WAY_EVERY_MS = 1000

class FileDiskLevel implements DiskLevel {
  readonly stats: CacheLevelStats = { hits: 0, misses: 0, evictions: 0, badPages: 0, dropped: 0, writes: 0 }
  readonly #options: DiskLevelOptions
  readonly #index = new DiskIndex()
  readonly #queues = new DiskQueues()
  readonly #room: Room
  readonly #openFiles: OpenFiles
  readonly #writer: DiskWriter
  #queuedBytes = 0
  #adoptions = 0
  #state: 'new' | 'serving' | 'draining' | 'stopped' = 'new'
  readonly #stopping = new AbortController()

  constructor(options: DiskLevelOptions) {
    const { fileSystem, directory, bytesMax, clock, limits, reader, onFailure } = options
    const { blockBytes, pageBytes } = limits
    this.#options = options
    this.#room = new Room(options)
    this.#openFiles = new OpenFiles(reader)
    this.#writer = new DiskWriter({
      fileSystem,
      directory,
      clock,
      geometry: { blockBytes, pageBytes },
      packBytesMax: Math.min(PACK_BYTES_MAX, Math.floor(bytesMax * PACK_SHARE)),
      index: this.#index,
      queues: this.#queues,
      room: this.#room,
      openFiles: this.#openFiles,
      stats: this.stats,
      onFailure,
    })
  }

  get bytesHeld(): number {
    return this.#room.bytesHeld
  }

  get bytesMax(): number {
    return this.#options.bytesMax
  }

  async start(): Promise<void> {
    assert(this.#state === 'new', 'the disk level starts once')
    await this.#options.fileSystem.makeDirectory(this.#options.directory)
    await this.#options.reader.start()
    this.#state = 'serving'
    const { fileSystem, directory, limits, readFooter } = this.#options
    const found = findFiles({ fileSystem, directory, geometry: limits, readFooter })
    await this.#within(
      START_WAIT_MS_MAX,
      this.#writer.takeIn(found, () => this.#state === 'serving'),
    )
    void this.#keepGivingWay(this.#stopping.signal)
  }

  /** Never two rounds at once, however long one takes. */
  async #keepGivingWay(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#options.clock.sleep(GIVE_WAY_EVERY_MS, signal).catch(() => undefined)
      if (!signal.aborted) await this.#writer.giveWay()
    }
  }

  async drain(): Promise<void> {
    this.#state = 'draining'
    await this.#within(DRAIN_WAIT_MS_MAX, this.#writer.drain())
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.drain()
    this.#state = 'stopped'
    await this.#options.reader.stop()
    await this.#within(DRAIN_WAIT_MS_MAX, this.#openFiles.closeAll())
  }

  /** Waits no longer than that: a disk that does not answer must not keep the process from starting or ending. */
  async #within(waitMsMax: number, work: Promise<void>): Promise<void> {
    const done = new AbortController()
    const late = this.#options.clock.sleep(waitMsMax, done.signal).catch(() => undefined)
    await Promise.race([work, late])
    done.abort()
  }

  async read(segment: SegmentId, block: number, into: Uint8Array): Promise<number | undefined> {
    const place = this.#state === 'stopped' ? undefined : this.#index.find(segment, block)
    const length = place && (await this.#readPlace(place, into))
    this.stats[length === undefined ? 'misses' : 'hits']++
    return length
  }

  async #readPlace(place: BlockPlace, into: Uint8Array): Promise<number | undefined> {
    const { file, ordinal } = place
    if (file.arriving && !(await file.arriving)) return undefined
    if (file.gone) return undefined
    const { position, length } = file.at(ordinal)
    assert(into.length >= length, 'a slot holds a block')
    const { pageBytes } = file
    const slabOffset = into.byteOffset
    const pageCrcs = file.pageCrcs(ordinal)
    const outcome = await this.#openFiles
      .use(file, (handle) => this.#options.reader.read({ handle, position, slabOffset, length, pageBytes, pageCrcs }))
      .catch(() => 'failed' as const)
    if (outcome === 'good') {
      this.#queues.touch(file, ordinal)
      return length
    }
    if (outcome !== 'busy') this.#dropBad(place)
    return undefined
  }

  #dropBad({ file, ordinal }: BlockPlace): void {
    this.stats.badPages++
    const { segment, block } = file.at(ordinal)
    // Somebody else found it bad too, or its file is gone.
    const known = this.#index.find(segment, block)
    if (known?.file !== file || known.ordinal !== ordinal) return
    this.#index.drop(known)
    if (file.liveBlocks === 0) this.#writer.retire(file)
  }

  keep(segment: SegmentId, block: number, bytes: Uint8Array, pageCrcs: ArrayLike<number>): void {
    const { blockBytes, pageBytes } = this.#options.limits
    assert(bytes.length > 0 && bytes.length <= blockBytes, 'a block has its length')
    assert(pageCrcs.length === pagesOf(bytes.length, pageBytes), 'every page has a checksum')
    if (this.#index.find(segment, block)) return
    if (!this.#takes(bytes.length)) {
      this.stats.dropped++
      return
    }
    const recordLength = recordBytes(this.#options.limits)
    const staged = Buffer.allocUnsafeSlow(recordLength + bytes.length)
    staged.set(bytes, recordLength)
    this.#queuedBytes += bytes.length
    const offer = { segment, block, length: bytes.length, pageCrcs: Uint32Array.from(pageCrcs), bytes: staged }
    void this.#writer.append(offer).then((written) => {
      this.#queuedBytes -= bytes.length
      this.stats[written ? 'writes' : 'dropped']++
    })
  }

  #takes(bytes: number): boolean {
    if (this.#state !== 'serving' || this.#writer.isOff) return false
    return this.#queuedBytes + bytes <= QUEUED_BLOCKS_MAX * this.#options.limits.blockBytes
  }

  async adopt(segment: SegmentId, path: string, sealed: SealedBytes): Promise<boolean> {
    if (this.#state !== 'serving' || this.#adoptions >= ADOPTIONS_WAITING_MAX) return false
    this.#adoptions++
    try {
      return await this.#writer.adopt(segment, path, sealed)
    } finally {
      this.#adoptions--
    }
  }

  forget(segment: SegmentId): void {
    this.#writer.forget(segment)
  }

  residentBytes(segment: SegmentId, offset: number, length: number): number {
    const { blockBytes } = this.#options.limits
    const end = offset + length
    let bytes = 0
    for (let block = Math.floor(offset / blockBytes); block * blockBytes < end; block++) {
      const place = this.#index.find(segment, block)
      if (!place) continue
      const start = block * blockBytes
      const held = place.file.at(place.ordinal).length
      bytes += Math.max(0, Math.min(end, start + held) - Math.max(offset, start))
    }
    return bytes
  }
}
