/** Bodies on their way in, by id: the doors hold only numbers (see doors.ts, Bodies). */
import { crc32 } from 'node:zlib'
import { mayHaveTakenEffect, TidegateError } from '../common/errors.ts'
import type { Clock } from '../common/clock.ts'
import type { Limits } from '../common/limits.ts'
import type { ChecksumAlgorithm } from '../common/model.ts'
import type { Bodies } from './doors.ts'
import type { Hashing, JournaledBody, Journaling, Memory, Persisting, Replicating } from './byte-ports.ts'
import { encodeLabel, type BodyLabel } from './labels.ts'
import type { MetadataBuckets, MetadataContents } from './ports.ts'
import type { Reservations } from './reservations.ts'
import { StreamedBody } from './streamed-body.ts'
import type { BodyDigests, BodyId, BodySource } from './types.ts'

export interface BodiesParts {
  readonly memory: Memory
  readonly journal: Journaling
  readonly hashing: Hashing
  readonly persisting: Persisting
  readonly contents: MetadataContents
  readonly buckets: Pick<MetadataBuckets, 'bucket'>
  /** Undefined: there are no other nodes. */
  readonly replicating?: Replicating | undefined
  readonly reservations: Reservations
  readonly limits: Limits
  readonly clock: Clock
}

/** What is known of a body when it is published; its digests and the time are added. */
export type MeantFor = Pick<BodyLabel, 'bucket' | 'key' | 'attributes' | 'part'> & {
  readonly ttlMs?: number | undefined
}

interface OpenBody {
  readonly body: StreamedBody
  readonly release: () => void
  readonly pacer: ReturnType<Persisting['pacer']>
  /** A put or an upload of a part has it: that alone decides what becomes of it, even when the door goes away meanwhile. */
  taken: boolean
  discarded: boolean
}

/** A body that is about to be published. */
export interface TakenBody {
  readonly length: number
  readonly digests: BodyDigests
  /** The bytes themselves, for a body small enough to lie inline. */
  readonly bytes: Uint8Array | undefined
  /** Puts the bytes into the journal (not durable before `sync`), into what another node has too if they are to be `copied`. Call at most once. */
  journal(label: MeantFor, options: { readonly copied: boolean }): Promise<JournaledBody>
  /**
   * Gives everything back when it is not published; also after `journal` succeeded. Never rejects; a no-op after `done`.
   * `failure`: what its publish failed with. If that may have taken effect all the same the bytes stay where they are, and go as others do that nothing refers to.
   */
  discard(failure?: unknown): Promise<void>
  /** It is published. */
  done(): void
}

export class OpenBodies implements Bodies {
  readonly #parts: BodiesParts
  readonly #open = new Map<BodyId, OpenBody>()
  #nextId = 1

  constructor(parts: BodiesParts) {
    this.#parts = parts
  }

  get count(): number {
    return this.#open.size
  }

  async open(request: Parameters<Bodies['open']>[0]): Promise<BodyId> {
    const { limits, memory, journal, hashing, persisting, contents, reservations } = this.#parts
    const { expectedLength, sha256 } = request
    if (expectedLength !== undefined && expectedLength > limits.putBytesMax) {
      throw new TidegateError(
        'EntityTooLarge',
        `a body of ${expectedLength} bytes is larger than ${limits.putBytesMax}`,
      )
    }
    const copied = await this.#isCopied(request)
    await persisting.reserve(expectedLength ?? 0)
    const pacer = persisting.pacer()
    // Refused before its bytes are sent, if the backlog has no room at all.
    await pacer.pace(0)
    const blocks = Math.ceil((expectedLength ?? Infinity) / limits.blockBytes)
    const release = await reservations.reserve(
      Math.min(
        Math.max(1, blocks),
        Math.max(limits.sharedBodyBytesMax / limits.blockBytes, limits.streamBlocksInFlightMax) + 1,
      ),
    )
    try {
      const content = await contents.allocateContentId()
      // A frame in a shared segment carries the body's CRC-32, whatever the client asked for.
      const shared = expectedLength === undefined || expectedLength <= limits.sharedBodyBytesMax
      const algorithms = [
        ...new Set<ChecksumAlgorithm>([...request.algorithms, ...(shared ? (['CRC32'] as const) : [])]),
      ]
      const hash = hashing.open({ md5: true, sha256, algorithms })
      const { bucket } = request.label
      const body = new StreamedBody({ memory, journal, limits, hash, content, bucket, expectedLength, copied })
      const id = this.#nextId++
      this.#open.set(id, { body, release, pacer, taken: false, discarded: false })
      return id
    } catch (error) {
      release()
      throw error
    }
  }

