/** The bytes of what is carried out: read here, in slices, as the external store takes them. */
import { isTidegateError } from '../common/errors.ts'
import type { ExternalBody } from '../common/external.ts'
import type { Revision } from '../common/ids.ts'
import type { ObjectVersion } from '../common/model.ts'
import type { ReaderId, SlabSlice } from '../store/types.ts'
import type { PieceSource } from './ports.ts'

export interface ContentReader {
  /** What the namespace names from now on stays readable until the reading is closed (C12). */
  open(bucketId: number): ContentReading
}

export interface ContentReading {
  /**
   * So many bytes of the version's body (not an inline one) from `offset` on, holes as zeros. Each slice is valid until the next is asked for;
   * several of these may run at once. @throws DataLost, SlowDown, Unavailable; PreconditionFailed and NoSuchKey when they lay in an
   * external object that is another one by now
   */
  bytes(version: ObjectVersion, offset: number, length: number): AsyncIterable<Uint8Array>
  close(): void
}

/** Of the store's reading: what is needed here. */
export interface StoreReading {
  begin(revision: Revision): ReaderId
  openWith(holder: ReaderId, version: ObjectVersion): ReaderId
  read(reader: ReaderId, offset: number, length: number): Promise<SlabSlice>
  view(slice: SlabSlice): Uint8Array
  release(lease: number): void
  close(reader: ReaderId): void
}

export interface ContentReaderParts {
  readonly store: () => StoreReading
  readonly revision: () => Revision
  /** A body that lies outside is about to be read: after a restart nobody else may have come by it. */
  readonly learn: (bucketId: number, body: ExternalBody) => void
}

export function contentReader({ store: storeOf, revision, learn }: ContentReaderParts): ContentReader {
  return {
    open(bucketId) {
      const store = storeOf()
      const holder = store.begin(revision())
      return {
        bytes: (version, offset, length) => {
          if (version.body.kind === 'external') learn(bucketId, version.body.external)
          return slicesOf(store, { holder, version, offset, length })
        },
        close: () => store.close(holder),
      }
    },
  }
}

async function* slicesOf(
  store: StoreReading,
  { holder, version, offset, length }: { holder: ReaderId; version: ObjectVersion; offset: number; length: number },
): AsyncGenerator<Uint8Array> {
  const reader = store.openWith(holder, version)
  try {
    for (let done = 0; done < length;) {
      const slice = await store.read(reader, offset + done, length - done).catch(rethrowGone)
      try {
        yield store.view(slice)
      } finally {
        store.release(slice.lease)
      }
      done += slice.length
    }
  } finally {
    store.close(reader)
  }
}

/** Who reads is told to try again where the object is another one now; here that is what must be known. */
function rethrowGone(error: unknown): never {
  for (let cause = error; cause instanceof Error; cause = cause.cause) if (isGone(cause)) throw cause
  throw error
}

/** Of reading: the bytes lay in an external object that is another one now, or in none. */
export function isGone(error: unknown): boolean {
  return isTidegateError(error, 'PreconditionFailed') || isTidegateError(error, 'NoSuchKey')
}

/** One version's bytes, for uploads and comparisons; remembers whether it was they that could not be had. */
export class Content {
  readonly version: ObjectVersion
  readonly #reading: ContentReading
  readonly #signal: AbortSignal
  /** The first error of reading since `forgive`. */
  failure: unknown

  constructor(version: ObjectVersion, reading: ContentReading, signal: AbortSignal) {
    this.version = version
    this.#reading = reading
    this.#signal = signal
  }

  piece(offset: number, length: number): PieceSource {
    return { length, bytes: () => this.bytes(offset, length) }
  }

  forgive(): void {
    this.failure = undefined
  }

  async *bytes(offset: number, length: number): AsyncGenerator<Uint8Array> {
    if (length === 0) return
    const { body } = this.version
    if (body.kind === 'inline') {
      yield body.bytes.subarray(offset, offset + length)
      return
    }
    const slices = this.#reading.bytes(this.version, offset, length)[Symbol.asyncIterator]()
    try {
      for (let next = await this.#next(slices); next !== undefined; next = await this.#next(slices)) yield next
    } finally {
      await slices.return?.()
    }
  }

  async #next(slices: AsyncIterator<Uint8Array>): Promise<Uint8Array | undefined> {
    this.#signal.throwIfAborted()
    try {
      const { done, value } = await slices.next()
      return done ? undefined : value
    } catch (error) {
      this.failure ??= error
      throw error
    }
  }
}
