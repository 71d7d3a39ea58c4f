/**
 * Which ranges were merged lately, and when their listings were asked for. A page that was asked for before one that has been merged already tells
 * of its keys what is older: also of one that neither the mirror nor that newer page had, so that no row and no note (recent-changes.ts) says when
 * it went.
 *
 * In memory, since no request outlives its process. Bounded: what is forgotten raises a floor, and a page that was asked for before the floor is
 * taken for too old altogether.
 */
import { reaches } from './coverage.ts'

/** Far more than are under way at once. */
const RANGES_MAX = 1024

export interface ToldRange {
  /** Of a shallow page; undefined: all keys. In bytes, as the keys. */
  readonly directory: string | undefined
  /** First key and last key. */
  readonly from: string
  readonly through: string
  readonly askedAtMs: number
}

interface Told {
  readonly ranges: ToldRange[]
  floorMs: number
}

export class RecentPages {
  readonly #rangesMax: number
  readonly #buckets = new Map<number, Told>()

  constructor(rangesMax: number = RANGES_MAX) {
    this.#rangesMax = rangesMax
  }

  /** To be called in the transaction that merges it. Noted in vain it costs a listing. */
  note(bucketId: number, range: ToldRange): void {
    const told = this.#buckets.get(bucketId) ?? { ranges: [], floorMs: 0 }
    this.#buckets.set(bucketId, told)
    told.ranges.push(range)
    if (told.ranges.length <= this.#rangesMax) return
    // Half of them at once, the first that came.
    for (const { askedAtMs } of told.ranges.splice(0, Math.ceil(told.ranges.length / 2))) {
      told.floorMs = Math.max(told.floorMs, askedAtMs)
    }
  }

  /** Whether so much was merged since then that one cannot say of every key. */
  isForgotten(bucketId: number, askedAtMs: number): boolean {
    return askedAtMs < (this.#buckets.get(bucketId)?.floorMs ?? 0)
  }

  /** Those that were asked for after this one, and may have keys of it. */
  newerThan(bucketId: number, { from, through, askedAtMs }: ToldRange): readonly ToldRange[] {
    const { ranges = [] } = this.#buckets.get(bucketId) ?? {}
    return ranges.filter(
      (range) => range.askedAtMs > askedAtMs && reaches(range.through, from) && reaches(through, range.from),
    )
  }
}

/** Whether a listing of this range tells whether the key is there. */
export function tellsOf({ directory, from, through }: ToldRange, key: string): boolean {
  if (key < from || !reaches(through, key)) return false
  if (directory === undefined) return true
  const slash = key.indexOf('/', directory.length)
  return key.startsWith(directory) && (slash < 0 || slash === key.length - 1)
}
