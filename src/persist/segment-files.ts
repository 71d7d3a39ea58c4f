/**
 * Where segment files lie and how they are read: in the journal while they are open or freshly sealed, in the local-disk
 * store once adopted. A reader looks in both places, because adoption is a rename under its feet.
 *
 *   <data>/journal/<id>.seg           being written, or sealed (it then ends in a valid footer) and not adopted yet
 *   <store>/segments/<hh>/<id>.seg    adopted; <hh> are the last two hex digits of the id (they are random)
 */
import { TidegateError } from '../common/errors.ts'
import { isSegmentId, type SegmentId } from '../common/ids.ts'
import { decodeFooter, readTrailer, TRAILER_BYTES, type Footer } from './journal/format.ts'
import type { FileSystem, OpenFile } from './ports.ts'

export interface SegmentPlaces {
  readonly journal: string
  readonly store: string
}

export interface FoundSegment {
  readonly segment: SegmentId
  readonly place: 'journal' | 'adopted'
  readonly path: string
}

/** After a segment's id: the name of a copy that is not finished. */
export const PARTIAL_SUFFIX = '.seg.part'

/** Files kept open, with their footers, most recently used last. */
const OPEN_FILES_MAX = 256

export interface SealedSegment {
  readonly file: OpenFile
  readonly footer: Footer
}

interface OpenedSegment {
  /** Undefined: there is no file. */
  readonly opening: Promise<SealedSegment | undefined>
  users: number
  retired: boolean
}

export class SegmentFiles {
  readonly places: SegmentPlaces
  readonly #fileSystem: FileSystem
  readonly #opened = new Map<SegmentId, OpenedSegment>()

  constructor(fileSystem: FileSystem, places: SegmentPlaces) {
    this.#fileSystem = fileSystem
    this.places = places
  }

  journalPath(segment: SegmentId): string {
    return `${this.places.journal}/${segment}.seg`
  }

  adoptedDirectory(segment: SegmentId): string {
    return `${this.places.store}/segments/${segment.slice(-2)}`
  }

  adoptedPath(segment: SegmentId): string {
    return `${this.adoptedDirectory(segment)}/${segment}.seg`
  }

  /** Every segment file there is; what else lies in these directories is not ours and is left alone. */
  async find(): Promise<FoundSegment[]> {
    const found: FoundSegment[] = []
    for (const name of await this.#fileSystem.list(this.places.journal)) {
      const id = name.slice(0, 32)
      if (!isSegmentId(id)) continue
      const path = `${this.places.journal}/${name}`
      if (name === `${id}.seg`) found.push({ segment: id, place: 'journal', path })
    }
    for (const shard of await this.#fileSystem.list(`${this.places.store}/segments`)) {
      if (!/^[0-9a-f]{2}$/.test(shard)) continue
      for (const name of await this.#fileSystem.list(`${this.places.store}/segments/${shard}`)) {
        const id = name.slice(0, 32)
        if (!isSegmentId(id) || name !== `${id}.seg` || id.slice(-2) !== shard) continue
        found.push({ segment: id, place: 'adopted', path: this.adoptedPath(id) })
      }
    }
    return found
  }

  /** Copies that a crash left unfinished (adoption across file systems, remote/local-disk.ts). */
  async findPartial(): Promise<string[]> {
    const partial: string[] = []
    for (const shard of await this.#fileSystem.list(`${this.places.store}/segments`)) {
      if (!/^[0-9a-f]{2}$/.test(shard)) continue
      const directory = `${this.places.store}/segments/${shard}`
      for (const name of await this.#fileSystem.list(directory)) {
        if (isSegmentId(name.slice(0, 32)) && name.slice(32) === PARTIAL_SUFFIX) partial.push(`${directory}/${name}`)
      }
    }
    return partial
  }

  /**
   * Runs `read` with a sealed segment's file and footer, which stay open for the next reader.
   * @throws DataLost when no intact file is there
   */
  async use<T>(segment: SegmentId, read: (sealed: SealedSegment) => Promise<T>): Promise<T> {
    const found = await this.useIfHere(segment, async (sealed) => ({ result: await read(sealed) }))
    if (!found) throw new TidegateError('DataLost', `segment ${segment} is on no disk`)
    return found.result
  }

