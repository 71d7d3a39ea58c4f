/** Attached buckets as the admin API sees them, with states that a test sets. */
import { TidegateError } from '../../src/common/errors.ts'
import type {
  AttachmentsControl,
  AttachmentView,
  ConflictView,
  DetachView,
  ImportView,
} from '../../src/gateway/admin/attachment-views.ts'

const ATTACHED_MS = Date.UTC(2026, 10, 22, 6, 39, 18)

export const FAR: AttachmentView = {
  record: {
    bucketId: 7,
    bucket: 'far',
    url: 's3://there/photos',
    conflicts: 'fail',
    ttlMs: 10_000,
    listingTtlMs: 60_000,
    compareIntervalMs: 3_600_000,
    attachedMs: ATTACHED_MS,
  },
  capabilities: { conditionalPut: true, conditionalDelete: true, conditionalComplete: true, conditionalCopy: false },
  problem: undefined,
  paused: false,
  writeBack: {
    dirty: 3,
    dirtyIsAtLeast: false,
    conflicts: 1,
    oldestAgeMs: 3_725_000,
    underWay: 1,
    failing: 1,
    awayMs: undefined,
    failed: [
      { key: 'a/b', attempts: 4, cause: { code: 'AccessDenied', message: 'the key was revoked' }, nextTryInMs: 2500 },
    ],
    moves: [{ from: 'old/', to: 'new/', startedMs: ATTACHED_MS, keys: 10, isWrittenDown: false, carriedOut: 4 }],
  },
  importing: undefined,
  comparing: { pages: 4, keys: 4000, changed: 2, completedMs: ATTACHED_MS, lastError: undefined },
  events: { taken: 5, ignored: 1, unread: 0, overflowed: 0, waiting: 0 },
  unheld: { keys: 2, isAtLeast: false, listed: ['raw', 'raw\u001B2'] },
}

export const RUNNING: ImportView = {
  state: 'running',
  startedMs: ATTACHED_MS,
  endedMs: undefined,
  keys: 5000,
  changed: 4000,
  keysPerSecond: 2500,
  requests: 9,
  rangesLeft: 6,
  share: 0.25,
  problem: undefined,
}

export const LEFT: DetachView['left'] = {
  keys: 2,
  keysIsAtLeast: false,
  conflicts: 1,
  listed: [
    { key: 'a/b', isConflict: false, cause: { code: 'AccessDenied', message: 'the key was revoked' } },
    { key: 'c\u001B', isConflict: true, cause: undefined },
  ],
  paused: false,
}

const NONE_LEFT: DetachView['left'] = { keys: 0, keysIsAtLeast: false, conflicts: 0, listed: [], paused: false }

export class FakeAttachments implements AttachmentsControl {
  readonly calls: unknown[] = []
  attached: AttachmentView[] = [FAR]
  conflictViews: ConflictView[] = [
    {
      key: 'a/b',
      sinceMs: ATTACHED_MS,
      outside: { kind: 'etag', etag: 'e1', size: 2048 },
      base: { kind: 'absent' },
    },
  ]
  /** Answers to the next questions; then it is detached. */
  detaches: DetachView[] = []
  /** What the next looks at the import find; then the last one. */
  imports: ImportView[] = []
  lastImport: ImportView | undefined
  paused = false

  list(): Promise<readonly AttachmentView[]> {
    return Promise.resolve(this.attached)
  }

  get(bucket: string): Promise<AttachmentView> {
    return Promise.resolve().then(() => this.#of(bucket))
  }

  attach(request: Parameters<AttachmentsControl['attach']>[0]): Promise<AttachmentView> {
    this.calls.push(request)
    if (request.url.startsWith('http')) {
      const message = `the URL "${request.url}" is not s3://BUCKET/PREFIX`
      return Promise.reject(new TidegateError('InvalidArgument', message))
    }
    const { owner: _owner, ack: _ack, ...record } = request
    const view = { ...FAR, record: { ...FAR.record, ...record } }
    this.attached.push(view)
    return Promise.resolve(view)
  }

  async change(bucket: string, changes: Parameters<AttachmentsControl['change']>[1]): Promise<AttachmentView> {
    this.calls.push(changes)
    const view = await this.get(bucket)
    return { ...view, record: { ...view.record, ...changes } }
  }

  async detach(request: Parameters<AttachmentsControl['detach']>[0]): Promise<DetachView> {
    this.calls.push(request)
    await this.get(request.bucket)
    const next = request.force ? ({ detached: true, forgotten: false, left: LEFT } as const) : this.detaches.shift()
    return next ?? { detached: true, forgotten: true, left: NONE_LEFT }
  }

  startImport(bucket: string, options: { readonly again: boolean }): ImportView {
    this.#of(bucket)
    this.calls.push(options)
    this.lastImport = RUNNING
    return RUNNING
  }

  importing(bucket: string): ImportView | undefined {
    this.#of(bucket)
    this.lastImport = this.imports.shift() ?? this.lastImport
    return this.lastImport
  }

  cancelImport(bucket: string): Promise<ImportView | undefined> {
    this.#of(bucket)
    if (this.lastImport) this.lastImport = { ...this.lastImport, state: 'stopped' }
    return Promise.resolve(this.lastImport)
  }

  conflicts(
    bucket: string,
    { after, limit }: { readonly after: string; readonly limit: number },
  ): Promise<{ conflicts: readonly ConflictView[]; next: string | undefined }> {
    return Promise.resolve().then(() => {
      this.#of(bucket)
      this.calls.push({ after, limit })
      const later = this.conflictViews.filter(({ key }) => key > after)
      const page = later.slice(0, Math.min(limit, 2))
      return { conflicts: page, next: later.length > page.length ? page.at(-1)?.key : undefined }
    })
  }

  resolve(
    bucket: string,
    { key, keep }: Parameters<AttachmentsControl['resolve']>[1],
  ): ReturnType<AttachmentsControl['resolve']> {
    return Promise.resolve().then(() => {
      this.#of(bucket)
      this.calls.push({ key, keep })
      if (!this.conflictViews.some((conflict) => conflict.key === key)) {
        throw new TidegateError('NoSuchKey', `there is no conflict at ${JSON.stringify(key)}`)
      }
      return { keep, as: keep === 'both' ? `${key}.conflict-x` : undefined }
    })
  }

  notify(bucket: string, message: unknown): ReturnType<AttachmentsControl['notify']> {
    this.#of(bucket)
    this.calls.push(message)
    return { taken: 1, ignored: 0, unread: 0 }
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }

  #of(bucket: string): AttachmentView {
    const found = this.attached.find(({ record }) => record.bucket === bucket)
    if (found) return found
    throw new TidegateError('NoSuchBucket', `no bucket ${JSON.stringify(bucket)} is attached`)
  }
}
