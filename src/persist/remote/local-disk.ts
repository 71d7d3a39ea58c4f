/**
 * The local disk as remote store: it adopts sealed segments by renaming them, so that bytes are written once (C21).
 * Adopted means: renamed, and both directories synced. Across file systems it copies instead, syncs the copy under a
 * temporary name, and only then gives it its own.
 */
import { dirname } from 'node:path'
import { TidegateError } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { FileSystem } from '../ports.ts'
import type { SegmentFiles } from '../segment-files.ts'
import { copyInto } from './copy-file.ts'

export class LocalDiskStore {
  readonly #fileSystem: FileSystem
  readonly #files: SegmentFiles
  readonly #knownDirectories = new Set<string>()

  constructor(fileSystem: FileSystem, files: SegmentFiles) {
    this.#fileSystem = fileSystem
    this.#files = files
  }

  async start(): Promise<void> {
    const { journal, store } = this.#files.places
    await this.#fileSystem.makeDirectory(journal)
    await this.#fileSystem.makeDirectory(`${store}/segments`)
    await this.#fileSystem.syncDirectory(store)
    // The directories' own names: without them a power cut takes all that lies in them.
    for (const parent of new Set([dirname(journal), dirname(store)])) await this.#fileSystem.syncDirectory(parent)
  }

  /** Durable when it resolves; safe to repeat after a crash anywhere inside. @throws StorageFull, Unavailable */
  async adopt(segment: SegmentId): Promise<void> {
    const directory = this.#files.adoptedDirectory(segment)
    const from = this.#files.journalPath(segment)
    const to = this.#files.adoptedPath(segment)
    try {
      await this.#ensureDirectory(directory)
      await this.#move(from, to)
      await this.#fileSystem.syncDirectory(directory)
      await this.#fileSystem.syncDirectory(this.#files.places.journal)
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      throw new TidegateError(
        code === 'ENOSPC' ? 'StorageFull' : 'Unavailable',
        `cannot adopt segment ${segment}: ${message}`,
        {
          cause: error,
        },
      )
    }
  }

  async #move(from: string, to: string): Promise<void> {
    try {
      await this.#fileSystem.rename(from, to)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EXDEV') return await this.#copy(from, to)
      if (code !== 'ENOENT' || !(await this.#exists(to))) throw error
    }
  }

  async #exists(path: string): Promise<boolean> {
    const file = await this.#fileSystem.open(path, 'read').catch(() => undefined)
    await file?.close()
    return file !== undefined
  }

  async #copy(from: string, to: string): Promise<void> {
    const temporary = `${to}.part`
    await this.#fileSystem.remove(temporary)
    const target = await this.#fileSystem.open(temporary, 'create')
    try {
      await copyInto(target, { fileSystem: this.#fileSystem, path: from })
      await target.sync()
    } finally {
      await target.close()
    }
    await this.#fileSystem.rename(temporary, to)
    await this.#fileSystem.syncDirectory(dirname(to))
    await this.#fileSystem.remove(from)
  }

  async #ensureDirectory(directory: string): Promise<void> {
    if (this.#knownDirectories.has(directory)) return
    await this.#fileSystem.makeDirectory(directory)
    await this.#fileSystem.syncDirectory(`${this.#files.places.store}/segments`)
    this.#knownDirectories.add(directory)
  }
}
