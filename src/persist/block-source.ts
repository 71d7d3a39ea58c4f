/**
 * Where the cache gets blocks that it does not hold in memory. They are read into the slab and every page is checked on the way (C14).
 *
 * A segment is written in the journal, sealed there, carried to the remote store, marked persisted, moved into the disk
 * level of the cache and evicted from it. Sources are asked in this order:
 *
 *   unsealed in the journal, sealed in the journal or adopted, disk level, copies of other nodes' segments, other nodes, remote store
 *
 * So a segment that moves on between two looks is found at the next one, and it never moves back; when it is on no disk here and with no other node
 * the remote store has had it since before it left the journal. Without an external remote store there is neither that nor a disk level.
 *
 * A block of a local file that is bad, or on a disk that fails, comes from the next source if the segment is persisted. If it is not,
 * that file and its copies on other nodes are all there is, and the failure is told if those fail too.
 */
import { must } from '../common/assert.ts'
import { TidegateError } from '../common/errors.ts'
import type { SegmentId } from '../common/ids.ts'
import type { Limits } from '../common/limits.ts'
import type { Footer } from './journal/format.ts'
import type { Journal } from './journal/journal.ts'
import type { FileSystem, OpenFile, SegmentIndex } from './ports.ts'
import type { DiskBlocks, PageVerifier } from './reading/ports.ts'
import type { RemoteSegments } from './reading/remote-segments.ts'
import type { SealedSegment, SegmentFiles } from './segment-files.ts'

export interface BlockSourceOptions {
  readonly fileSystem: FileSystem
  readonly files: SegmentFiles
  readonly journal: () => Pick<Journal, 'unsealed'>
  readonly verifier: PageVerifier
  readonly limits: Limits
  readonly slabView: (slabOffset: number, length: number) => Uint8Array
  readonly onBadBlock: (segment: SegmentId, block: number) => void
  /** Undefined: there are no others. */
  readonly neighbours?: Neighbours | undefined
  /** Copies that this node holds of others' segments. */
  readonly copies?: Pick<DiskBlocks, 'read'> | undefined
  /** Where segments lie that no file of ours holds. Undefined: there is no external remote store. */
  readonly behind?: BehindFiles | undefined
}

export interface BehindFiles {
  readonly index: Pick<SegmentIndex, 'segment'>
  readonly remote: Pick<RemoteSegments, 'read' | 'footer' | 'forget'>
  readonly disk?: DiskBlocks | undefined
}

/** Other nodes, and what they hold. Provided by cache-tier/neighbours. */
export interface Neighbours {
  /**
   * Undefined: there is nobody to ask, and the block is to be had from the remote store, or nowhere. Else what becomes of asking: the length of the block, at least what was needed, or
   * undefined where the remote store has it too. The slot is theirs until that settles.
   * @throws Unavailable, DataLost where other nodes alone have it, and none gives it
   */
  ask(want: Place & BlockNeed): Promise<{ readonly length: Promise<number | undefined> } | undefined>
}

/** How much of a block there must be: it may still grow elsewhere. What is here of it already is `held`, in another slot. */
export interface BlockNeed {
  readonly needed: number
  readonly held?: { readonly slabOffset: number; readonly length: number } | undefined
}

/** Nobody waits for it yet. */
const NO_NEED: BlockNeed = { needed: 0 }

/** One block and the slot that it goes to. */
export interface Place {
  readonly segment: SegmentId
  readonly block: number
  readonly slabOffset: number
}

/** A page that fails its checksum is read again once: a read that raced with memory trouble must not cost an object. */
const READ_ATTEMPTS = 2
/** Segments that are known to have no file; of one that is not known it costs two failed `open` to find out. */
const FILELESS_MAX = 65_536

export class BlockSource {
  readonly #options: BlockSourceOptions
  /** No file of ours holds these, and none will, unless we take over a copy: a segment does not come back. Oldest first. */
  readonly #fileless = new Set<SegmentId>()

  constructor(options: BlockSourceOptions) {
    this.#options = options
  }

