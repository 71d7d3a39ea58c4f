/** What /metrics shows of metadata in etcd: of this node's groups and barriers, and of the members. Read when somebody collects. */
import { metrics, type ObservableResult } from '@opentelemetry/api'
import type { Clock } from './common/clock.ts'
import type { EtcdView, SeenMember } from './etcd-view.ts'
import type { EtcdFigures } from './meta/raft/figures.ts'
import type { SharedMetadata } from './shared-metadata.ts'

type Reading<T> = readonly [name: string, description: string, read: (of: T) => number]

const COUNTERS: readonly Reading<EtcdFigures>[] = [
  ['tidegate_etcd_groups', 'Groups of transactions sent to etcd', ({ groups }) => groups],
  ['tidegate_etcd_group_transactions', 'Transactions in them', ({ grouped }) => grouped],
  ['tidegate_etcd_lost_answers', 'Groups of which it had to be found out whether they took effect', ({ lost }) => lost],
  [
    'tidegate_etcd_conflicts',
    'Transactions that ran again since another node had changed what they read',
    ({ conflicts }) => conflicts,
  ],
  ['tidegate_etcd_barriers', 'Questions to etcd how far a read must see', ({ barriers }) => barriers],
  ['tidegate_etcd_barrier_seconds', 'Time until they were answered, together', ({ barriersMs }) => barriersMs / 1000],
  ['tidegate_etcd_outages', 'How often a majority of etcd did not answer for seconds', ({ outages }) => outages],
  [
    'tidegate_etcd_stale_reads',
    'Reads answered from what this node knew while etcd was away (--stale-reads)',
    ({ staleReads }) => staleReads,
  ],
]

const GAUGES: readonly Reading<SharedMetadata>[] = [
  ['tidegate_etcd_up', '1 while a majority of etcd answers', (shared) => Number(shared.condition() === undefined)],
  ['tidegate_etcd_under_way', 'Metadata reads and transactions under way', (shared) => shared.figures()?.underWay ?? 0],
]

const OF_MEMBER: readonly Reading<SeenMember>[] = [
  ['tidegate_etcd_member_up', '1 if this member of etcd answers', ({ trouble }) => Number(trouble === undefined)],
  ['tidegate_etcd_member_leads', '1 for the member that leads', ({ role }) => Number(role === 'leader')],
  ['tidegate_etcd_member_votes', '0 for one that is still catching up', ({ role }) => Number(role !== 'learner')],
  ['tidegate_etcd_member_bytes', "Size of the member's file, free pages included", ({ dbBytes }) => dbBytes ?? NaN],
  ['tidegate_etcd_member_used_bytes', 'The same without free pages', ({ dbInUseBytes }) => dbInUseBytes ?? NaN],
  ['tidegate_etcd_member_lag', 'Changes that another member has applied and this one has not', ({ lag }) => lag ?? NaN],
]

const ALARMS = ['no space', 'corrupt'] as const

/** Members are not asked more often, however many collect. */
const LOOKED_MS = 10_000
const OLD_MS = 60_000

export function observeSharedMetadata(shared: SharedMetadata, clock: Clock): void {
  const meter = metrics.getMeter('tidegate')
  for (const [name, description, read] of COUNTERS) {
    meter.createObservableCounter(name, { description }).addCallback((result) => {
      const figures = shared.figures()
      if (figures) result.observe(read(figures))
    })
  }
  for (const [name, description, read] of GAUGES)
    meter.createObservableGauge(name, { description }).addCallback((result) => result.observe(read(shared)))
  observeMembers(recent(() => shared.view(), clock))
}

function observeMembers(view: () => Promise<EtcdView | undefined>): void {
  const meter = metrics.getMeter('tidegate')
  const gauge = (name: string, description: string, tell: (result: ObservableResult, seen: EtcdView) => void): void =>
    meter.createObservableGauge(name, { description }).addCallback(async (result) => {
      const seen = await view()
      if (seen) tell(result, seen)
    })
  for (const [name, description, read] of OF_MEMBER) {
    gauge(name, description, (result, { members }) => {
      for (const member of members) {
        const value = read(member)
        if (!Number.isNaN(value)) result.observe(value, { member: member.name })
      }
    })
  }
  gauge('tidegate_etcd_alarms', 'Alarms that members have raised', (result, { alarms }) => {
    for (const kind of ALARMS) result.observe(alarms.filter((alarm) => alarm.kind === kind).length, { kind })
  })
  gauge('tidegate_etcd_quota_bytes', 'Size of a file above which only reads and deletes pass', (result, seen) => {
    if (seen.quotaBytes !== undefined) result.observe(seen.quotaBytes)
  })
}

/**
 * What was seen last. Who collects regularly does not wait for members that do not answer: they are asked behind him, and the next one is told. What
 * is older than that is not shown.
 */
function recent(look: () => Promise<EtcdView>, clock: Clock): () => Promise<EtcdView | undefined> {
  let last: EtcdView | undefined
  let lookedMs = -Infinity
  let looking: Promise<void> | undefined
  const refresh = (): Promise<void> =>
    (looking ??= look()
      .then(
        (seen) => (last = seen),
        // What cannot be seen is not shown.
        () => (last = undefined),
      )
      .then(() => {
        looking = undefined
        lookedMs = clock.monotonicMs()
      }))
  return async () => {
    const ageMs = clock.monotonicMs() - lookedMs
    if (ageMs >= LOOKED_MS) {
      const refreshed = refresh()
      if (ageMs >= OLD_MS) await refreshed
    }
    return last
  }
}
