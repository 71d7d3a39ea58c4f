import type { ByteString } from '../../common/ids.ts'
import type { CommitListener } from '../stage/ports.ts'

/** Who is told of changes here: of other nodes' and of this one's alike, at the moment they are applied. */
export class Listeners {
  readonly #ofCommits = new Set<CommitListener>()
  readonly #ofRollbacks = new Set<() => void>()

  onCommit(listener: CommitListener): () => void {
    this.#ofCommits.add(listener)
    return () => void this.#ofCommits.delete(listener)
  }

  onRollback(listener: () => void): () => void {
    this.#ofRollbacks.add(listener)
    return () => void this.#ofRollbacks.delete(listener)
  }

  committed(keys: readonly ByteString[], rewritten: ReadonlySet<ByteString>): void {
    for (const listener of this.#ofCommits) listener(keys, rewritten)
  }

  rolledBack(): void {
    for (const listener of this.#ofRollbacks) listener()
  }
}
