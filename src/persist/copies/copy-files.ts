/**
 * Where copies lie:
 *
 *   <data>/copies/<id>.seg        written as the owner writes it; whole when it ends in a valid footer
 *   <data>/copies/<id>.seg.part   a whole one on its way, which takes the other's name, and place, once it is sealed
 */
import { dirname } from 'node:path'
import { isSegmentId, type SegmentId } from '../../common/ids.ts'
import { isTidegateError } from '../../common/errors.ts'
import type { Footer } from '../journal/format.ts'
import { scanFrames } from '../journal/scan.ts'
import type { FileSystem, OpenFile } from '../ports.ts'
import { PARTIAL_SUFFIX, SegmentFiles, type SealedSegment } from '../segment-files.ts'
import type { CopyMode } from './messages.ts'

export class CopyFiles {
  readonly directory: string
  readonly #fileSystem: FileSystem
  readonly #sealed: SegmentFiles

  constructor(fileSystem: FileSystem, directory: string) {
    this.directory = directory
    this.#fileSystem = fileSystem
    this.#sealed = new SegmentFiles(fileSystem, { journal: directory, store: directory })
  }

  path(segment: SegmentId, mode: CopyMode = 'live'): string {
    return mode === 'live' ? `${this.directory}/${segment}.seg` : `${this.directory}/${segment}${PARTIAL_SUFFIX}`
  }

  async find(): Promise<{ readonly copies: SegmentId[]; readonly partial: SegmentId[] }> {
    const copies: SegmentId[] = []
    const partial: SegmentId[] = []
    for (const name of await this.#fileSystem.list(this.directory)) {
      const id = name.slice(0, 32)
      if (!isSegmentId(id)) continue
      if (name === `${id}.seg`) copies.push(id)
      else if (name === `${id}${PARTIAL_SUFFIX}`) partial.push(id)
    }
    return { copies, partial }
  }

  /** The footer of a whole copy; undefined where there is none. */
  async footer(segment: SegmentId): Promise<Footer | undefined> {
    return await this.useSealed(segment, ({ footer }) => Promise.resolve(footer))
  }

  async useSealed<T>(segment: SegmentId, read: (sealed: SealedSegment) => Promise<T>): Promise<T | undefined> {
    try {
      return await this.#sealed.useIfHere(segment, read)
    } catch (error) {
      if (isTidegateError(error, 'DataLost')) return undefined
      throw error
    }
  }

  /** Reads a copy that has no footer, up to its last whole frame. */
  async useScanned<T>(
    segment: SegmentId,
    read: (file: OpenFile, dataBytes: number) => Promise<T>,
  ): Promise<T | undefined> {
    const file = await this.#fileSystem.open(this.path(segment), 'read').catch(() => undefined)
    if (!file) return undefined
    try {
      return await read(file, (await scanFrames(file, segment)).dataBytes)
    } finally {
      await file.close()
    }
  }

  /** Of its file; undefined where there is none. Any other failure is thrown: on its word copies count as lost. */
  async bytes(segment: SegmentId): Promise<number | undefined> {
    const file = await this.#fileSystem.open(this.path(segment), 'read').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
    if (!file) return undefined
    try {
      return await file.size()
    } finally {
      await file.close()
    }
  }

  async open(segment: SegmentId): Promise<OpenFile | undefined> {
    return await this.#fileSystem.open(this.path(segment), 'read').catch(() => undefined)
  }

  /** The one that came whole takes its place. Durable when it resolves. */
  async replace(segment: SegmentId): Promise<void> {
    await this.#fileSystem.rename(this.path(segment, 'whole'), this.path(segment))
    await this.#fileSystem.syncDirectory(this.directory)
    this.#sealed.moved(segment)
  }

  async remove(segment: SegmentId, mode: CopyMode = 'live'): Promise<void> {
    await this.#fileSystem.remove(this.path(segment, mode))
    if (mode === 'live') this.#sealed.moved(segment)
  }

  /** It lies in the journal from now on. Durable when it resolves. */
  async moveTo(segment: SegmentId, path: string, directory: string): Promise<void> {
    await this.#fileSystem.rename(this.path(segment), path)
    await this.#fileSystem.syncDirectory(directory)
    await this.#fileSystem.syncDirectory(this.directory)
    this.#sealed.moved(segment)
  }

  /** What lay there is a copy from now on. Durable when it resolves. */
  async takeFrom(segment: SegmentId, path: string): Promise<void> {
    await this.#fileSystem.rename(path, this.path(segment))
    await this.#fileSystem.syncDirectory(this.directory)
    await this.#fileSystem.syncDirectory(dirname(path))
    this.#sealed.moved(segment)
  }

  close(): void {
    this.#sealed.close()
  }
}