  /** `use`; undefined when no file is there. */
  async useIfHere<T>(segment: SegmentId, read: (sealed: SealedSegment) => Promise<T>): Promise<T | undefined> {
    const entry = this.#entry(segment)
    entry.users++
    try {
      const sealed = await entry.opening
      return sealed && (await read(sealed))
    } finally {
      entry.users--
      this.#closeIfRetired(entry)
    }
  }

  #entry(segment: SegmentId): OpenedSegment {
    const known = this.#opened.get(segment)
    if (known) {
      this.#opened.delete(segment)
      this.#opened.set(segment, known)
      return known
    }
    const entry: OpenedSegment = { opening: this.#open(segment), users: 0, retired: false }
    this.#opened.set(segment, entry)
    const forget = (): void => {
      if (this.#opened.get(segment) === entry) this.#opened.delete(segment)
    }
    entry.opening.then((sealed) => !sealed && forget(), forget)
    if (this.#opened.size > OPEN_FILES_MAX) {
      this.#retire(this.#opened.keys().next().value as SegmentId)
    }
    return entry
  }

  #retire(segment: SegmentId): void {
    const entry = this.#opened.get(segment)
    if (!entry) return
    this.#opened.delete(segment)
    entry.retired = true
    this.#closeIfRetired(entry)
  }

  #closeIfRetired(entry: OpenedSegment): void {
    if (!entry.retired || entry.users > 0) return
    entry.opening.then((sealed) => sealed?.file.close()).catch(() => undefined)
  }

  async #open(segment: SegmentId): Promise<SealedSegment | undefined> {
    // Adoption may rename the file between the two looks; in this order it is found all the same.
    for (const path of [this.journalPath(segment), this.adoptedPath(segment)]) {
      const file = await this.#fileSystem.open(path, 'read').catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return undefined
        throw unavailable(`cannot open segment ${segment}`, error)
      })
      if (!file) continue
      try {
        const footer = await readFooter(file, segment)
        if (footer) return { file, footer }
      } catch (error) {
        await file.close().catch(() => undefined)
        throw unavailable(`cannot read segment ${segment}`, error)
      }
      await file.close().catch(() => undefined)
      throw new TidegateError('DataLost', `segment ${segment} has no valid footer`)
    }
    return undefined
  }

  /** Removes the segment's file wherever it lies. Durable enough without a directory sync: a file that comes back is an orphan, which recovery removes. */
  async remove(segment: SegmentId): Promise<void> {
    this.#retire(segment)
    for (const path of [this.journalPath(segment), this.adoptedPath(segment)]) {
      await this.#fileSystem.remove(path)
    }
    // Read ahead meanwhile: a file that stays open keeps its space.
    this.#retire(segment)
  }

  /**
   * Its file lies elsewhere now: readers that have it open go on, the next one looks again. A file that stayed open longer would
   * keep its space when it is evicted there.
   */
  moved(segment: SegmentId): void {
    this.#retire(segment)
  }

  close(): void {
    for (const segment of this.#opened.keys()) this.#retire(segment)
  }
}

/** What the disk says, which may be another thing tomorrow. */
function unavailable(what: string, cause: unknown): TidegateError {
  return new TidegateError('Unavailable', `${what}: ${cause instanceof Error ? cause.message : String(cause)}`, {
    cause,
  })
}

/** The footer of a sealed file, or undefined when it has none that checks. */
export async function readFooter(file: OpenFile, segment: SegmentId): Promise<Footer | undefined> {
  const fileBytes = await file.size()
  if (fileBytes < TRAILER_BYTES) return undefined
  const trailer = Buffer.alloc(TRAILER_BYTES)
  await file.read(trailer, fileBytes - TRAILER_BYTES)
  const described = readTrailer(segment, trailer, fileBytes)
  if (!described) return undefined
  const bytes = Buffer.alloc(described.footerBytes + TRAILER_BYTES)
  await file.read(bytes, described.dataBytes)
  return decodeFooter(segment, bytes)
}
