/** What people do to the attached bucket through one life of the node, at random and at once, by all three doors. */
import { NO_CONDITIONS } from '../../../src/common/conditions.ts'
import { isTidegateError, type TidegateError } from '../../../src/common/errors.ts'
import { utf8Bytes, type InodeId } from '../../../src/common/ids.ts'
import type { AckLevel } from '../../../src/common/model.ts'
import type { Engine } from '../../../src/engine.ts'
import type { BodySource } from '../../../src/store/types.ts'
import type { Random } from '../../model/random.ts'
import type { Life } from '../../sim/life.ts'
import { ATTRIBUTES, md5, OWNER } from '../../sim/workload.ts'
import { isBelow, replacing, told, touching } from './changes.ts'
import { Broken, type Change, type Ledger } from './ledger.ts'
import type { Outside } from './outside.ts'
import { BUCKET, bytesOf, readObject } from './reading.ts'

export const KEYS = ['a', 'b', 'd/a', 'd/s/b', 'e/a', 'e/s/b'] as const
const DIRECTORIES = ['d', 'e', 'd/s', 'e/s', 'f'] as const
/** Around every boundary of the limits. */
const SIZES = [0, 8, 12, 31, 32, 33, 64, 65, 100, 128, 129, 256, 257, 600, 1024, 1025, 1300, 2048, 3000] as const
const MADE = { mode: 0o644, uid: 0, gid: 0 } as const
const HOLD_MS_MAX = 400

export class Clients {
  readonly #life: Life
  readonly #random: Random
  readonly #ledger: Ledger
  readonly #outside: Outside
  readonly #counts: Record<string, number>
  /** One at a time writes into files, so that it is known what they hold. */
  #writing = false

  constructor(
    life: Life,
    world: {
      readonly random: Random
      readonly ledger: Ledger
      readonly outside: Outside
      readonly counts: Record<string, number>
    },
  ) {
    this.#life = life
    this.#random = world.random
    this.#ledger = world.ledger
    this.#outside = world.outside
    this.#counts = world.counts
  }

