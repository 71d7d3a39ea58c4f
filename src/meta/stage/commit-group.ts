import type { Revision } from '../../common/ids.ts'
import type { LoggedCommit } from './change-log.ts'

/** Commits that are made durable together. Its rows lie in `VisibleRows`. */
export class CommitGroup {
  readonly logged: LoggedCommit[] = []
  transactions = 0
  lastRevision: Revision = 0
  /** Somebody waits until it is durable. */
  wanted = false
  /** Shared by every commit of the group. */
  readonly durable: Promise<void>
  readonly resolve: () => void
  readonly reject: (error: Error) => void

  constructor() {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    // A caller that does not care for durability must not end the process.
    promise.catch(() => {})
    this.durable = promise
    this.resolve = resolve
    this.reject = reject
  }
}