  /**
   * Fills a slot with a block; returns its length (short at the end of the segment, or where it still grows elsewhere: then at least `needed`).
   * @throws DataLost when the bytes are not there or fail their checksums, Unavailable when the disk or the remote store fails
   */
  async read(segment: SegmentId, block: number, slabOffset: number, need: BlockNeed = NO_NEED): Promise<number> {
    return await (this.readRun(segment, block, [slabOffset], need)[0] as Promise<number>)
  }

  /** `read` of blocks that follow each other. What must come from the remote store comes by one request. */
  readRun(
    segment: SegmentId,
    firstBlock: number,
    slots: readonly number[],
    need: BlockNeed = NO_NEED,
  ): readonly Promise<number>[] {
    const places = slots.map((slabOffset, index) => ({ segment, block: firstBlock + index, slabOffset }))
    const near = places.map((place) => this.#readNear(place, need))
    const { neighbours } = this.#options
    const asking = near.map(async (look, index) =>
      (await look) === undefined ? await neighbours?.ask({ ...(places[index] as Place), ...need }) : undefined,
    )
    // What there is nobody to ask for need not wait for those who are asked.
    const far = this.#readFar(
      places,
      near.map(async (look, index) => (await look) === undefined && (await asking[index]) === undefined),
    )
    const later = this.#readFar(
      places,
      asking.map(async (asked) => {
        const elsewhere = await asked
        return elsewhere !== undefined && (await elsewhere.length) === undefined
      }),
    )
    return near.map(async (look, index) => {
      const length = (await look) ?? (await (await asking[index])?.length)
      return length ?? (await must((await far)[index] ?? (await later)[index], 'remote block').length)
    })
  }

  /**
   * Fills a slot for another node with what lies here and, if this one `mayFetch` it, in the remote store; undefined when it is not there. Asks no other node.
   * @throws as `read`
   */
  async readHere(place: Place, mayFetch: boolean): Promise<number | undefined> {
    const length = await this.#fromHere(place)
    if (length !== undefined || !mayFetch || !this.#options.behind) return length
    return await must((await this.#readFar([place], [Promise.resolve(true)]))[0], 'remote block').length
  }

  /** Reads blocks from the remote store, those of them that are wanted; undefined for the rest. */
  async #readFar(
    places: readonly Place[],
    wanted: readonly Promise<boolean>[],
  ): Promise<readonly ({ readonly length: Promise<number> } | undefined)[]> {
    const looks = await Promise.allSettled(wanted)
    const isFar = (index: number): boolean => {
      const look = looks[index]
      return look?.status === 'fulfilled' && look.value
    }
    const far: ({ length: Promise<number> } | undefined)[] = []
    for (let from = 0; from < places.length; from++) {
      if (!isFar(from)) continue
      let to = from + 1
      while (isFar(to)) to++
      // In an object, so that one which rejects is not the outcome of all.
      for (const [index, length] of this.#behind(places.slice(from, to)).entries()) far[from + index] = { length }
      from = to
    }
    return far
  }

  #behind(run: readonly Place[]): readonly Promise<number>[] {
    const { behind } = this.#options
    const { segment, block } = must(run[0], 'block to read')
    if (behind) {
      const slots = run.map(({ slabOffset }) => slabOffset)
      return behind.remote.read(segment, block, slots)
    }
    return run.map(() => Promise.reject(new TidegateError('DataLost', `segment ${segment} is on no disk`)))
  }

  /** Undefined: if anybody has it, others do. */
  async #readNear(place: Place, need: BlockNeed): Promise<number | undefined> {
    try {
      return await this.#fromHere(place, need)
    } catch (error) {
      const asked = await this.#options.neighbours?.ask({ ...place, ...need }).catch(() => undefined)
      const length = await asked?.length.catch(() => undefined)
      if (length === undefined) throw error
      return length
    }
  }

  async #fromHere(place: Place, { needed }: BlockNeed = NO_NEED): Promise<number | undefined> {
    const unsealed = await this.#readUnsealed(place)
    if (unsealed !== undefined) return unsealed
    const { behind, copies } = this.#options
    const { segment, block, slabOffset } = place
    const length = await this.#fromFile(behind, segment, (sealed) => this.#readSealed(sealed, place))
    if (length !== undefined) return length
    // A cache that fails is no reason not to look further.
    const cached = await behind?.disk?.read(segment, block, slabOffset).catch(() => undefined)
    if (cached !== undefined) return cached
    // A copy of a segment that is still written may be behind its owner.
    const copied = await copies?.read(segment, block, slabOffset).catch(() => undefined)
    return copied !== undefined && copied >= needed ? copied : undefined
  }

  /** What a file of ours tells; undefined when there is none, or it is bad and there is another copy. */
  async #fromFile<T>(
    behind: BehindFiles | undefined,
    segment: SegmentId,
    read: (sealed: SealedSegment) => Promise<T>,
  ): Promise<T | undefined> {
    if (this.#fileless.has(segment)) return undefined
    try {
      const found = await this.#options.files.useIfHere(segment, async (sealed) => ({ result: await read(sealed) }))
      const isElsewhere = behind !== undefined || this.#options.neighbours !== undefined
      if (!found && isElsewhere) this.#rememberFileless(segment)
      return found?.result
    } catch (error) {
      const record = await behind?.index.segment(segment)
      if (record?.state !== 'persisted') throw error
      return undefined
    }
  }

  #rememberFileless(segment: SegmentId): void {
    this.#fileless.add(segment)
    if (this.#fileless.size > FILELESS_MAX) this.#fileless.delete(this.#fileless.values().next().value as SegmentId)
  }

  /** The footer of a sealed segment, wherever it lies. @throws DataLost, Unavailable, SlowDown */
  async footer(segment: SegmentId): Promise<Footer> {
    const { behind } = this.#options
    const read = ({ footer }: SealedSegment): Promise<Footer> => Promise.resolve(footer)
    if (!behind) return await this.#options.files.use(segment, read)
    return (await this.#fromFile(behind, segment, read)) ?? (await behind.remote.footer(segment))
  }

  /** The segment is gone, or lies elsewhere now. */
  forget(segment: SegmentId): void {
    this.#fileless.delete(segment)
    this.#options.behind?.remote.forget(segment)
  }

  /** Undefined when it is sealed. */
  async #readUnsealed({ segment, block, slabOffset }: Place): Promise<number | undefined> {
    const unsealed = this.#options.journal().unsealed(segment)
    const file = unsealed && (await this.#openUnsealed(segment))
    if (!unsealed || !file) return undefined
    try {
      const { blockBytes, pageBytes } = this.#options.limits
      const firstPage = (block * blockBytes) / pageBytes
      const crcs = Array.from({ length: blockBytes / pageBytes }, (_, page) => unsealed.pageCrc(firstPage + page) ?? -1)
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

  /** Undefined when it was sealed and carried away in this very moment. */
  async #openUnsealed(segment: SegmentId): Promise<OpenFile | undefined> {
    const { fileSystem, files } = this.#options
    return await fileSystem.open(files.journalPath(segment), 'read').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw unreadable(segment, error)
    })
  }

  #readSealed({ file, footer }: SealedSegment, { segment, block, slabOffset }: Place): Promise<number> {
    const { blockBytes } = this.#options.limits
    const start = block * blockBytes
    const length = Math.min(blockBytes, footer.dataBytes - start)
    if (length <= 0) throw new TidegateError('DataLost', `segment ${segment} ends before block ${block}`)
    const { pageBytes } = footer
    const firstPage = start / pageBytes
    const crcs = footer.pageCrcs.subarray(firstPage, firstPage + Math.ceil(length / pageBytes))
    return this.#readChecked(file, { segment, block, slabOffset, length, pageBytes, crcs })
  }

  async #readChecked(
    file: OpenFile,
    want: Place & { readonly length: number; readonly pageBytes: number; readonly crcs: ArrayLike<number> },
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
