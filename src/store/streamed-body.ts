/**
 * One body on its way in. Its bytes are copied once, into slots of the slab, and hashed there by worker threads.
 *
 *   gathering --finish--> gathered --store--> in a shared segment        (up to `sharedBodyBytesMax`)
 *       \--grows past it--> streaming --finish--> in a segment of its own
 *
 * A streaming body's blocks go to the journal as they fill and then stay in the cache; its segment becomes known to
 * others only when the body is published. One owner, calls in sequence.
 */
import { assert } from '../common/assert.ts'
import { TidegateError } from '../common/errors.ts'
import type { ContentId } from '../common/ids.ts'
import type { Limits } from '../common/limits.ts'
import type { HashStream, Journaling, JournaledBody, JournalStream, Memory } from './byte-ports.ts'
import type { BodyDigests } from './types.ts'

export interface StreamedBodyParts {
  readonly memory: Memory
  readonly journal: Journaling
  readonly limits: Limits
  readonly hash: HashStream
  readonly content: ContentId
  readonly bucket: string
  readonly expectedLength: number | undefined
  /** It is known already that it is to be copied to another node. */
  readonly copied?: boolean
}

export class StreamedBody {
  readonly content: ContentId
  readonly #parts: StreamedBodyParts
  /** Slots that are full and still held (gathering). */
  readonly #gathered: { slot: number; hashed: Promise<void> }[] = []
  #slot: number | undefined
  #filled = 0
  #length = 0
  #stream: JournalStream | undefined
  #blocksStreamed = 0
  readonly #underWay = new Set<Promise<void>>()
  #failure: Error | undefined
  #digests: BodyDigests | undefined

  constructor(parts: StreamedBodyParts) {
    this.#parts = parts
    this.content = parts.content
    if ((parts.expectedLength ?? 0) > parts.limits.sharedBodyBytesMax) this.#beginStream()
  }

  get length(): number {
    return this.#length
  }

  get expectedLength(): number | undefined {
    return this.#parts.expectedLength
  }

  #beginStream(): void {
    const { journal, bucket, copied = false } = this.#parts
    this.#stream = journal.stream({ content: this.content, bucket, copied })
  }

  async append(bytes: Uint8Array): Promise<void> {
    const { memory, limits } = this.#parts
    assert(this.#digests === undefined, 'append to a finished body')
    for (let from = 0; from < bytes.length;) {
      if (this.#failure) throw this.#failure
      if (this.#slot === undefined) await this.#nextSlot()
      const slot = this.#slot as unknown as number
      const length = Math.min(bytes.length - from, limits.blockBytes - this.#filled)
      memory.view(slot + this.#filled, length).set(bytes.subarray(from, from + length))
      this.#filled += length
      this.#length += length
      from += length
      if (this.#filled === limits.blockBytes) this.#blockDone()
    }
  }

  async #nextSlot(): Promise<void> {
    const { memory, limits } = this.#parts
    if (!this.#stream && this.#gathered.length * limits.blockBytes >= limits.sharedBodyBytesMax) {
      this.#beginStream()
      for (const { slot, hashed } of this.#gathered.splice(0)) this.#streamBlock(slot, limits.blockBytes, hashed)
    }
    while (this.#underWay.size >= limits.streamBlocksInFlightMax && this.#stream) await Promise.race(this.#underWay)
    const slot = await memory.acquire('stream')
    if (this.#failure) {
      // Discarded while it waited.
      memory.release(slot)
      throw this.#failure
    }
    this.#slot = slot
    this.#filled = 0
  }

  #blockDone(): void {
    const slot = this.#slot as number
    this.#slot = undefined
    const hashed = this.#parts.hash.update({ slabOffset: slot, length: this.#filled })
    if (this.#stream) {
      this.#streamBlock(slot, this.#filled, hashed)
    } else {
      this.#gathered.push({ slot, hashed })
      this.#track(hashed)
    }
  }

  /** The slot passes to the cache once it is both hashed and written. */
  #streamBlock(slot: number, length: number, hashed: Promise<void>): void {
    const { memory } = this.#parts
    const stream = this.#stream as JournalStream
    const block = this.#blocksStreamed++
    const written = stream.write(slot, length)
    this.#track(
      Promise.allSettled([hashed, written]).then((outcomes) => {
        const failed = outcomes.find((outcome) => outcome.status === 'rejected')
        if (failed) {
          memory.release(slot)
          throw failed.reason as Error
        }
        memory.publish(stream.segment, block, slot, length)
        memory.settle(stream.segment, block)
      }),
    )
  }

  #track(work: Promise<void>): void {
    const tracked: Promise<void> = work
      .catch((error: unknown) => {
        this.#failure ??= error as Error
      })
      .finally(() => this.#underWay.delete(tracked))
    this.#underWay.add(tracked)
  }

  /** No more bytes: their digests, once all of them are hashed and, if streaming, handed to the kernel. */
  async finish(): Promise<BodyDigests> {
    if (this.#digests) return this.#digests
    if (this.#slot !== undefined) {
      const filled = this.#filled
      this.#blockDone()
      this.#filled = filled
    }
    await Promise.all(this.#underWay)
    if (this.#failure) throw this.#failure
    this.#digests = await this.#parts.hash.finish()
    return this.#digests
  }

  /** Puts a finished body into the journal. Its slots are given back; `JournaledBody.sync` makes it durable. */
  async store(label: string, options?: { readonly copied: boolean }): Promise<JournaledBody> {
    const { journal, memory, limits } = this.#parts
    const digests = this.#digests
    if (!digests) throw new TidegateError('InvalidRequest', 'the body was not finished before it was published')
    const stream = this.#stream
    if (stream) {
      const run = await stream.finish(label)
      return {
        run,
        sync: () => Promise.resolve(),
        isLost: () => false,
        settled: () => journal.streamPublished(stream.segment),
      }
    }
    const pieces = this.#gathered.map(({ slot }, index) => {
      const last = index === this.#gathered.length - 1
      return memory.view(slot, last ? this.#length - index * limits.blockBytes : limits.blockBytes)
    })
    const bodyCrc = Buffer.from(digests.checksums.CRC32 ?? '', 'base64').readUInt32BE(0)
    const body = { content: this.content, label, pieces, length: this.#length, bodyCrc }
    const journaled = await journal.append(body, options)
    for (const { slot } of this.#gathered.splice(0)) memory.release(slot)
    return journaled
  }

  /** Gives every slot back, and removes what was streamed to disk. */
  async discard(): Promise<void> {
    const { memory, journal, hash } = this.#parts
    this.#failure ??= new TidegateError('RequestTimeout', 'the body was discarded')
    if (!this.#digests) hash.abandon()
    await Promise.all(this.#underWay)
    if (this.#slot !== undefined) memory.release(this.#slot)
    this.#slot = undefined
    for (const { slot } of this.#gathered.splice(0)) memory.release(slot)
    if (this.#stream) await journal.discardStream(this.#stream)
  }

  get streamedSegment(): JournalStream | undefined {
    return this.#stream
  }
}
