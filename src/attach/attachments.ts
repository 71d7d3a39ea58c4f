/**
 * The attached buckets of this process. Their rows are loaded at the start, before anything is served; their stores are asked what they can do in the
 * background, for a start must not hang on somebody else's store: until one has answered nothing is carried out to it (`capabilities` is undefined), and
 * what is known of it is served.
 *
 * Attaching, changing and the phases of detaching (detach.ts) are rows first: what is told here is what a restart finds.
 *
 *   (nothing) --attach--> attached --close--> closing --forgetting--> forgetting --> (nothing)
 *                            ^                   |
 *                            +---reopen, restart-+
 */
import type { Clock } from '../common/clock.ts'
import { TidegateError } from '../common/errors.ts'
import type { AttachmentRecord, ConflictPolicy, DetachPhase } from '../common/external.ts'
import type { AckLevel } from '../common/model.ts'
import { lacking, probed, refuseUnsafe } from './attach-checks.ts'
import type { Attached, AttachedBuckets } from './attached.ts'
import { refuseOverlap, type ExternalPlace, type NamedPlace } from './external-places.ts'
import type { AttachedNames, ExternalBucket, ExternalCapabilities } from './ports.ts'

export interface AttachmentsParts {
  readonly names: Pick<AttachedNames, 'attach' | 'change' | 'attachments'>
  /** Where a URL points to. @throws InvalidArgument that names what is wrong with it */
  readonly placeOf: (url: string) => ExternalPlace
  /** A client of it; nothing is asked of the store yet. */
  readonly external: (url: string) => ExternalBucket | Promise<ExternalBucket>
  /** What nobody may attach: where `--remote` keeps its segments. */
  readonly reserved: readonly NamedPlace[]
  readonly region: string
  readonly clock: Clock
  readonly onFailure: (doing: string, cause: unknown) => void
}

export interface AttachmentRequest {
  readonly bucket: string
  readonly url: string
  readonly conflicts: ConflictPolicy
  readonly ttlMs: number
  readonly listingTtlMs: number
  readonly compareIntervalMs: number
  readonly owner: string
  readonly ack: AckLevel
}

export type AttachmentChanges = Partial<
  Pick<AttachmentRequest, 'conflicts' | 'ttlMs' | 'listingTtlMs' | 'compareIntervalMs'>
>

/** `answers`: its store has been asked, after a start. */
export type AttachmentEvent = 'attached' | 'answers' | 'detached'
export type AttachmentListener = (event: AttachmentEvent, attached: Attached) => void

const ASK_PAUSE_MS_MIN = 1000
const ASK_PAUSE_MS_MAX = 60_000
const DOUBLINGS_MAX = 8

export class AttachedEntry implements Attached {
  record: AttachmentRecord
  readonly external: ExternalBucket
  readonly place: ExternalPlace
  capabilities: ExternalCapabilities | undefined
  /** Why the store could not be asked; what it lacks. */
  problem: string | undefined

  constructor(record: AttachmentRecord, external: ExternalBucket, place: ExternalPlace) {
    this.record = record
    this.external = external
    this.place = place
  }

  can(capabilities: ExternalCapabilities): void {
    this.capabilities = capabilities
    const missing = lacking(this.record.conflicts, capabilities)
    this.problem = missing === undefined ? undefined : `the store has no ${missing}`
  }
}

export class Attachments implements AttachedBuckets {
  readonly #parts: AttachmentsParts
  readonly #byName = new Map<string, AttachedEntry>()
  readonly #byId = new Map<number, AttachedEntry>()
  /** By name: of which the rest is being forgotten. */
  readonly #forgetting = new Map<string, AttachmentRecord>()
  readonly #pending = new Set<NamedPlace>()
  readonly #listeners = new Set<AttachmentListener>()
  readonly #asking = new Set<Promise<void>>()
  readonly #stopping = new AbortController()
  /** Changes of rows, one after the other. */
  #line: Promise<unknown> = Promise.resolve()

  constructor(parts: AttachmentsParts) {
    this.#parts = parts
  }

  // ---- what others see

  get isEmpty(): boolean {
    return this.#byName.size === 0 && this.#forgetting.size === 0
  }

