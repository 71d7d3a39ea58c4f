/**
 * Detaching a bucket: it takes no more writes, what was written goes out, and what is here of it is forgotten; the external bucket stays as it is.
 *
 *   closing      refused in the transaction of each write (meta/namespace/attached/traces.ts), so nothing that was acknowledged is missed
 *   drained      nothing is left that the external bucket does not have; or somebody insists (`force`), and is told what is lost
 *   forgetting   in bounded steps, in the background; a restart goes on with them
 *
 * A request lasts no longer than somebody waits, and carrying out may: so whoever detaches asks again and again. Between two questions the
 * bucket stays closed for a moment; if nobody asks again it is opened, and nothing has happened.
 */
import type { Clock } from '../common/clock.ts'
import { detached, type Attachments } from './attachments.ts'
import type { AttachedNames, AttachmentRecord } from './ports.ts'
import type { FailedKey } from './write-back-status.ts'
import type { WriteBackDrain } from './write-back.ts'

export interface DetachParts {
  readonly attachments: Attachments
  readonly names: Pick<AttachedNames, 'forget' | 'dirtyKeys'>
  readonly writeBack: {
    drain(options: { readonly bucketId: number; readonly waitMsMax: number }): Promise<WriteBackDrain>
    forget(bucketId: number): Promise<void>
  }
  readonly clock: Clock
  readonly onFailure: (doing: string, cause: unknown) => void
}

export interface DetachRequest {
  readonly bucket: string
  /** Also with changes that the external bucket does not know: they are lost. */
  readonly force: boolean
  readonly waitMsMax: number
}

export interface LeftKey {
  readonly key: string
  readonly isConflict: boolean
  /** Of its last try; undefined: it was not tried, or nothing is wrong. */
  readonly cause: FailedKey['cause'] | undefined
}

/** Changes that the external bucket does not know. */
export interface Left {
  readonly keys: number
  readonly keysIsAtLeast: boolean
  readonly conflicts: number
  /** The first of them. */
  readonly listed: readonly LeftKey[]
  readonly paused: boolean
}

export type DetachOutcome =
  | { readonly detached: false; readonly left: Left }
  /** `left`: what was lost; `forgotten`: nothing of it is here any more, and its name is free. */
  | { readonly detached: true; readonly left: Left; readonly forgotten: boolean }

/** For how long it stays closed when nobody asks again. */
const GRACE_MS = 10_000
const LISTED_KEYS_MAX = 100
const NONE: Left = { keys: 0, keysIsAtLeast: false, conflicts: 0, listed: [], paused: false }
const STEPS_PER_SYNC = 4
const RETRY_MS_MIN = 250
const RETRY_MS_MAX = 30_000

export class Detaching {
  readonly #parts: DetachParts
  /** How many ask for a bucket now: as long as anybody does it stays closed. */
  readonly #askers = new Map<string, number>()
  /** Buckets that are opened again when the time is up. */
  readonly #openings = new Map<string, AbortController>()
  readonly #forgetting = new Map<string, Promise<void>>()
  readonly #stopping = new AbortController()

  constructor(parts: DetachParts) {
    this.#parts = parts
  }

