/** What /metrics shows of an engine. Read when somebody collects; nothing on a hot path. */
import { metrics, type ObservableResult } from '@opentelemetry/api'
import { remoteCounters, remoteGauges } from './engine-remote-metrics.ts'
import type { Engine } from './engine.ts'
import type { BatchingObserver } from './persist/journal/batching.ts'

/** Sums kept by the journal's devices. */
export interface JournalStats {
  syncs: number
  batches: number
  submissions: number
  busyMs: number
}

export function createJournalStats(): { stats: JournalStats; observer: BatchingObserver } {
  const stats: JournalStats = { syncs: 0, batches: 0, submissions: 0, busyMs: 0 }
  const observer: BatchingObserver = {
    onBatch: ({ submissions, syncs, durationMs }) => {
      stats.syncs += syncs
      stats.batches++
      stats.submissions += submissions
      stats.busyMs += durationMs
    },
  }
  return { stats, observer }
}

type Reading = readonly [name: string, description: string, read: () => number]

/** Names, what they mean, and how to read them: for /metrics and for `.tidegate/stats` of a mount. */
export interface EngineReadings {
  readonly counters: readonly Reading[]
  readonly gauges: readonly Reading[]
  /** Not among the figures of a mount. */
  readonly labelled: readonly LabelledReading[]
}

/** A counter for each value of a label. */
type LabelledReading = readonly [
  name: string,
  description: string,
  label: string,
  read: () => ReadonlyMap<string, number>,
]

export function engineReadings(engine: Engine, journal: JournalStats): EngineReadings {
  const { memory, reclaimer, disk, store, orderedStore } = engine
  const counters: Reading[] = [
    ['tidegate_cache_hits', 'Blocks found in memory', () => memory.stats.hits],
    ['tidegate_cache_misses', 'Blocks fetched from below the memory level', () => memory.stats.misses],
    ['tidegate_cache_evictions', 'Blocks evicted from memory', () => memory.stats.evictions],
    ['tidegate_cache_waits', 'Times that somebody waited for a slot of memory', () => memory.stats.waits],
    ['tidegate_journal_syncs', 'Syncs of segment files and their directories', () => journal.syncs],
    ['tidegate_journal_batches', 'Batches executed by the journal', () => journal.batches],
    ['tidegate_journal_submissions', 'Writes and syncs submitted to the journal', () => journal.submissions],
    ['tidegate_journal_busy_seconds', 'Time the journal was writing or syncing', () => journal.busyMs / 1000],
    [
      'tidegate_reclaimed_segments',
      'Segments removed because nothing referred to them',
      () => reclaimer.removedSegments,
    ],
    ['tidegate_compacted_segments', 'Segments compacted', () => reclaimer.compactedSegments],
    ...flushCounters(engine),
    ...remoteCounters(engine),
  ]
  const gauges: Reading[] = [
    ['tidegate_cache_held_bytes', 'Memory held by cached blocks', () => memory.bytesHeld],
    ['tidegate_cache_pinned_bytes', 'Memory held by pinned blocks', () => memory.bytesPinned],
    ['tidegate_cache_leases', 'Slices of memory that are being sent', () => memory.leases],
    ...flushGauges(engine),
    ...remoteGauges(engine),
    [
      'tidegate_disk_free_bytes',
      'Free bytes where the journal lies, less what was accepted since they were counted',
      () => disk.freeBytes,
    ],
    ['tidegate_bodies_open', 'Bodies on their way in', () => store.activity().bodies],
    ['tidegate_readers_open', 'Objects open for reading', () => store.activity().readers],
    ['tidegate_mount_files', 'Files that mounts use or that hold unpublished bytes', () => store.files.activity.files],
    ['tidegate_mount_handles', 'Open files and directories of mounts', () => store.files.activity.handles],
    [
      'tidegate_mount_dirty_bytes',
      'Memory held by bytes that were written through mounts and are not in the journal yet',
      () => store.files.activity.dirtyBytes,
    ],
    ['tidegate_revision', 'Last committed revision', () => orderedStore.revision()],
    ['tidegate_durable_revision', 'Last revision that survives power loss', () => orderedStore.durableRevision()],
  ]
  const failures: LabelledReading = [
    'tidegate_flush_failures',
    'Failed tries to carry a segment to the remote store, or to mend one',
    'code',
    () => engine.flusher.totals.failures,
  ]
  return { counters, gauges, labelled: [failures] }
}

function flushCounters({ flusher, pressure }: Engine): Reading[] {
  return [
    ['tidegate_flush_segments', 'Segments carried to the remote store', () => flusher.totals.persistedItems],
    ['tidegate_flush_bytes', 'Bytes in them', () => flusher.totals.persistedBytes],
    [
      'tidegate_flush_unsent_bytes',
      'Bytes in segments that were overwritten or deleted before they left',
      () => flusher.totals.notSentBytes,
    ],
    ['tidegate_writes_slowed', 'Pieces of bodies that waited for room in the backlog', () => pressure.status.slowed],
    ['tidegate_writes_refused', 'Those that waited too long', () => pressure.status.refused],
    ['tidegate_writes_slowed_seconds', 'All their waits together', () => pressure.status.waitedMs / 1000],
  ]
}

function flushGauges({ flusher, pressure }: Engine): Reading[] {
  return [
    ['tidegate_backlog_segments', 'Sealed segments that are not in the remote store yet', () => flusher.backlog],
    [
      'tidegate_backlog_bytes',
      'Bytes that are in the journal and not in the remote store, unsealed ones included',
      () => pressure.status.backlogBytes,
    ],
    [
      'tidegate_backlog_fill',
      'How far the backlog is between its watermarks: at 0 nobody is slowed, at 1 nobody is let in',
      () => pressure.fill,
    ],
    [
      'tidegate_backlog_oldest_age_seconds',
      'Age of the oldest sealed segment that is not in the remote store',
      () => (flusher.oldestAgeMs ?? 0) / 1000,
    ],
    ['tidegate_flush_uploads', 'Segments on their way to the remote store', () => flusher.uploads],
    ['tidegate_flush_paused', '1 while flushing is paused', () => Number(flusher.paused)],
    ['tidegate_writes_waiting', 'Pieces of bodies that wait for room in the backlog', () => pressure.status.waiting],
  ]
}

/** For people: without the prefix of the metrics. */
export function figuresOf({ gauges, counters }: EngineReadings): readonly (readonly [name: string, value: number])[] {
  return [...gauges, ...counters].map(([name, , read]) => [name.replace(/^tidegate_/, ''), read()])
}

export function observeEngine({ counters, gauges, labelled }: EngineReadings): void {
  const meter = metrics.getMeter('tidegate')
  const observe = (read: () => number) => (result: ObservableResult) => {
    const value = read()
    if (Number.isFinite(value)) result.observe(value)
  }
  for (const [name, description, read] of counters) {
    meter.createObservableCounter(name, { description }).addCallback(observe(read))
  }
  for (const [name, description, label, read] of labelled) {
    meter.createObservableCounter(name, { description }).addCallback((result) => {
      for (const [value, count] of read()) result.observe(count, { [label]: value })
    })
  }
  for (const [name, description, read] of gauges) {
    meter.createObservableGauge(name, { description }).addCallback(observe(read))
  }
}
