/**
 * What was written to each key, and so what may be found there. A key has one writer, which makes one call after the other, so its history
 * is a sequence: what may be found after a crash is what was acknowledged last, or anything that was tried since and not refused.
 *
 * What a crash may take depends on how it was acknowledged. A crash of the process takes nothing that was acknowledged at `journal`; the
 * loss of the whole node takes nothing that was acknowledged at `persisted`. So the history is kept from the last write that was
 * acknowledged at `persisted` on.
 */
import { createHash } from 'node:crypto'

/** Digest of what a key holds; undefined for nothing. */
export type Content = string | undefined

/** How safe what one looks for has been: against the end of the process, or of the node. */
export type Safety = 'journal' | 'persisted'

interface Entry {
  readonly content: Content
  /** Acknowledged at this level; undefined: its outcome is not known. */
  level: Safety | undefined
}

export interface Attempt {
  acknowledged(level: Safety): void
  /** It was refused in a way that promises that nothing was published. */
  refused(): void
}

export class BrokenPromise extends Error {}

export class Ledger {
  /** Oldest first; the first is what is safe at `persisted`. */
  readonly #histories = new Map<string, Entry[]>()
  acknowledged = 0

  get keys(): string[] {
    return [...this.#histories.keys()]
  }

  /** As it is now; what is entered later is entered in one of the two. */
  copy(): Ledger {
    const copy = new Ledger()
    for (const [key, history] of this.#histories)
      copy.#histories.set(
        key,
        history.map((entry) => ({ ...entry })),
      )
    return copy
  }

  begin(key: string, content: Content): Attempt {
    const history = this.#histories.get(key) ?? [{ content: undefined, level: 'persisted' }]
    this.#histories.set(key, history)
    const entry: Entry = { content, level: undefined }
    history.push(entry)
    return {
      acknowledged: (level) => {
        entry.level = level
        this.acknowledged++
        if (level === 'persisted') history.splice(0, history.indexOf(entry))
      },
      refused: () => void history.splice(history.indexOf(entry), 1),
    }
  }

  allowed(key: string, safety: Safety): Content[] {
    const history = this.#histories.get(key) ?? [{ content: undefined, level: 'persisted' }]
    const from = safety === 'persisted' ? 0 : history.findLastIndex(({ level }) => level !== undefined)
    return history.slice(from).map(({ content }) => content)
  }

  /**
   * This was found when nobody wrote: it is what the key holds from now on.
   * @throws BrokenPromise when it may not be there
   */
  found(key: string, content: Content, safety: Safety): void {
    const allowed = this.allowed(key, safety)
    if (!allowed.includes(content)) {
      const wanted = allowed.map((one) => one ?? 'nothing').join(' or ')
      throw new BrokenPromise(`${key} holds ${content ?? 'nothing'}, and it may hold ${wanted}`)
    }
    const history = this.#histories.get(key) ?? []
    const known: Entry = { content, level: safety }
    // After the loss of a node this is all there is; after a crash what came before still may be what the remote store holds.
    this.#histories.set(key, safety === 'persisted' ? [known] : [...history, known])
  }

  /** Everything acknowledged so far has reached the remote store, with its name. */
  allPersisted(): void {
    for (const [key, history] of this.#histories) {
      const from = history.findLastIndex(({ level }) => level !== undefined)
      const kept = history.slice(from)
      const [first] = kept
      if (first) first.level = 'persisted'
      this.#histories.set(key, kept)
    }
  }
}

export function digest(bytes: Uint8Array): string {
  return `${bytes.length} bytes, SHA-256 ${createHash('sha256').update(bytes).digest('hex')}`
}