  /** Whether it goes to another node as it comes. One that may share a segment is put there later, when more is known. @throws Unavailable when no node takes it */
  async #isCopied({ ack, expectedLength, label }: Parameters<Bodies['open']>[0]): Promise<boolean> {
    const { replicating, limits, buckets } = this.#parts
    if (!replicating || (expectedLength !== undefined && expectedLength <= limits.sharedBodyBytesMax)) return false
    // A bucket that is not there is told of when the body is published.
    const level = ack ?? (await buckets.bucket(label.bucket).catch(() => undefined))?.ack
    if (level === 'replicated') replicating.check()
    return level === 'replicated'
  }

  #get(id: BodyId): OpenBody {
    const open = this.#open.get(id)
    if (!open) throw new TidegateError('InvalidRequest', `there is no open body ${id}`)
    return open
  }

  async append(id: BodyId, bytes: Uint8Array): Promise<void> {
    const { body, pacer } = this.#get(id)
    const { persisting } = this.#parts
    if (body.length + bytes.length > this.#parts.limits.putBytesMax) {
      throw new TidegateError('EntityTooLarge', `the body is larger than ${this.#parts.limits.putBytesMax} bytes`)
    }
    // What was not announced was not counted when the body was opened (C19). What was may be gone by the time it is written.
    if (body.expectedLength === undefined) await persisting.reserve(bytes.length)
    else if (body.streamedSegment) await persisting.reserve(0)
    await pacer.pace(bytes.length)
    await body.append(bytes)
  }

  async finish(id: BodyId): Promise<{ length: number; digests: BodyDigests }> {
    const { body } = this.#get(id)
    const digests = await body.finish()
    return { length: body.length, digests }
  }

  async discard(id: BodyId): Promise<void> {
    const open = this.#open.get(id)
    if (open && !open.taken) await this.#giveUp(id, open)
  }

  async #giveUp(id: BodyId, open: OpenBody): Promise<void> {
    if (open.discarded) return
    open.discarded = true
    this.#open.delete(id)
    try {
      await open.body.discard()
    } finally {
      open.release()
    }
  }

  /** What a put or an upload of a part takes over from the door. */
  async take(source: BodySource): Promise<TakenBody> {
    return source.kind === 'bytes' ? await this.#takeBytes(source) : await this.#takeStreamed(source.body)
  }

  async #takeBytes({ bytes, digests }: Extract<BodySource, { kind: 'bytes' }>): Promise<TakenBody> {
    const { persisting, contents, journal } = this.#parts
    await persisting.accept(bytes.length)
    let journaled: JournaledBody | undefined
    return {
      length: bytes.length,
      digests,
      bytes,
      journal: async (label, options) => {
        const content = await contents.allocateContentId()
        const pieces = [bytes]
        const body = {
          content,
          label: this.#label(label, digests),
          pieces,
          length: bytes.length,
          bodyCrc: crc32(bytes),
        }
        journaled = await journal.append(body, options)
        return journaled
      },
      discard: () => {
        journaled?.settled()
        journaled = undefined
        return Promise.resolve()
      },
      done: () => {
        journaled?.settled()
        journaled = undefined
      },
    }
  }

  async #takeStreamed(id: BodyId): Promise<TakenBody> {
    const open = this.#get(id)
    const digests = await open.body.finish()
    // Looked up again: it may have been discarded meanwhile.
    this.#get(id).taken = true
    let journaled: JournaledBody | undefined
    const done = (): void => {
      journaled?.settled()
      this.#open.delete(id)
      open.release()
    }
    return {
      length: open.body.length,
      digests,
      // Nothing needs no place in a segment.
      bytes: open.body.length === 0 && !open.body.streamedSegment ? new Uint8Array(0) : undefined,
      journal: async (label, options) => {
        journaled = await open.body.store(this.#label(label, digests), options)
        return journaled
      },
      discard: async (failure) => {
        if (!this.#open.has(id)) return
        if (journaled && mayHaveTakenEffect(failure)) return done()
        // A stream that reached the disk is removed by `discard`; a shared one only has to be let go.
        if (journaled && !open.body.streamedSegment) journaled.settled()
        await this.#giveUp(id, open).catch(() => undefined)
      },
      done,
    }
  }

  #label({ ttlMs, ...label }: MeantFor, { md5: etag }: BodyDigests): string {
    const modifiedMs = this.#parts.clock.nowMs()
    return encodeLabel({ ...label, etag, modifiedMs, expiresMs: ttlMs === undefined ? undefined : modifiedMs + ttlMs })
  }

  /** Gives back what doors left open; at shutdown. A body that is being published right now is not theirs any more. */
  async discardAll(): Promise<void> {
    await Promise.all([...this.#open.keys()].map((id) => this.discard(id).catch(() => undefined)))
  }
}
