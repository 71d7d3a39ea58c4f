/** A background job: a name, a bounded round, and a pause. It never ends the process; what fails is told and tried again. */
import type { Clock } from './clock.ts'

export interface BackgroundJob {
  readonly name: string
  readonly pauseMs: number
  /** One bounded round. True when there is more to do at once. */
  readonly round: () => Promise<boolean>
}

const BACK_OFF_MS_MAX = 30_000

/** For work on what may be away for long: after a failure it pauses, twice as long each time, until it succeeds. */
export function backingOff({ name, pauseMs, round }: BackgroundJob, clock: Clock): BackgroundJob {
  let failures = 0
  let notBeforeMs = -Infinity
  return {
    name,
    pauseMs,
    async round() {
      if (clock.monotonicMs() < notBeforeMs) return false
      try {
        const more = await round()
        failures = 0
        return more
      } catch (error) {
        failures++
        notBeforeMs = clock.monotonicMs() + Math.min(BACK_OFF_MS_MAX, pauseMs * 2 ** failures)
        throw error
      }
    },
  }
}

/** Of who gives way to another: between two rounds, and how long. */
const GIVING_WAY_MS = { pause: 1_000, lasts: 10_000 }

/**
 * For work that each of several nodes does on the same rows. Whoever was disturbed by another in a round has fewer of them for a while, at times that the others do not
 * share: so one goes on at full pace and finds its work undone, the others find it done, and if that one ends they go on. `disturbances` counts them.
 */
export function givingWay(
  { name, pauseMs, round }: BackgroundJob,
  { clock, random, disturbances }: { clock: Clock; random: () => number; disturbances: () => number },
): BackgroundJob {
  const about = (ms: number): number => ms * (0.5 + random())
  let untilMs = -Infinity
  let notBeforeMs = -Infinity
  return {
    name,
    pauseMs,
    async round() {
      if (clock.monotonicMs() < notBeforeMs) return false
      const before = disturbances()
      try {
        return await round()
      } finally {
        const nowMs = clock.monotonicMs()
        if (disturbances() !== before) untilMs = nowMs + about(GIVING_WAY_MS.lasts)
        if (nowMs < untilMs) notBeforeMs = nowMs + about(GIVING_WAY_MS.pause)
      }
    },
  }
}

export interface BackgroundStatus {
  readonly name: string
  readonly rounds: number
  readonly failures: number
  readonly lastError: string | undefined
}

export class BackgroundRunner {
  readonly #job: BackgroundJob
  readonly #clock: Clock
  readonly #onFailure: (job: string, error: unknown) => void
  readonly #stopping = new AbortController()
  #running: Promise<void> | undefined
  #status: BackgroundStatus

  constructor(job: BackgroundJob, options: { clock: Clock; onFailure: (job: string, error: unknown) => void }) {
    this.#job = job
    this.#clock = options.clock
    this.#onFailure = options.onFailure
    this.#status = { name: job.name, rounds: 0, failures: 0, lastError: undefined }
  }

  get status(): BackgroundStatus {
    return this.#status
  }

  start(): void {
    this.#running ??= this.#run()
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      let more = false
      try {
        more = await this.#job.round()
        this.#status = { ...this.#status, rounds: this.#status.rounds + 1, lastError: undefined }
      } catch (error) {
        this.#status = { ...this.#status, failures: this.#status.failures + 1, lastError: (error as Error).message }
        this.#onFailure(this.#job.name, error)
      }
      // Even a job with much to do lets requests pass between its rounds.
      const pauseMs = more ? 1 : this.#job.pauseMs
      await this.#clock.sleep(pauseMs, signal).catch(() => undefined)
    }
  }

  /** Resolves when the round under way has ended. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Error(`${this.#job.name} stops`))
    await this.#running
  }
}
