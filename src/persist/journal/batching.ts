/**
 * Group commit: while one batch is being executed, what arrives gathers into the next. One owner, no locks.
 */
import type { BatchResult, DeviceOperation, DeviceResult, JournalDevice } from './device.ts'

interface Submission {
  readonly operations: readonly DeviceOperation[]
  readonly resolve: (results: readonly DeviceResult[]) => void
}

export interface BatchingObserver {
  onBatch(batch: { operations: number; submissions: number; syncs: number; durationMs: number }): void
}

/** A device over anything that executes one batch at a time. Bounded by the slots of memory that its callers hold. */
export class BatchingDevice implements JournalDevice {
  #waiting: Submission[] = []
  #running: Promise<void> | undefined
  #stopped = false
  readonly #execute: (operations: readonly DeviceOperation[]) => Promise<BatchResult>
  readonly #observer: BatchingObserver | undefined

  constructor(
    execute: (operations: readonly DeviceOperation[]) => Promise<BatchResult>,
    observer: BatchingObserver | undefined,
  ) {
    this.#execute = execute
    this.#observer = observer
  }

  submit(operations: readonly DeviceOperation[]): Promise<readonly DeviceResult[]> {
    if (this.#stopped) {
      const error = { code: 'ESHUTDOWN', message: 'the journal has stopped' }
      return Promise.resolve(operations.map(() => ({ error })))
    }
    return new Promise((resolve) => {
      this.#waiting.push({ operations, resolve })
      this.#running ??= this.#run()
    })
  }

  async drain(): Promise<void> {
    while (this.#running) await this.#running
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.drain()
  }

  async #run(): Promise<void> {
    // Let everything that is submitted in this turn of the event loop share the first batch.
    await new Promise<void>((resolve) => setImmediate(resolve))
    while (this.#waiting.length > 0) {
      const submissions = this.#waiting
      this.#waiting = []
      const operations = submissions.flatMap((submission) => submission.operations)
      const startedMs = performance.now()
      const { results, syncs } = await this.#executeSafely(operations)
      this.#observer?.onBatch({
        operations: operations.length,
        submissions: submissions.length,
        syncs,
        durationMs: performance.now() - startedMs,
      })
      let at = 0
      for (const { operations: own, resolve } of submissions) {
        resolve(results.slice(at, at + own.length))
        at += own.length
      }
    }
    this.#running = undefined
  }

  async #executeSafely(operations: readonly DeviceOperation[]): Promise<BatchResult> {
    try {
      return await this.#execute(operations)
    } catch (cause) {
      const error = { code: 'EIO', message: `the journal's device failed: ${(cause as Error).message}` }
      return { results: operations.map(() => ({ error })), syncs: 0 }
    }
  }
}
