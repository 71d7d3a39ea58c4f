/**
 * What several mounts saw of files that have one writer each: close-to-open. Who opens a file finds what was acknowledged before, or something that was
 * being written until the reading was over; nothing older, and nothing else.
 */
import type { Content } from '../write-behind/load/ledger.ts'

export interface MountWrite {
  readonly content: string
  readonly startedMs: number
  /** Undefined: its outcome is not known. */
  acknowledgedMs: number | undefined
}

export interface MountRead {
  readonly name: string
  readonly by: string
  readonly startedMs: number
  readonly endedMs: number
  readonly content: Content
}

/** In words, each read that none may see. `writes`: by name, in the order in which the one writer made them. */
export function staleReads(
  writes: ReadonlyMap<string, readonly MountWrite[]>,
  reads: readonly MountRead[],
): readonly string[] {
  return reads.flatMap((read) => {
    const all = writes.get(read.name) ?? []
    const last = all.findLastIndex(
      ({ acknowledgedMs }) => acknowledgedMs !== undefined && acknowledgedMs <= read.startedMs,
    )
    const begun = all.filter(({ startedMs }, index) => index >= last && startedMs <= read.endedMs)
    const allowed: Content[] = [...begun.map(({ content }) => content), ...(last < 0 ? [undefined] : [])]
    if (allowed.includes(read.content)) return []
    const place = all.findIndex(({ content }) => content === read.content)
    const found = read.content === undefined ? 'nothing' : place < 0 ? read.content : `write ${place}`
    return [`${read.by} found ${found} in ${read.name}, of which write ${last} was acknowledged before`]
  })
}
