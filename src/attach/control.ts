/**
 * Attached buckets as people and programs that run them see them: what the admin API asks (gateway/admin/attachments.ts), put together of the parts that
 * do it, and the jobs that go on for each attached bucket.
 */
import type { Clock } from '../common/clock.ts'
import type { AttachedEntry, AttachmentChanges, AttachmentRequest, Attachments } from './attachments.ts'
import { Comparisons, type CompareStatus } from './compare.ts'
import { listConflicts, resolve, type Keep, type ListedConflict, type Resolution } from './conflicts.ts'
import { Detaching, type DetachOutcome, type DetachParts, type DetachRequest } from './detach.ts'
import { Events, type EventsParts, type EventsStatus, type Notified } from './events.ts'
import type { ImportStatus } from './import-run.ts'
import { Imports } from './imports.ts'
import type { AttachedNames, AttachmentRecord, ExternalCapabilities } from './ports.ts'
import type { UnheldKeys, UnheldStatus } from './unheld.ts'
import type { WriteBackStatus } from './write-back-status.ts'

export interface AttachmentControlParts {
  readonly attachments: Attachments
  readonly names: AttachedNames
  readonly writeBack: DetachParts['writeBack'] & {
    readonly paused: boolean
    look(bucketId: number): void
    pause(): void
    resume(): void
    status(): Promise<WriteBackStatus[]>
  }
  readonly freshness: EventsParts['freshness']
  readonly unheld: Pick<UnheldKeys, 'status' | 'forget'>
  readonly clock: Clock
  readonly fillRandom: (bytes: Uint8Array) => void
  readonly onFailure: (doing: string, cause: unknown) => void
  /** Listers of one import. */
  readonly importConcurrency?: number
}

export interface AttachmentStatus {
  readonly record: AttachmentRecord
  /** Undefined until the store could be asked. */
  readonly capabilities: ExternalCapabilities | undefined
  readonly problem: string | undefined
  readonly paused: boolean
  readonly writeBack: WriteBackStatus | undefined
  readonly importing: ImportStatus | undefined
  readonly comparing: CompareStatus | undefined
  readonly events: EventsStatus
  /** Of the external bucket, as last listed: they do not show here. */
  readonly unheld: UnheldStatus
}

const IMPORT_CONCURRENCY = 8

export class AttachmentControl {
  readonly #parts: AttachmentControlParts
  readonly #attachments: Attachments
  readonly #detaching: Detaching
  readonly #imports: Imports
  readonly #comparisons: Comparisons
  readonly #events: Events
  #unlisten: (() => void) | undefined

  constructor(parts: AttachmentControlParts) {
    const { attachments, importConcurrency = IMPORT_CONCURRENCY } = parts
    this.#parts = parts
    this.#attachments = attachments
    this.#detaching = new Detaching(parts)
    this.#imports = new Imports({ ...parts, concurrency: importConcurrency })
    this.#comparisons = new Comparisons(parts)
    this.#events = new Events({ ...parts, attached: attachments })
  }

  /** After `Attachments.load` and the start of carrying out. */
  start(): void {
    const { writeBack, unheld, onFailure } = this.#parts
    this.#unlisten = this.#attachments.listen((event, attached) => {
      const { bucketId, bucket } = attached.record
      switch (event) {
        case 'attached':
          this.#comparisons.add(attached)
          return writeBack.look(bucketId)
        case 'answers':
          return writeBack.look(bucketId)
        case 'detached':
          this.#imports.forget(bucketId)
          this.#events.forget(bucketId)
          unheld.forget(bucketId)
          this.#comparisons.remove(bucketId).catch((cause: unknown) => onFailure(`comparing bucket ${bucket}`, cause))
      }
    })
    for (const attached of this.#attachments.all()) this.#comparisons.add(attached)
    this.#attachments.start()
    this.#detaching.start()
  }

  async stop(): Promise<void> {
    this.#unlisten?.()
    await Promise.all([
      this.#detaching.stop(),
      this.#imports.stop(),
      this.#comparisons.stop(),
      this.#events.stop(),
      this.#attachments.stop(),
    ])
  }

  async list(): Promise<readonly AttachmentStatus[]> {
    const statuses = await this.#parts.writeBack.status()
    return this.#attachments.all().map((entry) => this.#statusOf(entry, statuses))
  }

  /** @throws NoSuchBucket when it is not attached */
  async get(bucket: string): Promise<AttachmentStatus> {
    const entry = this.#attachments.entry(bucket)
    return this.#statusOf(entry, await this.#parts.writeBack.status())
  }

  async attach(request: AttachmentRequest): Promise<AttachmentStatus> {
    return this.#statusOf(await this.#attachments.attach(request), [])
  }

  async change(bucket: string, changes: AttachmentChanges): Promise<AttachmentStatus> {
    await this.#attachments.change(bucket, changes)
    return await this.get(bucket)
  }

  detach(request: DetachRequest): Promise<DetachOutcome> {
    return this.#detaching.detach(request)
  }

  /** Undefined: none was started since the gateway was. */
  importing(bucket: string): ImportStatus | undefined {
    return this.#imports.status(this.#attachments.entry(bucket).record.bucketId)
  }

  startImport(bucket: string, options: { readonly again: boolean }): ImportStatus {
    return this.#imports.start(this.#attachments.entry(bucket), options)
  }

  async cancelImport(bucket: string): Promise<ImportStatus | undefined> {
    return await this.#imports.cancel(this.#attachments.entry(bucket).record.bucketId)
  }

  async conflicts(
    bucket: string,
    page: { readonly after: string; readonly limit: number },
  ): Promise<{ readonly conflicts: readonly ListedConflict[]; readonly next: string | undefined }> {
    const { bucketId } = this.#attachments.entry(bucket).record
    return await listConflicts(this.#parts.names, { bucketId, ...page })
  }

  async resolve(bucket: string, decision: { readonly key: string; readonly keep: Keep }): Promise<Resolution> {
    const entry = this.#attachments.entry(bucket)
    const resolution = await resolve(this.#parts, entry, decision)
    this.#parts.writeBack.look(entry.record.bucketId)
    return resolution
  }

  notify(bucket: string, message: unknown): Notified {
    return this.#events.notify(this.#attachments.entry(bucket), message)
  }

  get paused(): boolean {
    return this.#parts.writeBack.paused
  }

  pause(): void {
    this.#parts.writeBack.pause()
  }

  resume(): void {
    this.#parts.writeBack.resume()
  }

  #statusOf(entry: AttachedEntry, statuses: readonly WriteBackStatus[]): AttachmentStatus {
    const { record, capabilities, problem } = entry
    const { bucketId } = record
    return {
      record,
      capabilities,
      problem,
      paused: this.paused,
      writeBack: statuses.find((status) => status.bucketId === bucketId),
      importing: this.#imports.status(bucketId),
      comparing: this.#comparisons.status(bucketId),
      events: this.#events.status(bucketId),
      unheld: this.#parts.unheld.status(bucketId),
    }
  }
}
