/** Imports of attached buckets: at most one at a time for each, whose last outcome is remembered until the gateway ends. */
import { TidegateError } from '../common/errors.ts'
import type { Attached } from './attached.ts'
import { ImportRun, type ImportRunParts, type ImportStatus } from './import-run.ts'

export class Imports {
  readonly #parts: ImportRunParts
  readonly #runs = new Map<number, ImportRun>()
  #isStopped = false

  constructor(parts: ImportRunParts) {
    this.#parts = parts
  }

  /** One that runs goes on. `again`: also what has been listed at some time. */
  start(attached: Attached, options: { readonly again: boolean }): ImportStatus {
    if (this.#isStopped) throw new TidegateError('Unavailable', 'the gateway stops')
    const { bucketId } = attached.record
    const running = this.#runs.get(bucketId)
    if (running?.status.state === 'running') return running.status
    const run = new ImportRun(this.#parts, attached, options)
    this.#runs.set(bucketId, run)
    return run.status
  }

  /** Undefined: none was started since the gateway was. */
  status(bucketId: number): ImportStatus | undefined {
    return this.#runs.get(bucketId)?.status
  }

  /** Resolves when it has stopped. What it has listed stays. */
  async cancel(bucketId: number): Promise<ImportStatus | undefined> {
    const run = this.#runs.get(bucketId)
    run?.stop()
    await run?.done
    return run?.status
  }

  /** The bucket is detached. */
  forget(bucketId: number): void {
    this.#runs.get(bucketId)?.stop()
    this.#runs.delete(bucketId)
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    for (const run of this.#runs.values()) run.stop()
    await Promise.all([...this.#runs.values()].map(({ done }) => done))
  }
}
