/**
 * Renames of directories, step by step. Here such a rename is one row, and over there nothing of the kind exists: a step writes some keys below the directory down as
 * dirty, under the new name and under the old one, and carrying them out (write-back.ts) does the rest. The row says how far it is, so a restart goes on where it was.
 */
import type { AttachedBuckets } from './attached.ts'
import type { AttachedNames, DirectoryMove } from './ports.ts'

/** Of one rename, until all that it wrote down is carried out. */
export interface MoveProgress {
  readonly from: string
  readonly to: string
  readonly startedMs: number
  /** Keys below it that are written down so far, and whether these are all. */
  readonly keys: number
  readonly isWrittenDown: boolean
  /** Carried out since this process began: copies under the new name and removals under the old one. */
  readonly carriedOut: number
}

interface Tracked {
  move: DirectoryMove
  isWrittenDown: boolean
  carriedOut: number
}

/** Renames whose progress is remembered for each bucket; others are done all the same. */
const TRACKED_MAX = 100

export class DirectoryMoves {
  readonly #names: AttachedNames
  readonly #attached: AttachedBuckets
  readonly #tracked = new Map<number, Map<number, Tracked>>()

  constructor({ names, attached }: { readonly names: AttachedNames; readonly attached: AttachedBuckets }) {
    this.#names = names
    this.#attached = attached
  }

  /** One step of each rename that is to be written down. True when there are more. */
  async round(): Promise<boolean> {
    let more = false
    for (const { record } of this.#attached.all()) more = (await this.step(record.bucketId)) || more
    return more
  }

  /** Of one bucket. */
  async step(bucketId: number): Promise<boolean> {
    let more = false
    for (const move of await this.#names.moves(bucketId)) {
      const { value } = await this.#names.stepMove(bucketId, move.id)
      this.#track(bucketId, { ...move, keys: move.keys + value.keys }, value.done)
      more ||= !value.done
    }
    return more
  }

  #track(bucketId: number, move: DirectoryMove, isWrittenDown: boolean): void {
    const moves = this.#tracked.get(bucketId) ?? new Map<number, Tracked>()
    this.#tracked.set(bucketId, moves)
    const known = moves.get(move.id)
    if (!known && moves.size >= TRACKED_MAX) return
    moves.set(move.id, { move, isWrittenDown, carriedOut: known?.carriedOut ?? 0 })
  }

  carriedOut(bucketId: number, key: string): void {
    for (const tracked of this.#tracked.get(bucketId)?.values() ?? []) {
      if (isBelow(key, tracked.move)) tracked.carriedOut++
    }
  }

  forget(bucketId: number): void {
    this.#tracked.delete(bucketId)
  }

  /** Those that are not over; what is over is forgotten. */
  async progress(bucketId: number): Promise<readonly MoveProgress[]> {
    const listed = await this.#names.moves(bucketId)
    const tracked = this.#tracked.get(bucketId) ?? new Map<number, Tracked>()
    for (const move of listed) if (!tracked.has(move.id)) this.#track(bucketId, move, false)
    for (const [id, { move, isWrittenDown }] of tracked) {
      const isListed = listed.some((other) => other.id === id)
      if (!isListed && isWrittenDown && !(await this.#hasDirty(bucketId, move))) tracked.delete(id)
    }
    return [...(this.#tracked.get(bucketId)?.values() ?? [])].map(({ move, isWrittenDown, carriedOut }) => ({
      from: move.from,
      to: move.to,
      startedMs: move.startedMs,
      keys: move.keys,
      isWrittenDown,
      carriedOut,
    }))
  }

  async #hasDirty(bucketId: number, { from, to }: DirectoryMove): Promise<boolean> {
    for (const prefix of [from, to]) {
      const [first] = await this.#names.dirtyKeys(bucketId, prefix, 1)
      if (first?.key.startsWith(prefix)) return true
    }
    return false
  }
}

function isBelow(key: string, { from, to }: DirectoryMove): boolean {
  return key.startsWith(to) || key.startsWith(from)
}
