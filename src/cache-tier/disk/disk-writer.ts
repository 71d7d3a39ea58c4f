/**
 * All that changes files of the disk level, one thing after another: packs are written, segments adopted, room made, files removed.
 *
 * At every moment the files hold at most `bytesMax`: room is taken before bytes are written or renamed in, and given back once the
 * file that held them is closed and removed. While room is made, some is spared for copies of what survives (disk-queues.ts).
 *
 * Nothing is synced. A write that fails ends its pack, and writing is off for `OFF_MS`; what is held can still be read.
 */
import { must } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { CacheFile, CacheFileSystem, CacheLevelStats, SealedBytes } from '../ports.ts'
import { Pack, WholeSegment, type BlockFile } from './block-files.ts'
import { fileName, fitsGeometry, spaceOf, type FoundFile } from './disk-files.ts'
import type { DiskIndex } from './disk-index.ts'
import type { DiskQueues, QueueName, Victim } from './disk-queues.ts'
import type { OpenFiles } from './open-files.ts'
import {
  aligned,
  encodePackFooter,
  encodePackHeader,
  encodeRecord,
  PACK_HEADER_BYTES,
  PACK_TRAILER_BYTES,
  packedBytes,
  recordBytes,
  type PackGeometry,
} from './pack-format.ts'
import type { Room } from './room.ts'

export interface DiskWriterOptions {
  readonly fileSystem: CacheFileSystem
  readonly directory: string
  readonly clock: Clock
  readonly geometry: PackGeometry
  readonly packBytesMax: number
  readonly index: DiskIndex
  readonly queues: DiskQueues
  readonly room: Room
  readonly openFiles: OpenFiles
  readonly stats: CacheLevelStats
  readonly onFailure: (doing: string, cause: unknown) => void
}

/** A block in memory with room for its record before it. */
export interface StagedBlock {
  readonly segment: SegmentId
  readonly block: number
  readonly length: number
  readonly pageCrcs: Uint32Array
  readonly bytes: Buffer
}

interface OpenPack {
  readonly pack: Pack
  readonly file: CacheFile
  /** Where the next record begins. */
  end: number
}

const OFF_MS = 30_000
/** What a pack takes before there is anything in it, rounded up to what a file takes on disk. */
const EMPTY_PACK_BYTES = spaceOf(PACK_HEADER_BYTES + PACK_TRAILER_BYTES) + spaceOf(1)
/** A larger share of the level is not given to one segment. */
const SEGMENT_SHARE_MAX = 0.25

export class DiskWriter {
  readonly #options: DiskWriterOptions
  readonly #open = new Map<QueueName, OpenPack>()
  #last: Promise<unknown> = Promise.resolve()
  #offUntilMs = -Infinity
  #nextSequence = 1
  /** Things asked for and not done yet; and segments that were forgotten meanwhile, so that nothing of them comes after. */
  #pending = 0
  readonly #forgotten = new Set<SegmentId>()

  constructor(options: DiskWriterOptions) {
    this.#options = options
  }

  get isOff(): boolean {
    return this.#options.clock.monotonicMs() < this.#offUntilMs
  }

  /** Runs it when all before it has ended. What goes wrong in it turns writing off, and is told as `undefined`. */
  #serially<T>(doing: string, work: () => Promise<T>): Promise<T | undefined> {
    this.#pending++
    const result = this.#last
      .then(work)
      .catch((error: unknown) => {
        this.#offUntilMs = this.#options.clock.monotonicMs() + OFF_MS
        this.#options.onFailure(doing, error)
        return undefined
      })
      .finally(() => {
        if (--this.#pending === 0) this.#forgotten.clear()
      })
    this.#last = result
    return result
  }

