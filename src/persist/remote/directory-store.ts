/**
 * A directory as remote store: every object is the file `DIR/<name>`. It keeps names, backups and the marker of a `file:///DIR` remote
 * store; segments are adopted there by rename (local-disk.ts), and `putFile` does the same.
 *
 *   DIR/<name>                    the objects
 *   DIR/.uploads/<ms>-<random>    being written; <ms> is when it was begun, in hex
 *
 * Durability. An object is written under `.uploads`, synced, renamed to its name, and then the directories it now lies in are synced, from
 * its own up to the first one that was there before. So a name never leads to a part of an object, whenever the power goes; a crash leaves at
 * most a file in `.uploads`, which `abandonUploads` removes. A file that is taken over by rename was synced by the journal when it was sealed.
 *
 * Conditions are not offered: what this process checks before a rename another one may change in between, and there is no rename(2) on
 * condition of what it replaces. Known gap: where `a` is an object there can be no `a/b`, other than in S3; no name of Tidegate needs it.
 */
import { createHash, randomBytes } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { posix } from 'node:path'
import { assert } from '../../common/assert.ts'
import { systemClock, type Clock } from '../../common/clock.ts'
import { isTidegateError, TidegateError } from '../../common/errors.ts'
import type { FileSystem, OpenFile } from '../ports.ts'
import { copyInto } from './copy-file.ts'
import { assertObjectName, isObjectName } from './object-name.ts'
import type { ReadControl, RemoteObject, RemoteStore } from './ports.ts'

const UPLOADS = '.uploads'
const LIST_LIMIT_MAX = 1000

export interface DirectoryStoreOptions {
  /** Absolute. Made if absent. */
  readonly directory: string
  readonly fileSystem: FileSystem
  /** `putFile` leaves the file where it is: somebody reads it there until the object counts. */
  readonly copies?: boolean
  readonly clock?: Clock
  /** Tells uploads apart. */
  readonly randomText?: () => string
  /** When a file was last changed; the file system's port does not say. */
  readonly modifiedMs?: (path: string) => Promise<number>
}

export class DirectoryStore implements RemoteStore {
  readonly capabilities: { readonly conditionalPut: boolean; readonly takesFiles: boolean }
  readonly description: string
  readonly #directory: string
  readonly #fileSystem: FileSystem
  readonly #clock: Clock
  readonly #randomText: () => string
  readonly #modifiedMs: (path: string) => Promise<number>
  readonly #knownDirectories = new Set<string>()

  constructor(options: DirectoryStoreOptions) {
    this.description = `file://${options.directory}`
    this.capabilities = { conditionalPut: false, takesFiles: options.copies !== true }
    this.#directory = options.directory
    this.#fileSystem = options.fileSystem
    this.#clock = options.clock ?? systemClock
    this.#randomText = options.randomText ?? (() => randomBytes(8).toString('hex'))
    this.#modifiedMs = options.modifiedMs ?? (async (path) => Math.floor((await stat(path)).mtimeMs))
  }

  async connect(): Promise<void> {
    await this.#told(`cannot use ${this.#directory}`, () => this.#ensureDirectory(`${this.#directory}/${UPLOADS}`))
  }

  async stop(): Promise<void> {}

