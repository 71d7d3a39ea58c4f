/**
 * An external bucket in memory, for tests: what any S3 store does, decided in one turn of the event loop, so that conditions are atomic.
 *
 * Whoever tests may step in between:
 *
 *   outsidePut, outsideDelete    another program's doing: no call of ours, seen by the next one
 *   failNth                      the n-th call of a method from now fails, `before` it did anything or `after` (the answer was lost)
 *   pauseNth                     the n-th call of a method from now waits, `before` or `after` it has taken effect, until it is released
 *   down, revoked                everything is answered with Unavailable, or with AccessDenied
 *   capabilities, knowsTags      what the store can do, switched off and on; a condition that it cannot decide is NotImplemented
 *   operations                   every call and how it ended
 *
 * Bytes are copied on their way in and out. ETags are those of S3: the MD5, and for parts the MD5 of their MD5s with their number.
 */
import { createHash } from 'node:crypto'
import type {
  Expected,
  ExternalBucket,
  ExternalCapabilities,
  ExternalDescription,
  ExternalObject,
  ExternalPage,
  PieceSource,
  UploadPiece,
} from '../../src/attach/ports.ts'
import { assert, must } from '../../src/common/assert.ts'
import { systemClock, type Clock } from '../../src/common/clock.ts'
import { isTidegateError, TidegateError, type ErrorCode } from '../../src/common/errors.ts'
import type { ObjectAttributes } from '../../src/common/model.ts'

export type ExternalMethod = Exclude<keyof ExternalBucket, 'description' | 'stop'>
export type When = 'before' | 'after'

export interface Operation {
  readonly method: ExternalMethod
  /** Of a listing: the prefix; of the probe: ''. */
  readonly key: string
  readonly expected: Expected | undefined
  /** Bytes that went over the wire, either way. */
  bytes: number
  /** `done`, `lost` (done, and answered with an error), an error code, or undefined while it is under way. */
  outcome: 'done' | 'lost' | ErrorCode | undefined
}

export interface Pause {
  /** Resolves when the call is there. */
  readonly reached: Promise<void>
  release(): void
}

interface StoredObject {
  readonly bytes: Buffer
  readonly etag: string
  readonly modifiedMs: number
  readonly attributes: ObjectAttributes
  readonly partsCount: number | undefined
}

interface Plan {
  readonly method: ExternalMethod
  callsLeft: number
  readonly when: When
  /** Throws for a fault, waits for a pause. */
  readonly act: () => Promise<void>
  readonly isFault: boolean
}

interface WriteOptions {
  readonly expected: Expected
  readonly signal?: AbortSignal | undefined
  readonly aboutToComplete?: ((etag: string) => Promise<void>) | undefined
}

const PARTS_MAX = 10_000
const PART_BYTES_MIN = 5 * 1024 * 1024

export const PLAIN_ATTRIBUTES: ObjectAttributes = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }

export class MemoryBucket implements ExternalBucket {
  readonly description = 'memory:'
  readonly capabilities: { -readonly [name in keyof ExternalCapabilities]: boolean } = {
    conditionalPut: true,
    conditionalDelete: true,
    conditionalComplete: true,
    conditionalCopy: true,
  }
  knowsTags = true
  down = false
  revoked = false
  /** Of all parts but the last. */
  partBytesMin: number = PART_BYTES_MIN
  /** Before each call. */
  latencyMs: () => number = () => 0
  readonly operations: Operation[] = []
  readonly #objects = new Map<string, StoredObject>()
  readonly #clock: Clock
  readonly #plans: Plan[] = []
  readonly #stopping = new AbortController()

  constructor(options: { readonly clock?: Clock } = {}) {
    this.#clock = options.clock ?? systemClock
  }

  // ---- the other side

  /** @returns the ETag */
  outsidePut(key: string, bytes: Uint8Array | string, attributes: Partial<ObjectAttributes> = {}): string {
    const stored = this.#stored(Buffer.from(bytes), { ...PLAIN_ATTRIBUTES, ...attributes })
    this.#objects.set(key, stored)
    return stored.etag
  }

  /** False when nothing was there. */
  outsideDelete(key: string): boolean {
    return this.#objects.delete(key)
  }