  /**
   * Takes in what an earlier life left, oldest first, until `isWanted` says no; then evicts what is over the bound. Whatever is
   * asked for meanwhile comes after it.
   */
  async takeIn(files: AsyncIterable<FoundFile>, isWanted: () => boolean): Promise<void> {
    await this.#serially('find what is there', async () => {
      for await (const file of files) {
        if (!isWanted()) return
        this.#add(file)
      }
      await this.#makeRoom(0)
    })
  }

  #add({ queue, sequence, segment, path, bytes, content }: FoundFile): void {
    const { index, queues, room, geometry } = this.#options
    this.#nextSequence = Math.max(this.#nextSequence, sequence + 1)
    const place = { sequence, path, bytes: spaceOf(bytes) }
    let file: BlockFile
    if ('dataBytes' in content) {
      const id = must(segment, 'segment of a file')
      const whole = new WholeSegment({ ...place, segment: id }, content, geometry.blockBytes)
      // A second file of a segment is not ours; the later one is the one that was adopted.
      this.#dropBlocks(id)
      index.addWhole(whole)
      file = whole
    } else {
      const pack = new Pack(place, geometry)
      for (const record of content) index.addPacked(pack, record)
      file = pack
    }
    room.found(file.bytes)
    queues.push(file, queue)
  }

  /** Resolves with whether it was written. */
  async append(staged: StagedBlock): Promise<boolean> {
    const written = await this.#serially('write a block', async () => {
      const { segment, block } = staged
      const { index, queues } = this.#options
      const wanted = (): boolean => !this.#forgotten.has(segment) && index.find(segment, block) === undefined
      if (this.isOff || !wanted() || !(await this.#makeRoom(this.#appendBytes(staged)))) return false
      return await this.#write(queues.queueFor(segment, block), staged, wanted)
    })
    return written ?? false
  }

  /** With what a new pack takes, should one be needed. */
  #appendBytes({ length }: StagedBlock): number {
    return packedBytes(this.#options.geometry, length) + EMPTY_PACK_BYTES
  }

  /** Writes a block for which there is room. False: once it was written, it was no longer wanted. */
  async #write(queue: QueueName, staged: StagedBlock, wanted: () => boolean): Promise<boolean> {
    const { geometry, index, room } = this.#options
    const bytes = packedBytes(geometry, staged.length)
    const open = await this.#packFor(queue, bytes)
    room.take(bytes)
    open.pack.bytes += bytes
    encodeRecord(geometry, staged, staged.bytes)
    const start = open.end
    const position = start + recordBytes(geometry)
    // If this fails the pack is left as it is: what was taken may be on disk in part.
    open.end = aligned(position + staged.length)
    try {
      await open.file.write(staged.bytes.subarray(0, recordBytes(geometry) + staged.length), start)
    } catch (error) {
      await this.#closePack(queue, 'without footer')
      throw error
    }
    if (!wanted()) return false
    index.addPacked(open.pack, { ...staged, position })
    return true
  }

  async #packFor(queue: QueueName, bytes: number): Promise<OpenPack> {
    const open = this.#open.get(queue)
    if (open && open.pack.bytes + bytes <= this.#options.packBytesMax) return open
    if (open) await this.#closePack(queue, 'with footer')
    const { fileSystem, directory, geometry, room } = this.#options
    const sequence = this.#nextSequence++
    const path = `${directory}/${fileName({ queue, sequence, segment: undefined })}`
    room.take(EMPTY_PACK_BYTES)
    const pack = new Pack({ sequence, path, bytes: EMPTY_PACK_BYTES }, geometry)
    try {
      const file = await fileSystem.open(path, 'create')
      const fresh: OpenPack = { pack, file, end: PACK_HEADER_BYTES }
      this.#open.set(queue, fresh)
      await file.write(encodePackHeader(geometry), 0)
      return fresh
    } catch (error) {
      if (this.#open.has(queue)) await this.#closePack(queue, 'without footer')
      else room.give(EMPTY_PACK_BYTES)
      throw error
    }
  }

  async #closePack(queue: QueueName, how: 'with footer' | 'without footer'): Promise<void> {
    const open = this.#open.get(queue)
    if (!open) return
    const { geometry, queues } = this.#options
    this.#open.delete(queue)
    queues.push(open.pack, queue)
    try {
      // Without one its records are found all the same, only more slowly.
      if (how === 'with footer') await open.file.write(encodePackFooter(geometry, open.pack.records()), open.end)
    } finally {
      await open.file.close()
    }
    if (open.pack.liveBlocks === 0) await this.#remove(open.pack)
  }

  /** See DiskLevel.adopt. */
  async adopt(segment: SegmentId, path: string, sealed: SealedBytes): Promise<boolean> {
    const adopted = await this.#serially('adopt a segment', async () => {
      const { fileSystem, geometry, index, room } = this.#options
      if (this.isOff || this.#forgotten.has(segment) || index.hasWhole(segment)) return false
      const file = fitsGeometry(sealed, geometry) && (await fileSystem.open(path, 'read').catch(() => undefined))
      if (!file) return false
      const bytes = spaceOf(await file.size())
      await file.close()
      if (bytes > room.bytesMax * SEGMENT_SHARE_MAX || !(await this.#makeRoom(bytes))) return false
      if (this.#forgotten.has(segment)) return false
      return await this.#renameIn(segment, path, { sealed, bytes })
    })
    return adopted ?? false
  }

  async #renameIn(
    segment: SegmentId,
    path: string,
    { sealed, bytes }: { sealed: SealedBytes; bytes: number },
  ): Promise<boolean> {
    const { fileSystem, directory, geometry, index, queues, room, stats } = this.#options
    const sequence = this.#nextSequence++
    const place = { segment, sequence, bytes, path: `${directory}/${fileName({ queue: 'small', sequence, segment })}` }
    const file = new WholeSegment(place, sealed, geometry.blockBytes)
    const arrival = Promise.withResolvers<boolean>()
    file.arriving = arrival.promise
    room.take(bytes)
    // Found here before it is gone from there: who looks there first and then here finds it in one of the two.
    this.#dropBlocks(segment)
    index.addWhole(file)
    const came = await fileSystem.rename(path, file.path).then(
      () => true,
      () => false,
    )
    file.arriving = undefined
    arrival.resolve(came)
    // Forgotten in this very moment: whoever forgot it has ordered its removal, which gives the room back.
    if (file.gone) return came
    if (!came) {
      index.dropFile(file)
      room.give(bytes)
      return false
    }
    queues.push(file, 'small')
    stats.writes += file.liveBlocks
    return true
  }

  /** See CacheLevel.forget. */
  forget(segment: SegmentId): void {
    if (this.#pending > 0) this.#forgotten.add(segment)
    this.#dropBlocks(segment)
  }

  #dropBlocks(segment: SegmentId): void {
    const places = [...this.#options.index.ofSegment(segment)]
    for (const place of places) this.#options.index.drop(place)
    for (const { file } of places) if (file.liveBlocks === 0) this.retire(file)
  }

  /** Takes the file out at once; it is removed when nobody reads it any more. Packs that are still written stay. */
  retire(file: BlockFile): void {
    if (file.gone || [...this.#open.values()].some(({ pack }) => pack === file)) return
    file.gone = true
    this.#options.queues.remove(file)
    this.#options.index.dropFile(file)
    void this.#serially('remove a file', () => this.#erase(file))
  }

  async #remove(file: BlockFile): Promise<void> {
    if (file.gone) return
    file.gone = true
    this.#options.queues.remove(file)
    this.#options.index.dropFile(file)
    await this.#erase(file)
  }

  async #erase(file: BlockFile): Promise<void> {
    const { fileSystem, openFiles, room } = this.#options
    await openFiles.close(file)
    await fileSystem.remove(file.path)
    room.give(file.bytes)
  }

  /** Others fill the disk too: evicts what they need, though nothing is offered here. */
  async giveWay(): Promise<void> {
    await this.#serially('give way', () => this.#makeRoom(0))
  }

  /** Whether there is room for so many bytes more. Evicts, and spares room for what survives. */
  async #makeRoom(bytes: number): Promise<boolean> {
    const { index, packBytesMax, queues, room } = this.#options
    await room.look()
    const sparedBytes = packBytesMax / 2 + 2 * EMPTY_PACK_BYTES
    while (!room.has(bytes + sparedBytes)) {
      const victim = queues.victim(index.blocks)
      if (victim) await this.#evict(victim)
      else if (this.#open.size === 0) break
      else for (const queue of this.#open.keys()) await this.#closePack(queue, 'with footer')
    }
    return room.has(bytes)
  }

  async #evict({ file, survivors }: Victim): Promise<void> {
    const blocks = file.liveBlocks
    let copied = 0
    try {
      copied = survivors.length === 0 ? 0 : await this.#copySurvivors(file, survivors)
    } finally {
      this.#options.stats.evictions += blocks - copied
      await this.#remove(file)
    }
  }

  /** Copies what there is room for to main, checksums and all: they are looked at when it is read. */
  async #copySurvivors(file: BlockFile, survivors: readonly number[]): Promise<number> {
    const { fileSystem, geometry, index, room } = this.#options
    // A whole segment may have pages of another size.
    if (this.isOff || file.pageBytes !== geometry.pageBytes) return 0
    const from = await fileSystem.open(file.path, 'read')
    let copied = 0
    try {
      const bytes = Buffer.allocUnsafeSlow(recordBytes(geometry) + geometry.blockBytes)
      for (const ordinal of survivors) {
        const { segment, block, position, length } = file.at(ordinal)
        const staged = { segment, block, length, bytes, pageCrcs: file.pageCrcs(ordinal).slice() }
        /** Not forgotten, nor found to be bad meanwhile. */
        const wanted = (): boolean => index.find(segment, block)?.file === file
        if (!wanted() || !room.has(this.#appendBytes(staged))) continue
        await from.read(bytes.subarray(recordBytes(geometry), recordBytes(geometry) + length), position)
        if (!(await this.#write('main', staged, wanted))) continue
        const old = index.find(segment, block)
        // Of two copies the index finds the whole segment's.
        if (old?.file === file) index.drop(old)
        const copy = index.find(segment, block)
        if (copy) copy.file.uses[copy.ordinal] = file.uses[ordinal] ?? 0
        copied++
      }
    } finally {
      await from.close()
    }
    return copied
  }

  /** Resolves when all that was asked for is done, and packs are finished. */
  async drain(): Promise<void> {
    await this.#serially('finish packs', async () => {
      for (const queue of this.#open.keys()) await this.#closePack(queue, 'with footer')
    })
  }
}
