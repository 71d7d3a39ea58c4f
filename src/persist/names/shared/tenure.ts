/**
 * The time in which this node ships the names of all (shared-names.ts). Whatever it changes in the row it changes by compare-and-swap of token and sequence, under its session: so
 * once another has taken over, or etcd was put back from a backup, no change of this one is made any more, and it learns so at the next.
 */
import type { Clock } from '../../../common/clock.ts'
import type { Revision } from '../../../common/ids.ts'
import type { NotedIntent } from '../ports.ts'
import {
  NEW_ROW,
  NOBODY,
  decodeHolderRow,
  encodeHolderRow,
  type BackupPin,
  type HolderRow,
  type ToldState,
} from './holder-row.ts'
import type { HolderRows } from './ports.ts'

/** This node is not the one that ships, or not any more. */
export class StoodDown extends Error {
  override readonly name = 'StoodDown'
}

/** How things stand, as the one who ships sees it. */
export interface Standing {
  readonly state: ToldState | undefined
  readonly shippedThrough: Revision
  readonly stateMs: number
  readonly isHolding: boolean
  readonly pins: readonly BackupPin[]
  readonly pinsAll: boolean
  readonly isFormerKept: boolean
}

export interface TenureParts {
  readonly rows: HolderRows
  readonly clock: Clock
  readonly incarnation: string
  readonly token: string
}

/** Notes outlive what they tell of: what a holder that was paused puts late must be known to the one after it. */
const NOTES_KEPT = 256
/** How often it is told that nothing but the revision has moved. */
const TELL_EVERY_MS = 5000
/** A backup that was announced, and of which nothing was found, may arrive yet. */
const PIN_WITHOUT_BACKUP_MS = 3_600_000

export class Tenure {
  readonly #parts: TenureParts
  #row: HolderRow
  #committedAt: Revision
  #toldMs = -Infinity
  /** Announced by who came before. */
  readonly #inherited: readonly BackupPin[]
  #isOver = false

  private constructor(parts: TenureParts, row: HolderRow, committedAt: Revision) {
    this.#parts = parts
    this.#row = row
    this.#committedAt = committedAt
    this.#inherited = row.pins
  }

  /** `before`: the row as it was seen. @throws StoodDown when it has changed since */
  static async take(parts: TenureParts, before: HolderRow | undefined): Promise<Tenure> {
    const { rows, token, incarnation } = parts
    const { made, revision } = await changed(rows, (found) => {
      if (found?.token !== before?.token || found?.sequence !== before?.sequence)
        throw new StoodDown('another was faster')
      const row = found ?? NEW_ROW
      return { ...row, node: rows.node, incarnation, token, isLoaded: false }
    })
    return new Tenure(parts, made, revision)
  }

  get row(): HolderRow {
    return this.#row
  }

  get isOver(): boolean {
    return this.#isOver
  }

  /** Durable before anything of the capture is put (intents.ts). */
  async note(intent: NotedIntent): Promise<void> {
    await this.#change((row) => ({ ...row, notes: [...row.notes, intent].slice(-NOTES_KEPT), isHolding: true }))
  }

  /** What was noted, by holders before this one too. What the state consists of is known in any case. */
  notes(): readonly NotedIntent[] {
    const told = this.#row.state?.deltas ?? []
    return [...told.map((random) => ({ random, revision: 0 })), ...this.#row.notes]
  }

  /** @param wanted the revision that somebody waits for */
  async publish(standing: Standing, wanted: Revision): Promise<void> {
    const pins = [...standing.pins, ...this.#announced(standing.pins)]
    const next = { ...standing, pins, isLoaded: true }
    if (!this.#isWorthTelling(next, wanted)) return
    await this.#change((row) => ({ ...row, ...next }))
    this.#toldMs = this.#parts.clock.monotonicMs()
  }

  #announced(found: readonly BackupPin[]): BackupPin[] {
    const since = this.#parts.clock.nowMs() - PIN_WITHOUT_BACKUP_MS
    return this.#inherited.filter(({ id, createdMs }) => createdMs > since && !found.some((pin) => pin.id === id))
  }

  #isWorthTelling(next: Standing, wanted: Revision): boolean {
    const { shippedThrough } = this.#row
    if (essence({ ...this.#row, ...next }) !== essence(this.#row) || !this.#row.isLoaded) return true
    if (next.shippedThrough <= shippedThrough) return false
    if (wanted > shippedThrough) return true
    // When nothing but this row has changed since it was last told, there is nothing to tell, or it would never end.
    const isNews = next.shippedThrough > this.#committedAt
    return isNews && this.#parts.clock.monotonicMs() - this.#toldMs >= TELL_EVERY_MS
  }

  /** Another may take over at once. */
  async release(): Promise<void> {
    await this.#change((row) => ({ ...row, node: NOBODY, incarnation: '' }))
    this.#isOver = true
  }

  async #change(make: (row: HolderRow) => HolderRow): Promise<void> {
    if (this.#isOver) throw new StoodDown('this node does not ship names any more')
    const { token, sequence } = this.#row
    try {
      const { made, revision } = await changed(this.#parts.rows, (found) => {
        if (found?.token !== token || found.sequence !== sequence)
          throw new StoodDown('another node ships names by now')
        return make(found)
      })
      this.#row = made
      this.#committedAt = revision
    } catch (error) {
      // Of one that may have been made or not it is not known any more what the row is.
      this.#isOver = true
      throw error
    }
  }
}

/** What others go by, but for the revision. */
function essence({
  state,
  isHolding,
  pins,
  pinsAll,
  isFormerKept,
}: Omit<Standing, 'shippedThrough' | 'stateMs'>): string {
  return JSON.stringify([state, isHolding, pins, pinsAll, isFormerKept])
}

async function changed(
  rows: HolderRows,
  make: (found: HolderRow | undefined) => HolderRow,
): Promise<{ made: HolderRow; revision: Revision }> {
  let made: HolderRow = NEW_ROW
  const revision = await rows.change((bytes) => {
    const found = decodeHolderRow(bytes)
    made = { ...make(found), sequence: (found?.sequence ?? 0) + 1 }
    return encodeHolderRow(made)
  })
  return { made, revision }
}