  /** Keys in byte order, with their bytes. */
  snapshot(): ReadonlyMap<string, Buffer> {
    return new Map(this.#keys().map((key) => [key, Buffer.from(must(this.#objects.get(key), 'object').bytes)]))
  }

  /** As `head`, without a call. */
  peek(key: string): (ExternalDescription & { readonly bytes: Buffer }) | undefined {
    const stored = this.#objects.get(key)
    return stored && { ...described(key, stored), bytes: Buffer.from(stored.bytes) }
  }

  /** How often the method was called; failing calls too. */
  calls(method: ExternalMethod): number {
    return this.operations.filter((operation) => operation.method === method).length
  }

  /** n from 1. `after`: everything is done, and the answer is lost. */
  failNth(method: ExternalMethod, n: number, when: When = 'before', code: ErrorCode = 'Unavailable'): void {
    const act = (): Promise<void> => Promise.reject(new TidegateError(code, `${method} failed on purpose (${when})`))
    this.#plans.push({ method, callsLeft: n, when, act, isFault: true })
  }

  /** n from 1. */
  pauseNth(method: ExternalMethod, n = 1, when: When = 'before'): Pause {
    const reached = Promise.withResolvers<void>()
    const released = Promise.withResolvers<void>()
    const act = async (): Promise<void> => {
      reached.resolve()
      await released.promise
    }
    this.#plans.push({ method, callsLeft: n, when, act, isFault: false })
    return { reached: reached.promise, release: () => released.resolve() }
  }

  // ---- the port

  async probe(): Promise<ExternalCapabilities> {
    return await this.#call('probe', '', {}, () => ({ ...this.capabilities }))
  }

  async list(request: Parameters<ExternalBucket['list']>[0]): Promise<ExternalPage> {
    return await this.#call('list', request.prefix, request, () => this.#page(request))
  }

  async head(key: string, signal?: AbortSignal): Promise<ExternalDescription | undefined> {
    return await this.#call('head', key, { signal }, () => {
      const stored = this.#objects.get(key)
      return stored && described(key, stored)
    })
  }

  async read(
    of: { readonly key: string; readonly etag: string },
    offset: number,
    into: readonly Uint8Array[],
    signal?: AbortSignal,
  ): Promise<number> {
    return await this.#call('read', of.key, { signal }, (operation) => {
      const { bytes } = this.#source(of)
      let position = offset
      for (const buffer of into) position += bytes.copy(buffer, 0, position, position + buffer.length)
      operation.bytes = position - offset
      return operation.bytes
    })
  }

  async put(
    key: string,
    source: PieceSource,
    options: WriteOptions & { readonly attributes: ObjectAttributes },
  ): Promise<{ readonly etag: string }> {
    return await this.#call('put', key, options, async (operation) => {
      this.#assertDecides(options.expected, 'conditionalPut')
      const bytes = await drained(source)
      options.signal?.throwIfAborted()
      operation.bytes = bytes.length
      return this.#replace(key, options.expected, () => this.#stored(bytes, options.attributes))
    })
  }

  async putInParts(
    key: string,
    pieces: readonly UploadPiece[],
    options: WriteOptions & { readonly attributes: ObjectAttributes },
  ): Promise<{ readonly etag: string }> {
    return await this.#call('putInParts', key, options, async (operation) => {
      assert(pieces.length > 0 && pieces.length <= PARTS_MAX, 'an upload has 1 to 10,000 parts')
      this.#assertDecides(options.expected, 'conditionalComplete')
      const parts: Buffer[] = []
      for (const piece of pieces) {
        const part = piece.kind === 'copy' ? this.#range(piece) : await drained(piece.source)
        if (piece.kind === 'bytes') operation.bytes += part.length
        parts.push(part)
      }
      options.signal?.throwIfAborted()
      if (parts.slice(0, -1).some(({ length }) => length < this.partBytesMin)) {
        throw new TidegateError('EntityTooSmall', `${key}: a part that is not the last is too small`)
      }
      await options.aboutToComplete?.(etagOfParts(parts))
      return this.#replace(key, options.expected, () => ({
        ...this.#stored(Buffer.concat(parts), options.attributes),
        etag: etagOfParts(parts),
        partsCount: parts.length,
      }))
    })
  }

  async copy(
    from: { readonly key: string; readonly etag: string; readonly size: number },
    key: string,
    options: WriteOptions & { readonly attributes: ObjectAttributes | undefined },
  ): Promise<{ readonly etag: string }> {
    return await this.#call('copy', key, options, () => {
      this.#assertDecides(options.expected, 'conditionalCopy')
      const { bytes, attributes } = this.#source(from)
      return this.#replace(key, options.expected, () => this.#stored(bytes, options.attributes ?? attributes))
    })
  }

  async remove(key: string, expected: Exclude<Expected, { kind: 'absent' }>): Promise<void> {
    await this.#call('remove', key, { expected }, () => {
      this.#assertDecides(expected, 'conditionalDelete')
      if (this.#objects.has(key)) this.#assertExpected(key, expected)
      this.#objects.delete(key)
    })
  }

  async tags(key: string): Promise<Readonly<Record<string, string>>> {
    return await this.#call('tags', key, {}, () => {
      const { attributes } = this.#existing(key)
      return this.knowsTags ? { ...attributes.tags } : {}
    })
  }

  async setTags(key: string, tags: Readonly<Record<string, string>>): Promise<void> {
    await this.#call('setTags', key, {}, () => {
      if (!this.knowsTags) throw new TidegateError('NotImplemented', 'the store knows no tags')
      const stored = this.#existing(key)
      this.#objects.set(key, { ...stored, attributes: { ...stored.attributes, tags: { ...tags } } })
    })
  }

  stop(): void {
    this.#stopping.abort(new TidegateError('Unavailable', 'the external bucket is being stopped'))
  }

  // ---- one call

  async #call<T>(
    method: ExternalMethod,
    key: string,
    { expected, signal }: { readonly expected?: Expected; readonly signal?: AbortSignal | undefined },
    work: (operation: Operation) => T | Promise<T>,
  ): Promise<T> {
    const operation: Operation = { method, key, expected, bytes: 0, outcome: undefined }
    this.operations.push(operation)
    // Decided when the call begins, so that a plan counts calls in the order in which they are made.
    const plans = this.#plansFor(method)
    const ends = AbortSignal.any([this.#stopping.signal, ...(signal ? [signal] : [])])
    try {
      const latencyMs = this.latencyMs()
      if (latencyMs > 0) await this.#clock.sleep(latencyMs, ends)
      await this.#act(plans, 'before', ends)
      if (this.down) throw new TidegateError('Unavailable', 'the store is down', { details: { status: 503 } })
      if (this.revoked) throw new TidegateError('AccessDenied', 'access was revoked', { details: { status: 403 } })
      const value = await work(operation)
      operation.outcome = 'lost'
      await this.#act(plans, 'after', ends)
      operation.outcome = 'done'
      return value
    } catch (thrown) {
      const error = asTidegateError(thrown)
      operation.outcome ??= error.code
      throw error
    }
  }

  #plansFor(method: ExternalMethod): Plan[] {
    const due = this.#plans.filter((plan) => plan.method === method && --plan.callsLeft === 0)
    this.#plans.splice(0, this.#plans.length, ...this.#plans.filter(({ callsLeft }) => callsLeft > 0))
    return due
  }

  /** Pauses first: a call may wait and then fail. */
  async #act(plans: readonly Plan[], when: When, signal: AbortSignal): Promise<void> {
    const now = plans.filter((plan) => plan.when === when)
    const aborted = Promise.withResolvers<never>()
    aborted.promise.catch(() => undefined)
    const abort = (): void => aborted.reject(signal.reason)
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort)
    try {
      for (const plan of now.filter(({ isFault }) => !isFault)) await Promise.race([plan.act(), aborted.promise])
      if (when === 'before' || now.length > 0) signal.throwIfAborted()
      for (const plan of now.filter(({ isFault }) => isFault)) await plan.act()
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  // ---- the objects

  #stored(bytes: Buffer, attributes: ObjectAttributes): StoredObject {
    // Stores say whole seconds.
    const modifiedMs = Math.floor(this.#clock.nowMs() / 1_000) * 1_000
    return { bytes, etag: md5(bytes).toString('hex'), modifiedMs, attributes, partsCount: undefined }
  }

  #replace(key: string, expected: Expected, make: () => StoredObject): { etag: string } {
    this.#assertExpected(key, expected)
    const stored = make()
    this.#objects.set(key, stored)
    return { etag: stored.etag }
  }

  #assertDecides(expected: Expected, capability: keyof ExternalCapabilities): void {
    if (expected.kind === 'anything' || this.capabilities[capability]) return
    throw new TidegateError('NotImplemented', `the store has no ${capability}`)
  }

  #assertExpected(key: string, expected: Expected): void {
    if (expected.kind === 'anything') return
    const etag = this.#objects.get(key)?.etag
    if (etag === (expected.kind === 'etag' ? expected.etag : undefined)) return
    throw new TidegateError('PreconditionFailed', `${key}: what lies there is not what was expected`, {
      details: { side: 'target' },
    })
  }

  #existing(key: string): StoredObject {
    const stored = this.#objects.get(key)
    if (stored === undefined) throw new TidegateError('NoSuchKey', `${key}: there is no such object`)
    return stored
  }

  #source({ key, etag }: { readonly key: string; readonly etag: string }): StoredObject {
    const stored = this.#existing(key)
    if (stored.etag === etag) return stored
    throw new TidegateError('PreconditionFailed', `${key}: it is another one now`, { details: { side: 'source' } })
  }

  #range(piece: Extract<UploadPiece, { kind: 'copy' }>): Buffer {
    const { bytes } = this.#source(piece)
    assert(piece.length > 0 && piece.offset + piece.length <= bytes.length, 'the range lies in the object')
    return bytes.subarray(piece.offset, piece.offset + piece.length)
  }

  #keys(): string[] {
    return [...this.#objects.keys()].sort(inByteOrder)
  }

  #page(request: Parameters<ExternalBucket['list']>[0]): ExternalPage {
    const { prefix, after, delimiter, limit } = request
    assert(limit >= 1 && limit <= 1000, 'a page has 1 to 1000 names')
    const objects: ExternalObject[] = []
    const prefixes: string[] = []
    let last = after
    for (const key of this.#keys()) {
      if (!key.startsWith(prefix)) continue
      const end = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length)
      const name = end < 0 ? key : key.slice(0, end + 1)
      if (inByteOrder(name, last) <= 0) continue
      if (objects.length + prefixes.length === limit) return { objects, prefixes, next: last }
      last = name
      if (end < 0) objects.push(listed(key, must(this.#objects.get(key), 'object')))
      else prefixes.push(name)
    }
    return { objects, prefixes, next: undefined }
  }
}

