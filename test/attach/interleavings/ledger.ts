/**
 * What was written by whom, who may have replaced it, and so what may not be missing.
 *
 * Two rules (C32):
 *
 * - *Nothing of theirs goes unseen.* Where our client replaces or removes at a key what somebody else wrote there, it has been shown that before (a HEAD, a
 *   listing) and somebody here has changed that key since. Not for `last-writer-wins`, which says otherwise in words.
 * - *Nothing of ours goes at all.* What was acknowledged here is found at the end, at its key, where it was renamed to, or beside it as a conflict, unless a
 *   later change here or a decision took it away, or somebody else wrote over it outside once it had arrived there.
 *
 * Times are stamps that count up. A change is believed to have happened at any time from its begin to its end; one that failed may have happened all the same. So where things overlap
 * the ledger forgives, and it never accuses wrongly.
 */
import { createHash } from 'node:crypto'
import type { ConflictPolicy } from '../../../src/common/external.ts'

/** A promise was broken: what this is there to find. */
export class Broken extends Error {}

/** Something somebody here does. */
export interface Change {
  readonly what: string
  /** Keys whose content goes by it, or goes elsewhere. */
  readonly touches: (key: string) => boolean
  /** Keys whose content goes by it. */
  readonly destroys: (key: string) => boolean
  /** Where else what lies at a key lies afterwards. */
  readonly moves?: ((key: string) => string | undefined) | undefined
}

interface Entered extends Change {
  readonly begun: number
  ended: number
}

/** A content that was acknowledged at a key. */
interface Placement {
  readonly content: string
  readonly what: string
  readonly begun: number
  /** Where it may lie. */
  readonly keys: Set<string>
  excuse: string | undefined
}

/** Where our side keeps what is on its way; nobody else writes there. */
const OURS_ALONE = '.tidegate-moving/'
/** A directory that is moved into itself would give ever more. */
const PLACES_MAX = 64
/** Shorter ones may be written twice by chance. */
export const TOLD_APART_BYTES_MIN = 8

export class Ledger {
  readonly policy: ConflictPolicy
  readonly trace: string[] = []
  nowMs: () => number = () => 0
  readonly #known = new Map<string, 'here' | 'outside'>()
  readonly #shown = new Map<string, number>()
  readonly #changes: Entered[] = []
  readonly #placements: Placement[] = []
  /** When somebody outside last replaced it. */
  readonly #gone = new Map<string, number>()
  #stamp = 0
  broken: Broken | undefined

  constructor(policy: ConflictPolicy) {
    this.policy = policy
    this.know(Buffer.alloc(0))
  }

  note(text: string): void {
    this.trace.push(`${this.#stamp++} ${this.nowMs().toFixed(0)} ms: ${text}`)
  }

  // ---- here

