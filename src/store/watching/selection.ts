/** Which changes concern whom, and how many of them go into one batch. */
import type { Revision } from '../../common/ids.ts'
import type { WatchBatch } from '../kv-types.ts'
import type { MetadataChange } from '../ports.ts'

export interface Subject {
  readonly bucket: string
  readonly prefix: string
}

/** A rename concerns who watches either of its names, and one of a directory also who watches a part of what is in it. */
export function concerns(change: MetadataChange, { bucket, prefix }: Subject): boolean {
  if (change.bucket !== bucket) return false
  if (change.kind !== 'renamed') return change.key.startsWith(prefix)
  return touches(change.from, prefix) || touches(change.to, prefix)
}

function touches(name: string, prefix: string): boolean {
  return name.startsWith(prefix) || (name.endsWith('/') && prefix.startsWith(name))
}

export interface Cut {
  readonly subject: Subject
  /** First revision wanted. */
  readonly from: Revision
  /** Events at most, unless one revision alone has more. */
  readonly limit: number
}

/** What concerns the subject among changes in order, which are all there is up to `through`. Whole revisions only (C3). */
export function select(
  changes: readonly MetadataChange[],
  through: Revision,
  cut: Cut,
  startIndex: number = 0,
): WatchBatch {
  const { subject, from, limit } = cut
  const events: MetadataChange[] = []
  let revision = 0
  let wholeRevisions = 0
  for (let index = startIndex; index < changes.length; index++) {
    const change = changes[index] as MetadataChange
    if (change.revision < from) continue
    if (change.revision !== revision) {
      if (events.length >= limit) return { events, next: change.revision }
      revision = change.revision
      wholeRevisions = events.length
    }
    if (!concerns(change, subject)) continue
    events.push(change)
    if (events.length > limit && wholeRevisions > 0) {
      return { events: events.slice(0, wholeRevisions), next: revision }
    }
  }
  return { events, next: Math.max(from, through + 1) }
}
