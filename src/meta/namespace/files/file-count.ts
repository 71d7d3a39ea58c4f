/** How many objects there are, markers of directories included, and buckets: from the deltas of usage (C8), for statfs(2). */
import { BUCKETS, prefixRange, usageKey } from '../keys.ts'
import { decodeBucket } from '../records-objects.ts'
import { COUNTED_BY, type NamespaceContext } from '../context.ts'
import { readVisible } from './visible.ts'

/** More than there may be (buckets.ts). */
const BUCKET_ROWS_MAX = 100_000

export function fileCount(context: NamespaceContext): Promise<number> {
  return readVisible(context, async (view) => {
    const rows = await view.scan(prefixRange(BUCKETS), BUCKET_ROWS_MAX)
    let count = rows.length
    for (const row of rows) {
      const [objects = 0] = await view.counters(usageKey(decodeBucket(row.value).id, COUNTED_BY), 2)
      count += objects
    }
    return count
  })
}