function inByteOrder(one: string, other: string): number {
  return Buffer.compare(Buffer.from(one), Buffer.from(other))
}

function listed(key: string, { bytes, etag, modifiedMs, attributes }: StoredObject): ExternalObject {
  return { key, size: bytes.length, etag, modifiedMs, storageClass: attributes.storageClass }
}

function described(key: string, stored: StoredObject): ExternalDescription {
  return { ...listed(key, stored), attributes: stored.attributes, partsCount: stored.partsCount }
}

async function drained(source: PieceSource): Promise<Buffer> {
  const slices: Buffer[] = []
  for await (const slice of source.bytes()) slices.push(Buffer.from(slice))
  const bytes = Buffer.concat(slices)
  assert(bytes.length === source.length, 'a source gives as many bytes as it says')
  return bytes
}

function md5(bytes: Uint8Array): Buffer {
  return createHash('md5').update(bytes).digest()
}

function etagOfParts(parts: readonly Buffer[]): string {
  return `${md5(Buffer.concat(parts.map((part) => md5(part)))).toString('hex')}-${parts.length}`
}

function asTidegateError(thrown: unknown): TidegateError {
  if (isTidegateError(thrown)) return thrown
  if (!(thrown instanceof Error) || thrown.name !== 'AbortError') throw thrown
  return new TidegateError('Unavailable', `it was given up: ${thrown.message}`, { cause: thrown })
}
