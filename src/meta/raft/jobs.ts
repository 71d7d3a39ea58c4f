/** Calls of `read` and `transact` that are not told yet. */
import type { Clock } from '../../common/clock.ts'
import type { Revision } from '../../common/ids.ts'
import type { TrackedView } from './tracked-view.ts'

export interface Job {
  readonly fn: (view: TrackedView) => Promise<unknown>
  readonly writable: boolean
  readonly deadlineMs: number
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
  runs: number
  /** How often what it had read was changed by another node before it was committed. */
  conflicts: number
  /** It has ended without writing, and what it had read has changed. */
  isIdle: boolean
  /** Of the present run. */
  view: TrackedView | undefined
  /** The barrier that was called after it had come (C5). */
  mustSee: Revision | undefined
  isOver: boolean
}

/** All jobs that are not told, with one timer for the one whose time is up first. */
export class LiveJobs {
  readonly #clock: Clock
  readonly #signal: AbortSignal
  readonly #onDue: () => void
  /** Of one kind all have the same time, so the first is the first to be due. */
  readonly #reads = new Set<Job>()
  readonly #transactions = new Set<Job>()
  #armedForMs = Infinity
  #emptyWaiters: (() => void)[] = []

  constructor({ clock, signal, onDue }: { clock: Clock; signal: AbortSignal; onDue: () => void }) {
    this.#clock = clock
    this.#signal = signal
    this.#onDue = onDue
  }

  get size(): number {
    return this.#reads.size + this.#transactions.size
  }

  add(job: Job): void {
    ;(job.writable ? this.#transactions : this.#reads).add(job)
    if (job.deadlineMs < this.#armedForMs) this.#arm(job.deadlineMs)
  }

  /** False if it was told before. */
  remove(job: Job): boolean {
    if (job.isOver) return false
    job.isOver = true
    ;(job.writable ? this.#transactions : this.#reads).delete(job)
    if (this.size === 0) for (const resolve of this.#emptyWaiters.splice(0)) resolve()
    return true
  }

  all(): Job[] {
    return [...this.#reads, ...this.#transactions]
  }

  due(): Job[] {
    const nowMs = this.#clock.monotonicMs()
    const due: Job[] = []
    for (const jobs of [this.#reads, this.#transactions]) {
      for (const job of jobs) {
        if (job.deadlineMs > nowMs) break
        due.push(job)
      }
    }
    return due
  }

  empty(): Promise<void> {
    if (this.size === 0) return Promise.resolve()
    return new Promise((resolve) => this.#emptyWaiters.push(resolve))
  }

  #arm(atMs: number): void {
    this.#armedForMs = atMs
    const rung = (): void => {
      if (this.#armedForMs !== atMs) return
      this.#armedForMs = Infinity
      if (this.due().length > 0) this.#onDue()
      const next = Math.min(...[this.#reads, this.#transactions].map((jobs) => firstDeadlineMs(jobs)))
      if (next !== Infinity) this.#arm(next)
    }
    const waitMs = Math.max(1, Math.ceil(atMs - this.#clock.monotonicMs()))
    this.#clock.sleep(waitMs, this.#signal).then(rung, () => {})
  }
}

function firstDeadlineMs(jobs: ReadonlySet<Job>): number {
  for (const job of jobs) return job.deadlineMs
  return Infinity
}
