/**
 * A remote store in memory, for simulations: it outlives the node, so what it holds survives the node's power cuts. Several instances
 * over the same `RemoteObjects` are several clients of one store.
 *
 * As with an external S3 nothing is ever seen in part, and an upload that a power cut interrupts is not there. Everything takes
 * `pauseMs()` before it happens and again before it is answered, so that what overlaps in a real store does so here.
 */
import { createHash } from 'node:crypto'
import { assert } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { FileSystem } from '../ports.ts'
import { assertObjectName } from './object-name.ts'
import type { ReadControl, RemoteObject, RemoteStore } from './ports.ts'

const LIST_LIMIT_MAX = 1000

interface StoredObject {
  readonly bytes: Buffer
  readonly etag: string
  readonly modifiedMs: number
}

/** The contents, apart from the client that goes down with its node. */
export type RemoteObjects = Map<string, StoredObject>

export interface MemoryStoreOptions {
  readonly clock: Clock
  /** Where `putFile` reads. */
  readonly fileSystem: FileSystem
  readonly objects?: RemoteObjects
  /** How long the next step takes; by default nothing waits. */
  readonly pauseMs?: () => number
  /** False for a store that does not know conditions. */
  readonly conditionalPut?: boolean
}

export class MemoryStore implements RemoteStore {
  readonly description = 'memory:'
  readonly objects: RemoteObjects
  readonly #options: MemoryStoreOptions
  #connected = false

  constructor(options: MemoryStoreOptions) {
    this.#options = options
    this.objects = options.objects ?? new Map()
  }

  get capabilities(): { conditionalPut: boolean; takesFiles: boolean } {
    return { conditionalPut: this.#connected && (this.#options.conditionalPut ?? true), takesFiles: false }
  }

  async connect(): Promise<void> {
    await this.#pause()
    this.#connected = true
  }

  async stop(): Promise<void> {}

  async put(
    name: string,
    bytes: Uint8Array,
    condition?: { readonly ifAbsent: true } | { readonly ifMatch: string },
  ): Promise<{ etag: string }> {
    assertObjectName(name)
    if (condition && !this.capabilities.conditionalPut) {
      throw new TidegateError('NotImplemented', `${name}: ${this.description} decides no conditions`)
    }
    const copy = Buffer.from(bytes)
    await this.#pause()
    const before = this.objects.get(name)
    if (condition && ('ifAbsent' in condition ? before : before?.etag !== condition.ifMatch)) {
      throw new TidegateError('PreconditionFailed', `${name} is not as the condition says`)
    }
    const etag = this.#store(name, copy)
    await this.#pause()
    return { etag }
  }

  async putFile(
    name: string,
    { path, bytes }: { readonly path: string; readonly bytes: number },
    signal?: AbortSignal,
  ): Promise<void> {
    assertObjectName(name)
    const content = await this.#readFile(name, path, bytes)
    await this.#pause()
    signal?.throwIfAborted()
    this.#store(name, content)
    await this.#pause()
  }

  async #readFile(name: string, path: string, bytes: number): Promise<Buffer> {
    try {
      const file = await this.#options.fileSystem.open(path, 'read')
      try {
        const content = Buffer.alloc(bytes)
        const size = await file.size()
        if (size !== bytes || (await file.read(content, 0)) !== bytes) throw new Error(`it has not ${bytes} bytes`)
        return content
      } finally {
        await file.close()
      }
    } catch (error) {
      throw new TidegateError('Unavailable', `cannot store ${name} from ${path}: ${(error as Error).message}`, {
        cause: error,
      })
    }
  }

  #store(name: string, bytes: Buffer): string {
    const etag = `"${createHash('md5').update(bytes).digest('hex')}"`
    this.objects.set(name, { bytes, etag, modifiedMs: this.#options.clock.nowMs() })
    return etag
  }

  async get(name: string, bytesMax: number): Promise<{ bytes: Buffer; etag: string } | undefined> {
    assertObjectName(name)
    await this.#pause()
    const found = this.objects.get(name)
    if (!found) return undefined
    const { bytes, etag } = found
    if (bytes.length > bytesMax) {
      throw new TidegateError('EntityTooLarge', `${name} has ${bytes.length} bytes, over ${bytesMax}`)
    }
    return { bytes: Buffer.from(bytes), etag }
  }

  async read(name: string, offset: number, into: readonly Uint8Array[], control?: ReadControl): Promise<number> {
    assertObjectName(name)
    await this.#pause()
    control?.signal?.throwIfAborted()
    const found = this.objects.get(name)
    if (!found) throw new TidegateError('NoSuchKey', `there is no object ${name} in ${this.description}`)
    let done = 0
    for (const buffer of into) {
      const part = found.bytes.subarray(offset + done, offset + done + buffer.length)
      buffer.set(part)
      done += part.length
    }
    return done
  }

  async stat(name: string): Promise<RemoteObject | undefined> {
    assertObjectName(name)
    await this.#pause()
    const found = this.objects.get(name)
    return found && { name, bytes: found.bytes.length, modifiedMs: found.modifiedMs }
  }

  async list(prefix: string, after: string | undefined, limit: number): Promise<RemoteObject[]> {
    assert(limit >= 1 && limit <= LIST_LIMIT_MAX, 'a page has 1 to 1000 objects')
    await this.#pause()
    return [...this.objects]
      .filter(([name]) => name.startsWith(prefix) && (after === undefined || name > after))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .slice(0, limit)
      .map(([name, { bytes, modifiedMs }]) => ({ name, bytes: bytes.length, modifiedMs }))
  }

  async remove(names: readonly string[]): Promise<void> {
    for (const name of names) assertObjectName(name)
    await this.#pause()
    for (const name of names) this.objects.delete(name)
    await this.#pause()
  }

  async abandonUploads(): Promise<number> {
    return 0
  }

  async #pause(): Promise<void> {
    const ms = this.#options.pauseMs?.() ?? 0
    if (ms > 0) await this.#options.clock.sleep(ms)
  }
}
