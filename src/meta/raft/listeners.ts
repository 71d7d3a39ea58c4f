import type { ByteString, Revision } from '../../common/ids.ts'
import type { CommitListener, GoneListener } from '../stage/ports.ts'
import type { Row } from '../ports.ts'

/** Who is told of changes here: of other nodes' and of this one's alike, at the moment they are applied. */
export class Listeners {
  readonly #ofCommits = new Set<CommitListener>()
  readonly #ofRollbacks = new Set<() => void>()
  readonly #ofGone = new Set<{ readonly prefix: ByteString; readonly listener: GoneListener }>()

  onCommit(listener: CommitListener): () => void {
    this.#ofCommits.add(listener)
    return () => void this.#ofCommits.delete(listener)
  }

  onRollback(listener: () => void): () => void {
    this.#ofRollbacks.add(listener)
    return () => void this.#ofRollbacks.delete(listener)
  }

  onGone(prefix: ByteString, listener: GoneListener): () => void {
    const one = { prefix, listener }
    this.#ofGone.add(one)
    return () => void this.#ofGone.delete(one)
  }

  /** Of the keys that are about to be deleted: the rows that somebody wants to be told of, for `gone`. */
  aboutToGo(deleted: Iterable<ByteString>, row: (key: ByteString) => Uint8Array | undefined): readonly Row[] {
    const rows: Row[] = []
    if (this.#ofGone.size === 0) return rows
    for (const key of deleted) {
      if (![...this.#ofGone].some(({ prefix }) => key.startsWith(prefix))) continue
      const value = row(key)
      if (value !== undefined) rows.push({ key, value })
    }
    return rows
  }

  gone(rows: readonly Row[], revision: Revision): void {
    for (const { key, value } of rows) {
      for (const { prefix, listener } of this.#ofGone) if (key.startsWith(prefix)) listener(key, value, revision)
    }
  }

  committed(keys: readonly ByteString[], rewritten: ReadonlySet<ByteString>): void {
    for (const listener of this.#ofCommits) listener(keys, rewritten)
  }

  rolledBack(): void {
    for (const listener of this.#ofRollbacks) listener()
  }
}