  get #engine(): Engine {
    return this.#life.engine
  }

  count(what: string): void {
    this.#counts[what] = (this.#counts[what] ?? 0) + 1
  }

  #key(): string {
    return this.#random.pick(KEYS)
  }

  #ack(): AckLevel {
    return this.#random.pick(['journal', 'journal', 'journal', 'memory', 'persisted'])
  }

  bytes(sizeMin = 0): Buffer {
    const bytes = Buffer.alloc(Math.max(sizeMin, this.#random.pick(SIZES)))
    for (let at = 0; at < bytes.length; at++) bytes[at] = this.#random.below(256)
    return bytes
  }

  /** Enters a change, does it, and enters how it ended. Resolves with whether it was done. */
  async #change(
    change: Change,
    work: () => Promise<void>,
    acknowledged: () => readonly { readonly key: string; readonly bytes: Buffer }[] = () => [],
  ): Promise<boolean> {
    const entered = this.#ledger.begin(change)
    try {
      await work()
      this.#ledger.end(entered, 'done', acknowledged())
      return true
    } catch (error) {
      this.#ledger.end(entered, told(error))
      this.#forgive(error, change.what)
      return false
    }
  }

  /** @throws what no client should ever be told */
  #forgive(error: unknown, what: string): asserts error is TidegateError {
    if (error instanceof Broken || !isTidegateError(error) || error.code === 'Internal') {
      throw new Broken(`${what} failed: ${(error as Error).stack}`, { cause: error })
    }
    this.count(`  ${error.code}`)
  }

  // ---- objects

  async put(): Promise<void> {
    const key = this.#key()
    const bytes = this.bytes()
    const ack = this.#ack()
    const content = this.#ledger.know(bytes)
    await this.#change(
      replacing(`put ${key} ${content} (${bytes.length} bytes, ${ack})`, key),
      async () => {
        const body: BodySource = { kind: 'bytes', bytes, digests: { md5: md5(bytes), checksums: {} } }
        const userMetadata: Record<string, string> = this.#random.chance(0.3) ? { mark: content } : {}
        const tags: Record<string, string> = this.#random.chance(0.2) ? { tag: content } : {}
        const attributes = { ...ATTRIBUTES, userMetadata, tags }
        const conditions = NO_CONDITIONS
        const request = { bucket: BUCKET, key, attributes, checksum: undefined, owner: OWNER, conditions, ack }
        await this.#engine.store.objects.put({ ...request, body: await this.#body(body, bytes, key) })
      },
      () => (ack === 'memory' ? [] : [{ key, bytes }]),
    )
  }

  /** Streamed when it is not small. */
  async #body(small: BodySource, bytes: Buffer, key: string): Promise<BodySource> {
    if (bytes.length <= 300) return small
    const { bodies } = this.#engine.store
    const label = { bucket: BUCKET, key }
    const body = await bodies.open({ expectedLength: bytes.length, algorithms: [], sha256: false, label })
    try {
      await bodies.append(body, bytes)
      await bodies.finish(body)
      return { kind: 'streamed', body }
    } catch (error) {
      await bodies.discard(body)
      throw error
    }
  }

  async delete(): Promise<void> {
    const key = this.#key()
    await this.#change(replacing(`delete ${key}`, key), async () => {
      await this.#engine.store.objects.delete({ bucket: BUCKET, key }, NO_CONDITIONS, this.#ack())
    })
  }

  async tag(): Promise<void> {
    const key = this.#key()
    await this.#change(touching(`tag ${key}`, key), async () => {
      await this.#engine.store.objects.setTags({ bucket: BUCKET, key }, { tag: String(this.#random.below(1000)) })
    })
  }

  async copy(): Promise<void> {
    const [source, key] = [this.#key(), this.#key()]
    // Onto itself, it changes nothing that could be kept.
    const read = source === key ? undefined : await this.#read(source)
    if (!read) return
    await this.#change(
      replacing(`copy ${source} to ${key}`, key),
      async () => {
        await this.#engine.store.objects.copy({
          source: { bucket: BUCKET, key: source },
          sourceConditions: { ifMatch: [read.etag] },
          bucket: BUCKET,
          key,
          attributes: undefined,
          tags: undefined,
          owner: OWNER,
          conditions: NO_CONDITIONS,
          ack: 'journal',
        })
      },
      () => [{ key, bytes: read.bytes }],
    )
  }

  async upload(): Promise<void> {
    const key = this.#key()
    const { uploads } = this.#engine.store
    let whole = Buffer.alloc(0)
    await this.#change(
      replacing(`upload ${key}`, key),
      async () => {
        const at = { bucket: BUCKET, key }
        const attributes = ATTRIBUTES
        const options = { owner: OWNER, attributes, checksumAlgorithm: undefined, checksumType: undefined }
        const { uploadId } = await uploads.create({ ...at, ...options })
        const parts: { partNumber: number; etag: string; checksum: undefined }[] = []
        for (let partNumber = 1 + this.#random.below(3); partNumber > 0; partNumber--) {
          const { etag, bytes } = await this.#part({ ...at, uploadId, partNumber })
          parts.unshift({ partNumber, etag, checksum: undefined })
          whole = Buffer.concat([bytes, whole])
        }
        this.#ledger.note(`upload ${key} is ${this.#ledger.know(whole)}`)
        const rest = { checksum: undefined, checksumType: undefined, objectSize: whole.length } as const
        await uploads.complete({ ...at, uploadId, parts, ...rest, conditions: NO_CONDITIONS, ack: 'journal' })
      },
      () => [{ key, bytes: whole }],
    )
  }

  async #part(at: { bucket: string; key: string; uploadId: string; partNumber: number }): Promise<{
    etag: string
    bytes: Buffer
  }> {
    const { uploads } = this.#engine.store
    const source = this.#key()
    const read = this.#random.chance(0.4) ? await this.#read(source) : undefined
    if (read && read.bytes.length > 100) {
      const offset = this.#random.below(read.bytes.length - 80)
      const length = 80 + this.#random.below(read.bytes.length - 80 - offset)
      const { etag } = await uploads.copyPart({
        ...at,
        source: { bucket: BUCKET, key: source },
        sourceConditions: { ifMatch: [read.etag] },
        range: { offset, length },
        ack: 'journal',
      })
      return { etag, bytes: read.bytes.subarray(offset, offset + length) }
    }
    const bytes = this.bytes(80)
    const small: BodySource = { kind: 'bytes', bytes, digests: { md5: md5(bytes), checksums: {} } }
    const body = await this.#body(small, bytes, at.key)
    const { etag } = await uploads.putPart({ ...at, body, checksum: undefined, ack: 'journal' })
    return { etag, bytes }
  }

  async transact(): Promise<void> {
    const [key, other] = [this.#key(), this.#key()]
    if (key === other) return
    const bytes = this.bytes().subarray(0, 200)
    const what = `transaction put ${key} ${this.#ledger.know(bytes)} delete ${other}`
    const both = (at: string): boolean => at === key || at === other
    await this.#change(
      { what, touches: both, destroys: both },
      async () => {
        const body = { kind: 'bytes', bytes, digests: { md5: md5(bytes), checksums: {} } } as const
        await this.#engine.store.keyValues.transact({
          bucket: BUCKET,
          compares: [],
          then: [
            { op: 'put', key, body, attributes: ATTRIBUTES, ttlMs: undefined },
            { op: 'delete', key: other },
          ],
          else: [],
          owner: OWNER,
          ack: 'journal',
        })
      },
      () => [{ key, bytes }],
    )
  }

  // ---- reading

  async look(): Promise<void> {
    await this.#read(this.#key())
  }

  async list(): Promise<void> {
    const prefix = this.#random.pick(['', '', 'd/', 'e/', 'd/s/'])
    const delimiter = this.#random.pick(['', '/'])
    const limit = this.#random.pick([1000, 2])
    await this.#engine.store.objects
      .list({ bucket: BUCKET, prefix, delimiter, after: '', limit })
      .catch((error: unknown) => this.#forgive(error, 'list'))
  }

  /** @throws Broken when what it holds was never written */
  async #read(key: string): Promise<{ readonly etag: string; readonly bytes: Buffer } | undefined> {
    try {
      const found = await readObject(this.#engine, key)
      if (found && !this.#ledger.isKnown(found.bytes) && !this.#writing) {
        throw new Broken(`${key} reads as ${found.bytes.length} bytes that nobody wrote`)
      }
      return found
    } catch (error) {
      this.#forgive(error, `read ${key}`)
      return undefined
    }
  }

  // ---- files

  async #directory(path: string, isMade = false): Promise<InodeId> {
    const { files } = this.#engine.store
    let { inode } = await files.find(0, utf8Bytes(BUCKET))
    for (const name of path.split('/').filter(Boolean)) {
      const made = { ...MADE, mode: 0o755 }
      inode = await files.find(inode, utf8Bytes(name)).then(
        (node) => node.inode,
        async (error: unknown) => {
          if (!isMade || !isTidegateError(error, 'NoSuchKey')) throw error
          return (await files.makeDirectory(inode, utf8Bytes(name), made)).inode
        },
      )
    }
    return inode
  }

  async #place(key: string, isMade = false): Promise<{ parent: InodeId; name: ReturnType<typeof utf8Bytes> }> {
    const cut = key.lastIndexOf('/') + 1
    return { parent: await this.#directory(key.slice(0, cut), isMade), name: utf8Bytes(key.slice(cut)) }
  }

  async create(): Promise<void> {
    const key = this.#key()
    const bytes = this.bytes()
    const what = `file ${key} ${this.#ledger.know(bytes)} (${bytes.length} bytes)`
    await this.#exclusively(async () => {
      await this.#change(
        replacing(what, key),
        async () => {
          const { files } = this.#engine.store
          const { parent, name } = await this.#place(key, true)
          const handle = await files.create(parent, name, MADE, { write: true }).then(
            (made) => made.handle,
            async (error: unknown) => {
              if (!isTidegateError(error, 'FileExists')) throw error
              const { inode } = await files.find(parent, name)
              return (await files.open(inode, { write: true, truncate: true })).handle
            },
          )
          try {
            if (bytes.length > 0) await files.write(handle, 0, bytes, false)
            await files.sync(handle)
          } finally {
            await files.release(handle)
          }
        },
        // Who writes a file that somebody replaces meanwhile, from wherever, writes what has no name any more.
        () => [],
      )
    })
  }

  /** Writes into the middle of a file. */
  async edit(): Promise<void> {
    const key = this.#key()
    await this.#exclusively(async () => {
      await this.#change(replacing(`edit ${key}`, key), async () => {
        const { files } = this.#engine.store
        const { parent, name } = await this.#place(key)
        const { inode } = await files.find(parent, name)
        const { handle, node } = await files.open(inode, { write: true, truncate: false })
        try {
          let expected = await this.#wholeFile(handle, node.size)
          for (let edits = 1 + this.#random.below(2); edits > 0; edits--) {
            const patch = this.bytes(8).subarray(0, 300)
            const offset = this.#random.below(expected.length + 20)
            const grown = Buffer.alloc(Math.max(expected.length, offset + patch.length))
            expected.copy(grown)
            patch.copy(grown, offset)
            expected = grown
            this.#ledger.note(`edit ${key} at ${offset}+${patch.length}: ${this.#ledger.know(expected)}`)
            await files.write(handle, offset, patch, false)
            if (this.#random.chance(0.3)) await this.#life.scheduler.delay(this.#random.next() * HOLD_MS_MAX)
            if (this.#random.chance(0.3)) await files.sync(handle)
          }
          const found = await this.#wholeFile(handle, expected.length)
          if (!found.equals(expected)) throw new Broken(`${key}: an open file holds something else than was written`)
          await files.sync(handle)
        } finally {
          await files.release(handle)
        }
      })
    })
  }

  async #exclusively(work: () => Promise<void>): Promise<void> {
    if (this.#writing) return
    this.#writing = true
    try {
      await work()
    } finally {
      this.#writing = false
    }
  }

  async #wholeFile(handle: number, length: number): Promise<Buffer> {
    const { files, reading } = this.#engine.store
    if (length === 0) return Buffer.alloc(0)
    const pieces = await files.read(handle, 0, length)
    return Buffer.concat(pieces.map((piece) => bytesOf(piece, reading)))
  }

  async rename(): Promise<void> {
    const [from, to] = [this.#key(), this.#key()]
    if (from === to) return
    const mode = this.#random.pick(['replace', 'replace', 'no-replace', 'exchange'] as const)
    const change: Change = {
      what: `rename ${from} to ${to} (${mode})`,
      touches: (key) => key === from || key === to,
      destroys: (key) => mode === 'replace' && key === to,
      moves: (key) => (key === from ? to : key === to && mode === 'exchange' ? from : undefined),
    }
    await this.#change(change, async () => {
      await this.#engine.store.files.rename(await this.#place(from), await this.#place(to, true), mode)
    })
  }

  async renameDirectory(): Promise<void> {
    const [from, to] = [this.#random.pick(DIRECTORIES), this.#random.pick(DIRECTORIES)]
    if (from === to) return
    const mode = this.#random.pick(['replace', 'no-replace', 'exchange'] as const)
    const change: Change = {
      what: `rename ${from}/ to ${to}/ (${mode})`,
      touches: (key) => isBelow(key, from) || isBelow(key, to),
      destroys: () => false,
      moves: (key) => {
        if (isBelow(key, from)) return to + key.slice(from.length)
        return isBelow(key, to) && mode === 'exchange' ? from + key.slice(to.length) : undefined
      },
    }
    await this.#change(change, async () => {
      await this.#engine.store.files.rename(await this.#place(from), await this.#place(to, true), mode)
    })
  }

  async unlink(): Promise<void> {
    const key = this.#key()
    await this.#change(replacing(`unlink ${key}`, key), async () => {
      const { parent, name } = await this.#place(key)
      await this.#engine.store.files.remove(parent, name)
    })
  }

  async removeDirectory(): Promise<void> {
    const { parent, name } = await this.#place(this.#random.pick(DIRECTORIES)).catch(() => ({
      parent: 0,
      name: utf8Bytes(''),
    }))
    if (parent === 0) return
    await this.#engine.store.files
      .removeDirectory(parent, name)
      .catch((error: unknown) => this.#forgive(error, 'rmdir'))
  }

  async mode(): Promise<void> {
    const key = this.#key()
    await this.#change(touching(`chmod ${key}`, key), async () => {
      const { parent, name } = await this.#place(key)
      const { inode } = await this.#engine.store.files.find(parent, name)
      await this.#engine.store.files.change(inode, { mode: 0o600 + this.#random.below(64) })
    })
  }

  // ---- others

  outsidePut(): Promise<void> {
    const key = this.#random.chance(0.1) ? 'f/a' : this.#key()
    this.#outside.put(key, this.bytes(8), this.#random.pick(['text/plain', 'image/png']))
    return Promise.resolve()
  }

  outsideDelete(): Promise<void> {
    this.#outside.delete(this.#key())
    return Promise.resolve()
  }

  weather(): Promise<void> {
    const random = this.#random
    const { bucket, weather } = this.#outside
    bucket.down = random.chance(0.2)
    weather.failing = random.chance(0.3) ? 0.2 : 0
    weather.lost = random.chance(0.4) ? 0.2 : 0
    weather.resent = random.chance(0.4) ? 0.2 : 0
    this.#ledger.note(`weather: ${JSON.stringify({ down: bucket.down, ...weather })}`)
    return Promise.resolve()
  }

  async job(): Promise<void> {
    const { journal, reclaimer, store, attaching } = this.#engine
    const job = this.#random.pick(['seal', 'reclaim', 'compact', 'compact-files', 'moves'])
    try {
      if (job === 'seal') journal.sealAged()
      else if (job === 'reclaim') await reclaimer.step()
      else if (job === 'compact') await reclaimer.compactSome()
      else if (job === 'moves') attaching?.writeBack.look(1)
      else await store.files.compactor.round()
    } catch (error) {
      this.#forgive(error, job)
    }
  }
}