  /** It may be found from now on. */
  know(bytes: Buffer, by: 'here' | 'outside' = 'here'): string {
    const content = fingerprint(bytes)
    if (!this.#known.has(content)) this.#known.set(content, by)
    return content
  }

  isKnown(bytes: Buffer): boolean {
    return this.#known.has(fingerprint(bytes))
  }

  begin(change: Change): Entered {
    this.note(`begins ${change.what}`)
    const entered = { ...change, begun: this.#stamp, ended: Infinity }
    this.#changes.push(entered)
    this.#move(entered)
    return entered
  }

  /** @param acknowledged contents that are safe now, and at which key */
  end(
    entered: Entered,
    how: string,
    acknowledged: readonly { readonly key: string; readonly bytes: Buffer }[] = [],
  ): void {
    this.note(`ends ${entered.what}: ${how}`)
    entered.ended = this.#stamp
    this.#move(entered)
    for (const placement of this.#placements) {
      if ([...placement.keys].some((key) => entered.destroys(key))) placement.excuse ??= entered.what
    }
    for (const { key, bytes } of acknowledged) {
      const placement: Placement = {
        content: fingerprint(bytes),
        what: entered.what,
        begun: entered.begun,
        keys: new Set([key]),
        excuse: bytes.length < TOLD_APART_BYTES_MIN ? 'short' : undefined,
      }
      // It may arrive, and go again, before we are told that it was put.
      if ((this.#gone.get(placement.content) ?? -1) >= entered.begun) placement.excuse = 'replaced outside'
      this.#placements.push(placement)
      // What others here do to the key at the same time may come after it.
      for (const other of this.#changes) {
        if (other === entered || other.ended <= entered.begun) continue
        for (const at of Array.from(placement.keys)) {
          const to = other.moves?.(at)
          if (to !== undefined) placement.keys.add(to)
        }
        if ([...placement.keys].some((at) => other.destroys(at))) placement.excuse ??= other.what
      }
    }
  }

  /** The power failed: what was under way has happened or not, and does not go on. */
  cut(): void {
    this.note('power cut')
    for (const change of this.#changes) if (change.ended === Infinity) this.end(change, 'cut')
  }

  #move({ moves }: Change): void {
    if (!moves) return
    for (const { keys } of this.#placements) {
      for (const key of Array.from(keys)) {
        const to = moves(key)
        if (to !== undefined) keys.add(to)
      }
    }
  }

  // ---- outside

  writtenOutside(key: string, bytes: Buffer, over: string | undefined): void {
    this.know(bytes, 'outside')
    this.note(`outside: put ${key} ${fingerprint(bytes)} (${bytes.length} bytes) over ${over}`)
    this.#goneOutside(over, `put ${key} outside`)
  }

  deletedOutside(key: string, what: string | undefined): void {
    this.note(`outside: delete ${key} ${what}`)
    this.#goneOutside(what, `delete ${key} outside`)
  }

  #goneOutside(content: string | undefined, why: string): void {
    if (content !== undefined) this.#gone.set(content, this.#stamp)
    for (const placement of this.#placements) if (placement.content === content) placement.excuse ??= why
  }

  shown(key: string, content: string): void {
    const name = `${key}\n${content}`
    if (!this.#shown.has(name)) {
      this.note(`shown ${key} ${content}`)
      this.#shown.set(name, this.#stamp)
    }
  }

  replacedByUs(key: string, before: string | undefined, after: string | undefined): void {
    this.note(`outside by us: ${key} ${before} -> ${after}`)
    const name = `${key}\n${after}`
    // What we put there needs no showing.
    if (after !== undefined && !this.#shown.has(name)) this.#shown.set(name, -1)
    if (before === undefined || before === after || this.policy === 'last-writer-wins') return
    if (this.#known.get(before) !== 'outside' || key.startsWith(OURS_ALONE)) return
    const shownAt = this.#shown.get(`${key}\n${before}`)
    const isMeant = this.#changes.some(
      (change) => change.ended > (shownAt ?? Infinity) && change.touches(withoutConflict(key)),
    )
    if (isMeant) return
    this.broken ??= new Broken(
      `${key}: ${before}, written outside, was ${after === undefined ? 'removed' : `replaced by ${after}`} although ${shownAt === undefined ? 'it was never seen' : 'nobody here changed the key since it was seen'}`,
    )
  }

  // ---- at the end

  /** @throws Broken when something that was acknowledged is nowhere */
  checkKept(found: ReadonlyMap<string, Buffer>): void {
    const lying = [...found].map(([key, bytes]) => ({ key, content: fingerprint(bytes) }))
    for (const placement of this.#placements) {
      const { content, excuse, what } = placement
      if (excuse !== undefined) continue
      const keys = this.#wherever(placement)
      const isThere = lying.some((at) => at.content === content && keys.has(withoutConflict(at.key)))
      if (!isThere) throw new Broken(`${content} is lost: ${what}, at ${[...keys].join(' or ')}`)
    }
  }

  /** Where it may lie, in whichever order what happened at the same time came about. */
  #wherever({ keys, begun }: Placement): ReadonlySet<string> {
    const all = new Set(keys)
    for (const key of all) {
      if (all.size > PLACES_MAX) break
      for (const { ended, moves } of this.#changes) {
        const to = ended > begun ? moves?.(key) : undefined
        if (to !== undefined) all.add(to)
      }
    }
    return all
  }

  get kept(): number {
    return this.#placements.filter(({ excuse }) => excuse === undefined).length
  }
}

/** What was set aside belongs to its key: who has it open goes on writing into it. */
export function withoutConflict(key: string): string {
  return key.replace(/(\.conflict-\d+T\d+Z-[0-9a-f]{8})+/, '')
}

export function fingerprint(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex').slice(0, 12)
}