  /** @throws NoSuchBucket while it is being forgotten: what is left of it here is no bucket's content any more */
  of(bucket: string): AttachedEntry | undefined {
    if (this.#forgetting.has(bucket)) throw detached(bucket)
    return this.#byName.get(bucket)
  }

  ofId(bucketId: number): AttachedEntry | undefined {
    return this.#byId.get(bucketId)
  }

  all(): readonly AttachedEntry[] {
    return [...this.#byId.values()]
  }

  /** Of what was detached and is not forgotten yet. */
  forgetting(): readonly AttachmentRecord[] {
    return [...this.#forgetting.values()]
  }

  /** @throws NoSuchBucket, InvalidRequest when there is such a bucket and it is not attached, as far as this can tell */
  entry(bucket: string): AttachedEntry {
    const entry = this.of(bucket)
    if (entry) return entry
    throw new TidegateError('NoSuchBucket', `no bucket ${JSON.stringify(bucket)} is attached`, { details: { bucket } })
  }

  listen(listener: AttachmentListener): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  // ---- life

  /** What the rows say, before anything is served. What was about to be detached is open again; the rest of what was is to be forgotten. */
  async load(): Promise<void> {
    for (const record of await this.#parts.names.attachments()) {
      if (record.phase === 'forgetting') this.#forgetting.set(record.bucket, record)
      else {
        const { url } = record
        this.#add(new AttachedEntry(record, await this.#parts.external(url), this.#parts.placeOf(url)))
        if (record.phase === 'closing') await this.setPhase(record.bucket, undefined)
      }
    }
  }

  /** Asks the stores, in the background. */
  start(): void {
    for (const entry of this.#byId.values()) this.#ask(entry)
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('attachments stop'))
    for (const { external } of this.#byId.values()) external.stop()
    await Promise.all(this.#asking)
    await this.#line.catch(() => undefined)
  }

  #ask(entry: AttachedEntry): void {
    const asking = this.#askUntilAnswered(entry).finally(() => this.#asking.delete(asking))
    this.#asking.add(asking)
  }

  async #askUntilAnswered(entry: AttachedEntry): Promise<void> {
    const { clock, onFailure } = this.#parts
    const { signal } = this.#stopping
    for (let tries = 0; this.#byId.get(entry.record.bucketId) === entry; tries++) {
      try {
        entry.can(await probed(entry.external))
        return this.#tell('answers', entry)
      } catch (cause) {
        if (signal.aborted) return
        entry.problem = cause instanceof Error ? cause.message : String(cause)
        onFailure(`asking the store behind ${entry.record.bucket}`, cause)
      }
      const pauseMs = Math.min(ASK_PAUSE_MS_MAX, ASK_PAUSE_MS_MIN * 2 ** Math.min(tries, DOUBLINGS_MAX))
      await clock.sleep(pauseMs, signal).catch(() => undefined)
      if (signal.aborted) return
    }
  }

  // ---- changes

  /**
   * Tries the store first, so that nothing is made that could not work.
   * @throws InvalidArgument for the URL, an overlap, or a policy that the store cannot keep; InvalidRequest and Unavailable for what the store says;
   * BucketAlreadyExists, BucketAlreadyOwnedByYou, InvalidBucketName; InvalidBucketState while the last one of that name is being forgotten
   */
  async attach(request: AttachmentRequest): Promise<AttachedEntry> {
    const { bucket, url, owner, ack, ...policy } = request
    const { names, clock, region } = this.#parts
    const place = this.#parts.placeOf(url)
    refuseOverlap(place, this.#taken())
    if (this.#forgetting.has(bucket)) throw isBeingForgotten(bucket)
    const pending = { name: `bucket ${JSON.stringify(bucket)}`, place }
    this.#pending.add(pending)
    try {
      const external = await this.#parts.external(url)
      try {
        const capabilities = await probed(external)
        refuseUnsafe(policy.conflicts, capabilities, external.description)
        const attachment = { ...policy, url, attachedMs: clock.nowMs() }
        const commit = await names.attach({ bucket, owner, region, ack, attachment })
        const entry = new AttachedEntry(commit.value, external, place)
        entry.can(capabilities)
        this.#add(entry)
        await commit.durable
        this.#tell('attached', entry)
        return entry
      } catch (error) {
        external.stop()
        throw error
      }
    } finally {
      this.#pending.delete(pending)
    }
  }

  #taken(): readonly NamedPlace[] {
    const attached = this.all().map(({ record, place }) => ({ name: `bucket ${JSON.stringify(record.bucket)}`, place }))
    return [...this.#parts.reserved, ...attached, ...this.#pending]
  }

  /** @throws NoSuchBucket, InvalidBucketState while it is being detached, InvalidArgument for a policy that the store cannot keep */
  change(bucket: string, changes: AttachmentChanges): Promise<AttachedEntry> {
    return this.#next(async () => {
      const entry = this.entry(bucket)
      if (entry.record.phase !== undefined) {
        throw new TidegateError('InvalidBucketState', `bucket ${JSON.stringify(bucket)} is being detached`)
      }
      if (changes.conflicts !== undefined) {
        const capabilities = entry.capabilities ?? (await probed(entry.external))
        refuseUnsafe(changes.conflicts, capabilities, entry.external.description)
      }
      await this.#write(entry, { ...entry.record, ...changes })
      if (entry.capabilities) entry.can(entry.capabilities)
      return entry
    })
  }

  /** Durable when it resolves. From `forgetting` there is no way back, and nobody sees it any more. */
  setPhase(bucket: string, phase: DetachPhase | undefined): Promise<AttachedEntry> {
    return this.#next(async () => {
      const entry = this.entry(bucket)
      if (entry.record.phase === phase) return entry
      const { phase: _, ...record } = entry.record
      await this.#write(entry, phase === undefined ? record : { ...record, phase })
      if (phase === 'forgetting') this.#drop(entry)
      return entry
    })
  }

  /** All that was here of it is gone. */
  forgotten(bucket: string): void {
    this.#forgetting.delete(bucket)
  }

  async #write(entry: AttachedEntry, record: AttachmentRecord): Promise<void> {
    const commit = await this.#parts.names.change(record.bucket, record)
    await commit.durable
    entry.record = record
  }

  #add(entry: AttachedEntry): void {
    this.#byName.set(entry.record.bucket, entry)
    this.#byId.set(entry.record.bucketId, entry)
  }

  #drop(entry: AttachedEntry): void {
    this.#forgetting.set(entry.record.bucket, entry.record)
    this.#byName.delete(entry.record.bucket)
    this.#byId.delete(entry.record.bucketId)
    this.#tell('detached', entry)
  }

  #tell(event: AttachmentEvent, entry: AttachedEntry): void {
    for (const listener of this.#listeners) listener(event, entry)
  }

  #next<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#line.then(work, work)
    this.#line = turn.catch(() => undefined)
    return turn
  }
}

function isBeingForgotten(bucket: string): TidegateError {
  const name = JSON.stringify(bucket)
  return new TidegateError(
    'InvalidBucketState',
    `what was known of the detached bucket ${name} is still being removed`,
    {
      details: { bucket },
    },
  )
}

export function detached(bucket: string): TidegateError {
  return new TidegateError('NoSuchBucket', `bucket ${JSON.stringify(bucket)} was detached`, { details: { bucket } })
}