  async put(name: string, bytes: Uint8Array, condition?: object): Promise<{ etag: string }> {
    assertOurs(name)
    if (condition) {
      throw new TidegateError('NotImplemented', `${name}: ${this.description} decides no conditions`)
    }
    return await this.#told(`cannot store ${name}`, async () => {
      await this.#publish(name, async (file) => await file.write(bytes, 0))
      return { etag: etagOf(bytes) }
    })
  }

  async putFile(
    name: string,
    { path, bytes }: { readonly path: string; readonly bytes: number },
    signal?: AbortSignal,
  ): Promise<void> {
    assertOurs(name)
    await this.#told(`cannot store ${name}`, async () => {
      const size = await this.#sizeOf(path)
      if (size === undefined) {
        // Taken over by an attempt whose answer was lost, perhaps with the power: then the name may not be durable yet.
        if ((await this.#sizeOf(this.#path(name))) !== bytes) throw new Error(`there is no file ${path}`)
        return await this.#syncFrom(posix.dirname(this.#path(name)), posix.dirname(path))
      }
      if (size !== bytes) throw new Error(`${path} has ${size} bytes, not ${bytes}`)
      signal?.throwIfAborted()
      if (this.capabilities.takesFiles) await this.#take(name, path, signal)
      else await this.#copy(name, path, signal)
    })
  }

  async #take(name: string, path: string, signal: AbortSignal | undefined): Promise<void> {
    const target = this.#path(name)
    await this.#ensureDirectory(posix.dirname(target))
    try {
      await this.#fileSystem.rename(path, target)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error
      await this.#copy(name, path, signal)
      await this.#fileSystem.remove(path)
    }
    await this.#syncFrom(posix.dirname(target), posix.dirname(path))
  }

  async #copy(name: string, path: string, signal: AbortSignal | undefined): Promise<void> {
    await this.#publish(name, (file) => copyInto(file, { fileSystem: this.#fileSystem, path }, signal))
  }

  /** Writes a file under a name of its own, and gives it this one once it is whole and durable. */
  async #publish(name: string, fill: (file: OpenFile) => Promise<void>): Promise<void> {
    const target = this.#path(name)
    const begunMs = Math.max(0, Math.floor(this.#clock.nowMs()))
    const temporary = `${this.#directory}/${UPLOADS}/${begunMs.toString(16)}-${this.#randomText()}`
    await this.#ensureDirectory(posix.dirname(temporary))
    await this.#ensureDirectory(posix.dirname(target))
    try {
      const file = await this.#fileSystem.open(temporary, 'create')
      try {
        await fill(file)
        await file.sync()
      } finally {
        await file.close()
      }
      await this.#fileSystem.rename(temporary, target)
    } catch (error) {
      // What cannot be removed now is removed by abandonUploads.
      await this.#fileSystem.remove(temporary).catch(() => undefined)
      throw error
    }
    await this.#fileSystem.syncDirectory(posix.dirname(target))
  }

  async #syncFrom(target: string, source: string): Promise<void> {
    await this.#fileSystem.syncDirectory(target)
    if (source !== target) await this.#fileSystem.syncDirectory(source)
  }

  /** The directory with all that lead to it from the root of the store, each durable before the next one is relied on. */
  async #ensureDirectory(directory: string): Promise<void> {
    if (this.#knownDirectories.has(directory)) return
    const parent = posix.dirname(directory)
    if (directory !== this.#directory) await this.#ensureDirectory(parent)
    await this.#fileSystem.makeDirectory(directory)
    await this.#fileSystem.syncDirectory(parent)
    this.#knownDirectories.add(directory)
  }

  async get(name: string, bytesMax: number): Promise<{ bytes: Buffer; etag: string } | undefined> {
    assertOurs(name)
    return await this.#told(`cannot read ${name}`, () =>
      this.#withFile(this.#path(name), async (file) => {
        const size = await file.size()
        // A directory has a size too.
        if (size > bytesMax && (await this.#isFolder(name))) return undefined
        if (size > bytesMax) throw new TidegateError('EntityTooLarge', `${name} has ${size} bytes, over ${bytesMax}`)
        const bytes = Buffer.alloc(size)
        if ((await file.read(bytes, 0)) !== size) throw new Error('it shrank while it was read')
        return { bytes, etag: etagOf(bytes) }
      }),
    )
  }

  async read(name: string, offset: number, into: readonly Uint8Array[], control?: ReadControl): Promise<number> {
    assertOurs(name)
    assert(offset >= 0, 'an offset is not negative')
    const got = await this.#told(`cannot read ${name}`, () =>
      this.#withFile(this.#path(name), async (file) => {
        let done = 0
        for (const buffer of into) {
          control?.signal?.throwIfAborted()
          const bytes = await file.read(buffer, offset + done)
          done += bytes
          if (bytes < buffer.length) break
        }
        return done
      }),
    )
    if (got === undefined) throw new TidegateError('NoSuchKey', `there is no object ${name} in ${this.description}`)
    return got
  }

  async stat(name: string): Promise<RemoteObject | undefined> {
    assertOurs(name)
    return await this.#told(`cannot look at ${name}`, async () => {
      const found = await this.#look(name)
      // A directory can be opened and has a size, but it is no object.
      return found && !(await this.#isFolder(name)) ? found : undefined
    })
  }

  async #look(name: string): Promise<RemoteObject | undefined> {
    const path = this.#path(name)
    const bytes = await this.#sizeOf(path)
    if (bytes === undefined) return undefined
    const modifiedMs = await this.#modifiedMs(path).catch(ignoreAbsence)
    return modifiedMs === undefined ? undefined : { name, bytes, modifiedMs }
  }

  async list(prefix: string, after: string | undefined, limit: number): Promise<RemoteObject[]> {
    assert(limit >= 1 && limit <= LIST_LIMIT_MAX, 'a page has 1 to 1000 objects')
    return await this.#told(`cannot list ${prefix}`, async () => {
      const found: RemoteObject[] = []
      for await (const name of this.#namesIn('', prefix, after)) {
        const object = await this.#look(name)
        if (object) found.push(object)
        if (found.length === limit) break
      }
      return found
    })
  }

  /**
   * Names of files below `folder` (`''` or ending in `/`), ascending. A folder sorts among its neighbours as if its name ended in `/`, since
   * that is how everything in it begins. Those that cannot hold what is asked for are not opened.
   */
  async *#namesIn(folder: string, prefix: string, after: string | undefined): AsyncGenerator<string> {
    const entries: string[] = []
    for (const component of await this.#fileSystem.list(`${this.#directory}/${folder}`)) {
      const name = `${folder}${component}`
      if (name === UPLOADS || !isObjectName(name)) continue
      if (!name.startsWith(prefix) && !prefix.startsWith(`${name}/`)) continue
      if (after !== undefined && `${name}/` < after && !after.startsWith(`${name}/`)) continue
      entries.push((await this.#isFolder(name)) ? `${name}/` : name)
    }
    for (const entry of entries.sort((a, b) => (a < b ? -1 : 1))) {
      if (entry.endsWith('/')) yield* this.#namesIn(entry, prefix, after)
      else if (entry.startsWith(prefix) && (after === undefined || entry > after)) yield entry
    }
  }

  async #isFolder(name: string): Promise<boolean> {
    try {
      await this.#fileSystem.list(this.#path(name))
      return true
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return false
      throw error
    }
  }

  async remove(names: readonly string[]): Promise<void> {
    for (const name of names) assertOurs(name)
    await this.#told(`cannot remove ${names[0] ?? 'nothing'}`, async () => {
      const directories = new Set<string>()
      for (const name of names) {
        await this.#fileSystem.remove(this.#path(name)).catch(ignoreAbsence)
        directories.add(posix.dirname(this.#path(name)))
      }
      for (const directory of directories) await this.#fileSystem.syncDirectory(directory).catch(ignoreAbsence)
    })
  }

  async abandonUploads(begunBeforeMs: number): Promise<number> {
    const folder = `${this.#directory}/${UPLOADS}`
    return await this.#told(`cannot tidy ${folder}`, async () => {
      let abandoned = 0
      for (const name of await this.#fileSystem.list(folder)) {
        const begunMs = Number.parseInt(name.split('-', 1)[0] ?? '', 16)
        if (!(begunMs < begunBeforeMs)) continue
        await this.#fileSystem.remove(`${folder}/${name}`)
        abandoned++
      }
      return abandoned
    })
  }

  #path(name: string): string {
    return `${this.#directory}/${name}`
  }

  async #sizeOf(path: string): Promise<number | undefined> {
    return await this.#withFile(path, (file) => file.size())
  }

  /** Undefined when there is no such file. */
  async #withFile<T>(path: string, use: (file: OpenFile) => Promise<T>): Promise<T | undefined> {
    const file = await this.#fileSystem.open(path, 'read').catch(ignoreAbsence)
    if (!file) return undefined
    try {
      return await use(file)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EISDIR') return undefined
      throw error
    } finally {
      await file.close()
    }
  }

  /** What the file system throws, as the port has it. */
  async #told<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (isTidegateError(error)) throw error
      const { code, message } = error as NodeJS.ErrnoException
      // Somebody removed a directory that was there: the next attempt makes it again.
      if (code === 'ENOENT') this.#knownDirectories.clear()
      const details = code === undefined ? {} : { remoteCode: code }
      throw new TidegateError(ERROR_BY_CODE[code ?? ''] ?? 'Unavailable', `${what}: ${message}`, {
        details,
        cause: error,
      })
    }
  }
}

const ERROR_BY_CODE: Readonly<Record<string, 'AccessDenied' | 'StorageFull'>> = {
  EACCES: 'AccessDenied',
  EDQUOT: 'StorageFull',
  ENOSPC: 'StorageFull',
  EPERM: 'AccessDenied',
  EROFS: 'AccessDenied',
}

function assertOurs(name: string): void {
  assertObjectName(name)
  assert(!name.startsWith(`${UPLOADS}/`) && name !== UPLOADS, `${name} is a place of the store's own`)
}

function etagOf(bytes: Uint8Array): string {
  return `"${createHash('md5').update(bytes).digest('hex')}"`
}

/** A path through a file leads to nothing either. */
function ignoreAbsence(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
  throw error
}
