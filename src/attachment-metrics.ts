/** What /metrics shows of attached buckets, each under its name. Read when somebody collects. */
import { metrics, type ObservableResult } from '@opentelemetry/api'
import type { AttachmentControl, AttachmentStatus } from './attach/control.ts'
import type { Freshness } from './attach/freshness.ts'
import type { WriteBack } from './attach/write-back.ts'
import type { Clock } from './common/clock.ts'

export interface AttachmentMetricsParts {
  readonly control: Pick<AttachmentControl, 'list' | 'paused'>
  readonly freshness: Pick<Freshness, 'status'>
  readonly writeBack: Pick<WriteBack, 'totals'>
  readonly clock: Clock
}

type Reading<T> = readonly [name: string, description: string, read: (of: T) => number]

const OF_BUCKET: readonly Reading<AttachmentStatus>[] = [
  [
    'tidegate_attached_dirty_keys',
    'Keys that were changed here and are not in the external bucket yet',
    ({ writeBack }) => writeBack?.dirty ?? 0,
  ],
  [
    'tidegate_attached_oldest_age_seconds',
    'Age of the oldest change that is not in the external bucket',
    ({ writeBack }) => (writeBack?.oldestAgeMs ?? 0) / 1000,
  ],
  [
    'tidegate_attached_conflicts',
    'Keys that were changed on both sides and wait for a decision',
    ({ writeBack }) => writeBack?.conflicts ?? 0,
  ],
  ['tidegate_attached_failing_keys', 'Keys whose last try failed', ({ writeBack }) => writeBack?.failing ?? 0],
  [
    'tidegate_attached_away_seconds',
    'How long the external store has taken nothing',
    ({ writeBack }) => (writeBack?.awayMs ?? 0) / 1000,
  ],
  [
    'tidegate_attached_unasked',
    '1 while the external store could not be asked, or lacks what the conflict policy needs',
    ({ problem }) => Number(problem !== undefined),
  ],
  [
    'tidegate_attached_imported_keys',
    'Keys listed by the last import since the start',
    ({ importing }) => importing?.keys ?? 0,
  ],
  [
    'tidegate_attached_compared_keys',
    'Keys listed again in the background since the start',
    ({ comparing }) => comparing?.keys ?? 0,
  ],
  ['tidegate_attached_compared_changes', 'Those that had changed outside', ({ comparing }) => comparing?.changed ?? 0],
  [
    'tidegate_attached_unheld_keys',
    'Keys of the external bucket that cannot be held here and do not show, as they were last listed',
    ({ unheld }) => unheld.keys,
  ],
  ['tidegate_attached_events', 'Notifications of changes outside, since the start', ({ events }) => events.taken],
]

const OF_ALL: readonly Reading<AttachmentMetricsParts>[] = [
  [
    'tidegate_attached_carried_out',
    'Changes carried out to external buckets',
    ({ writeBack }) => writeBack.totals.carriedOut,
  ],
  ['tidegate_attached_failures', 'Failed tries to carry one out', ({ writeBack }) => writeBack.totals.failures],
  [
    'tidegate_attached_conflicts_found',
    'Conflicts found, however they ended',
    ({ writeBack }) => writeBack.totals.conflicts,
  ],
  [
    'tidegate_attached_looks',
    'Keys and names looked up in external buckets',
    ({ freshness }) => freshness.status.looks,
  ],
  ['tidegate_attached_pages', 'Pages listed in external buckets', ({ freshness }) => freshness.status.pages],
  [
    'tidegate_attached_stale_answers',
    'Answers from what was known, since the external store was down',
    ({ freshness }) => freshness.status.stale,
  ],
]

/** Dirty rows are counted for it: not more often than this, however many collect. */
const COUNTED_MS = 10_000

export function observeAttachments(parts: AttachmentMetricsParts): void {
  const meter = metrics.getMeter('tidegate')
  const statuses = recentStatuses(parts)
  for (const [name, description, read] of OF_BUCKET) {
    meter.createObservableGauge(name, { description }).addCallback(async (result: ObservableResult) => {
      for (const status of await statuses()) result.observe(read(status), { bucket: status.record.bucket })
    })
  }
  for (const [name, description, read] of OF_ALL) {
    meter.createObservableCounter(name, { description }).addCallback((result) => result.observe(read(parts)))
  }
  meter
    .createObservableGauge('tidegate_attached_paused', { description: '1 while nothing is carried out' })
    .addCallback((result) => result.observe(Number(parts.control.paused)))
}

/** One count for all readings of a collection. */
function recentStatuses({ control, clock }: AttachmentMetricsParts): () => Promise<readonly AttachmentStatus[]> {
  let last: { readonly atMs: number; readonly statuses: Promise<readonly AttachmentStatus[]> } | undefined
  return async () => {
    const nowMs = clock.monotonicMs()
    if (!last || nowMs - last.atMs >= COUNTED_MS) {
      // What cannot be counted now is not shown.
      last = { atMs: nowMs, statuses: control.list().catch(() => []) }
    }
    return await last.statuses
  }
}
