/** What the admin API asks of attached buckets (attach/control.ts provides it), and how it shows what it is told. */
import type { AttachmentRecord, ConflictPolicy } from '../../common/external.ts'
import type { AckLevel } from '../../common/model.ts'

export interface AttachmentsControl {
  list(): Promise<readonly AttachmentView[]>
  /** @throws NoSuchBucket when it is not attached; as all below */
  get(bucket: string): Promise<AttachmentView>
  attach(request: AttachmentPolicy & AttachmentAddress): Promise<AttachmentView>
  change(bucket: string, changes: Partial<AttachmentPolicy>): Promise<AttachmentView>
  detach(request: { readonly bucket: string; readonly force: boolean; readonly waitMsMax: number }): Promise<DetachView>
  startImport(bucket: string, options: { readonly again: boolean }): ImportView
  importing(bucket: string): ImportView | undefined
  cancelImport(bucket: string): Promise<ImportView | undefined>
  conflicts(
    bucket: string,
    page: { readonly after: string; readonly limit: number },
  ): Promise<{ readonly conflicts: readonly ConflictView[]; readonly next: string | undefined }>
  resolve(
    bucket: string,
    decision: { readonly key: string; readonly keep: Keep },
  ): Promise<{ readonly keep: Keep; readonly as: string | undefined }>
  notify(bucket: string, message: unknown): NotifiedView
  readonly paused: boolean
  pause(): void
  resume(): void
}

export interface AttachmentAddress {
  readonly bucket: string
  readonly url: string
  readonly owner: string
  readonly ack: AckLevel
}

export interface AttachmentPolicy {
  readonly conflicts: ConflictPolicy
  readonly ttlMs: number
  readonly listingTtlMs: number
  readonly compareIntervalMs: number
}

export const KEEPS = ['ours', 'theirs', 'both'] as const
export type Keep = (typeof KEEPS)[number]

export interface AttachmentView {
  readonly record: AttachmentRecord
  readonly capabilities: Readonly<Record<Capability, boolean>> | undefined
  readonly problem: string | undefined
  readonly paused: boolean
  readonly writeBack: WriteBackView | undefined
  readonly importing: ImportView | undefined
  readonly comparing: ComparingView | undefined
  readonly events: EventsView
  readonly unheld: UnheldView
}

type Capability = 'conditionalPut' | 'conditionalDelete' | 'conditionalComplete' | 'conditionalCopy'

interface WriteBackView {
  readonly dirty: number
  readonly dirtyIsAtLeast: boolean
  readonly conflicts: number
  readonly oldestAgeMs: number | undefined
  readonly underWay: number
  readonly failing: number
  readonly awayMs: number | undefined
  readonly failed: readonly FailedView[]
  readonly moves: readonly MoveView[]
}

interface FailedView {
  readonly key: string
  readonly attempts: number
  readonly cause: { readonly code: string; readonly message: string }
  readonly nextTryInMs: number
}

interface MoveView {
  readonly from: string
  readonly to: string
  readonly startedMs: number
  readonly keys: number
  readonly isWrittenDown: boolean
  readonly carriedOut: number
}

export interface ImportView {
  readonly state: 'running' | 'done' | 'failed' | 'stopped'
  readonly startedMs: number
  readonly endedMs: number | undefined
  readonly keys: number
  readonly changed: number
  readonly keysPerSecond: number
  readonly requests: number
  readonly rangesLeft: number
  readonly share: number
  readonly problem: string | undefined
}

interface ComparingView {
  readonly pages: number
  readonly keys: number
  readonly changed: number
  readonly completedMs: number | undefined
  readonly lastError: string | undefined
}

interface NotifiedView {
  readonly taken: number
  readonly ignored: number
  readonly unread: number
}

interface EventsView extends NotifiedView {
  readonly overflowed: number
  readonly waiting: number
}