  /** Goes on with what a crash or a stop left. */
  start(): void {
    for (const record of this.#parts.attachments.forgetting()) this.#forget(record)
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('detaching stops'))
    for (const opening of this.#openings.values()) opening.abort(new Error('detaching stops'))
    await Promise.all(this.#forgetting.values())
  }

  /** @throws NoSuchBucket when it is not attached */
  async detach({ bucket, force, waitMsMax }: DetachRequest): Promise<DetachOutcome> {
    const { attachments, clock } = this.#parts
    const untilMs = clock.monotonicMs() + waitMsMax
    if (this.#forgetting.has(bucket)) return await this.#detached(bucket, NONE, untilMs)
    const { bucketId } = attachments.entry(bucket).record
    this.#openings.get(bucket)?.abort(new Error('it is asked again'))
    this.#askers.set(bucket, (this.#askers.get(bucket) ?? 0) + 1)
    try {
      const { isKept, left } = await this.#close({ bucket, bucketId }, { force, waitMsMax })
      return isKept ? { detached: false, left } : await this.#detached(bucket, left, untilMs)
    } catch (error) {
      // Somebody else who asked for the same was first.
      if (this.#isGone({ bucket, bucketId })) return await this.#detached(bucket, NONE, untilMs)
      throw error
    } finally {
      this.#asked({ bucket, bucketId })
    }
  }

  /** `isKept`: it stays attached, for what is left; else it is being forgotten. */
  async #close(
    of: Pick<AttachmentRecord, 'bucket' | 'bucketId'>,
    { force, waitMsMax }: Pick<DetachRequest, 'force' | 'waitMsMax'>,
  ): Promise<{ readonly isKept: boolean; readonly left: Left }> {
    const { attachments, writeBack } = this.#parts
    const { bucket, bucketId } = of
    await attachments.setPhase(bucket, 'closing')
    const drain = await writeBack.drain({ bucketId, waitMsMax })
    const left = await this.#left(bucketId, drain)
    const isKept = left.keys + left.conflicts > 0 && !force
    if (isKept) return { isKept, left }
    // Another one may have its name by now, of which nothing was drained.
    if (this.#isGone(of)) throw detached(bucket)
    await this.#begin(bucket)
    return { isKept, left }
  }

  #isGone({ bucket, bucketId }: Pick<AttachmentRecord, 'bucket' | 'bucketId'>): boolean {
    return this.#forgetting.has(bucket) || this.#parts.attachments.ofId(bucketId) === undefined
  }

  /** The last who asks opens it again, unless it is gone: what another one still drains must not be written to meanwhile. */
  #asked(of: Pick<AttachmentRecord, 'bucket' | 'bucketId'>): void {
    const { bucket } = of
    const askers = (this.#askers.get(bucket) ?? 1) - 1
    if (askers > 0) return void this.#askers.set(bucket, askers)
    this.#askers.delete(bucket)
    if (!this.#isGone(of)) this.#openLater(bucket)
  }

  async #left(bucketId: number, drain: WriteBackDrain): Promise<Left> {
    const { left: keys, leftIsAtLeast: keysIsAtLeast, conflicts, failed, paused } = drain
    if (keys + conflicts === 0) return { ...NONE, paused }
    const causes = new Map(failed.map(({ key, cause }) => [key, cause]))
    const rows = await this.#parts.names.dirtyKeys(bucketId, '', LISTED_KEYS_MAX)
    const listed = rows.map(({ key, conflict }) => ({
      key,
      isConflict: conflict !== undefined,
      cause: causes.get(key),
    }))
    return { keys, keysIsAtLeast, conflicts, listed, paused }
  }

  /** Once this has resolved it is detached, whatever happens. */
  async #begin(bucket: string): Promise<void> {
    const { attachments, writeBack } = this.#parts
    const { external, record } = await attachments.setPhase(bucket, 'forgetting')
    this.#forget(record, async () => {
      await writeBack.forget(record.bucketId)
      external.stop()
    })
  }

  async #detached(bucket: string, left: Left, untilMs: number): Promise<DetachOutcome> {
    const { clock } = this.#parts
    const over = new AbortController()
    const patience = clock.sleep(Math.max(0, untilMs - clock.monotonicMs()), over.signal).catch(() => undefined)
    await Promise.race([this.#forgetting.get(bucket), patience])
    over.abort(new Error('it is forgotten'))
    return { detached: true, left, forgotten: !this.#forgetting.has(bucket) }
  }

  #forget(record: AttachmentRecord, before?: () => Promise<void>): void {
    const { bucket } = record
    if (this.#forgetting.has(bucket)) return
    const forgetting = this.#forgetAll(record, before).finally(() => this.#forgetting.delete(bucket))
    this.#forgetting.set(bucket, forgetting)
  }

  /** Never rejects. */
  async #forgetAll(record: AttachmentRecord, before: (() => Promise<void>) | undefined): Promise<void> {
    const { bucket } = record
    const { names, attachments, clock, onFailure } = this.#parts
    const { signal } = this.#stopping
    let preparing = before
    let steps = 0
    for (let failures = 0; !signal.aborted;) {
      try {
        await preparing?.()
        preparing = undefined
        const step = await names.forget(record)
        failures = 0
        // What is deleted and not durable yet lies in the way of the next steps, which look for what is left from the beginning.
        if (!step.value || ++steps % STEPS_PER_SYNC === 0) await step.durable
        if (step.value) continue
        return attachments.forgotten(bucket)
      } catch (cause) {
        if (signal.aborted) return
        onFailure(`forgetting bucket ${bucket}`, cause)
        await clock.sleep(Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** failures++), signal).catch(() => undefined)
      }
    }
  }

  #openLater(bucket: string): void {
    const { attachments, clock, onFailure } = this.#parts
    this.#openings.get(bucket)?.abort(new Error('it is opened later'))
    // The next start opens it.
    if (this.#stopping.signal.aborted) return
    const opening = new AbortController()
    this.#openings.set(bucket, opening)
    const open = async (): Promise<void> => {
      await clock.sleep(GRACE_MS, opening.signal)
      // The time was up just when somebody asked.
      if (opening.signal.aborted) return
      await attachments.setPhase(bucket, undefined)
    }
    open()
      .catch((cause: unknown) => {
        // Asked again, or stopped: the next start opens it.
        if (!opening.signal.aborted) onFailure(`opening bucket ${bucket} again`, cause)
      })
      .finally(() => {
        if (this.#openings.get(bucket) === opening) this.#openings.delete(bucket)
      })
  }
}
