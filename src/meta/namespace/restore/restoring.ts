/** What a restore does to a namespace once its rows are written, before anybody serves from it: bound to one context. */
import { listBuckets } from '../buckets.ts'
import { COUNTED_BY, type Bound, type NamespaceContext } from '../context.ts'
import { usageKey } from '../keys.ts'
import { listSegments } from '../segments.ts'
import type { Reclaimer } from '../reclaim.ts'
import { BodyAdder } from './add-body.ts'
import { applyRecord } from './apply-record.ts'
import { dropLost, type DroppedObjects } from './drop-lost.ts'
import type { SegmentId } from '../../../common/ids.ts'

const PAGE = 1000

export interface Restoring {
  readonly dropLost: (missing: ReadonlySet<SegmentId>) => Promise<DroppedObjects>
  readonly applyRecord: Bound<typeof applyRecord>
  readonly bodies: () => BodyAdder
  readonly tally: () => Promise<Tally>
}

/** What there is, by the counters. */
export interface Tally {
  readonly buckets: number
  readonly objects: number
  readonly bytes: number
  readonly segments: number
}

async function tally(context: NamespaceContext): Promise<Tally> {
  const { store } = context
  const sum = { buckets: 0, objects: 0, bytes: 0, segments: 0 }
  for (let after = ''; ;) {
    const page = await listBuckets(context, { prefix: '', after, limit: PAGE })
    for (const { id } of page) {
      const [objects = 0, bytes = 0] = await store.read((view) => view.counters(usageKey(id, COUNTED_BY), 2))
      sum.objects += objects
      sum.bytes += bytes
    }
    sum.buckets += page.length
    const last = page.at(-1)
    if (!last || page.length < PAGE) break
    after = last.name
  }
  for (let after: SegmentId | undefined; ;) {
    const page = await listSegments(context, after, PAGE)
    sum.segments += page.length
    after = page.at(-1)?.segment
    if (after === undefined || page.length < PAGE) return sum
  }
}

export function createRestoring(context: NamespaceContext, reclaimer: Reclaimer): Restoring {
  return {
    dropLost: (missing) => dropLost(context, reclaimer, missing),
    applyRecord: (record) => applyRecord(context, record),
    bodies: () => new BodyAdder(context),
    tally: () => tally(context),
  }
}