interface UnheldView {
  readonly keys: number
  readonly isAtLeast: boolean
  readonly listed: readonly string[]
}

export interface ConflictView {
  readonly key: string
  readonly sinceMs: number
  readonly outside: BaseView
  readonly base: BaseView
}

type BaseView = { readonly kind: 'absent' } | { readonly kind: 'etag'; readonly etag: string; readonly size: number }

export type DetachView =
  | { readonly detached: false; readonly left: LeftView }
  | { readonly detached: true; readonly left: LeftView; readonly forgotten: boolean }

interface LeftView {
  readonly keys: number
  readonly keysIsAtLeast: boolean
  readonly conflicts: number
  readonly listed: readonly {
    readonly key: string
    readonly isConflict: boolean
    readonly cause: { readonly code: string; readonly message: string } | undefined
  }[]
  readonly paused: boolean
}

// ---- as JSON

export function attachmentBody({ record, ...view }: AttachmentView): object {
  const { bucket, url, conflicts, ttlMs, listingTtlMs, compareIntervalMs, attachedMs, phase } = record
  return {
    bucket,
    url,
    conflicts,
    ttlMs,
    listingTtlMs,
    compareIntervalMs,
    attached: time(attachedMs),
    state: phase === undefined ? 'attached' : 'detaching',
    capabilities: view.capabilities ?? null,
    problem: view.problem ?? null,
    paused: view.paused,
    writeBack: writeBackBody(view.writeBack),
    import: view.importing ? importBody(view.importing) : null,
    compare: comparingBody(view.comparing),
    events: view.events,
    unheld: view.unheld,
  }
}

const NOTHING_TO_WRITE: WriteBackView = {
  dirty: 0,
  dirtyIsAtLeast: false,
  conflicts: 0,
  oldestAgeMs: undefined,
  underWay: 0,
  failing: 0,
  awayMs: undefined,
  failed: [],
  moves: [],
}

function writeBackBody(view: WriteBackView = NOTHING_TO_WRITE): object {
  const { dirty, dirtyIsAtLeast, conflicts, oldestAgeMs, underWay, failing, awayMs, failed, moves } = view
  return {
    dirty,
    dirtyIsAtLeast,
    conflicts,
    oldestAgeMs: oldestAgeMs ?? null,
    underWay,
    failing,
    awayMs: awayMs ?? null,
    failed,
    renames: moves.map(({ from, to, startedMs, keys, isWrittenDown, carriedOut }) => {
      return { from, to, started: time(startedMs), keys, keysIsAtLeast: !isWrittenDown, carriedOut }
    }),
  }
}

export function importBody({ startedMs, endedMs, problem, ...view }: ImportView): object {
  return { ...view, started: time(startedMs), ended: timeOrNull(endedMs), problem: problem ?? null }
}

function comparingBody(view: ComparingView | undefined): object | null {
  if (!view) return null
  const { completedMs, lastError, ...counts } = view
  return { ...counts, completed: timeOrNull(completedMs), lastError: lastError ?? null }
}

export function conflictBody({ key, sinceMs, outside, base }: ConflictView): object {
  return { key, since: time(sinceMs), outside: baseBody(outside), base: baseBody(base) }
}

function baseBody(base: BaseView): object | null {
  return base.kind === 'etag' ? { etag: base.etag, size: base.size } : null
}

export function detachBody(view: DetachView): object {
  const { keys, keysIsAtLeast, conflicts, listed, paused } = view.left
  return {
    detached: view.detached,
    forgotten: view.detached && view.forgotten,
    keys,
    keysIsAtLeast,
    conflicts,
    listed: listed.map(({ key, isConflict, cause }) => ({ key, conflict: isConflict, cause: cause ?? null })),
    paused,
  }
}

function time(ms: number): string {
  return new Date(ms).toISOString()
}

function timeOrNull(ms: number | undefined): string | null {
  return ms === undefined ? null : time(ms)
}
