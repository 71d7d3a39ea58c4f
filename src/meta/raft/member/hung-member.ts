/**
 * Whether the local member is to be killed because it stands still: its process is there and says nothing, while the others have a majority without it. A process that
 * has ended is started again by itself (member.ts); one that hangs is not noticed by that, holds a vote that may be needed, and would hang for ever.
 *
 * It is in no hurry: a machine under load, a slow disk, a defragmentation that the leader has asked for look the same for a while. One that has not answered since it was
 * started may have much to read first.
 */
export interface HungLimits {
  /** Of silence, of one that has answered before. */
  readonly silentMsMax: number
  /** Of one that has just been started. */
  readonly startMsMax: number
}

export const HUNG_LIMITS: HungLimits = { silentMsMax: 30_000, startMsMax: 10 * 60_000 }

/** Pure: fed with what was seen. */
export class HungMember {
  readonly #limits: HungLimits
  #startedMs: number | undefined
  #answeredMs: number | undefined

  constructor(limits: HungLimits) {
    this.#limits = limits
  }

  /** `startedMs`: when its process was started. @returns how long it has been silent, once that is too long */
  see(answers: boolean, { nowMs, startedMs }: { nowMs: number; startedMs: number }): number | undefined {
    if (this.#startedMs !== startedMs) this.#answeredMs = undefined
    this.#startedMs = startedMs
    if (answers) this.#answeredMs = nowMs
    const { silentMsMax, startMsMax } = this.#limits
    const silentMs = nowMs - (this.#answeredMs ?? startedMs)
    return silentMs > (this.#answeredMs === undefined ? startMsMax : silentMsMax) ? silentMs : undefined
  }

  /** Silence does not count: nobody answers, or it is meant to stand still. */
  excuse(nowMs: number): void {
    if (this.#answeredMs !== undefined) this.#answeredMs = nowMs
  }
}
