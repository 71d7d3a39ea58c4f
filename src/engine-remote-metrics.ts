/** What /metrics shows of the remote store and what lies before it (engine-metrics.ts). */
import type { Engine } from './engine.ts'

type Reading = readonly [name: string, description: string, read: () => number]

export function remoteCounters({ diskLevel, collector }: Engine): Reading[] {
  const readings: Reading[] = []
  if (diskLevel) {
    const { stats } = diskLevel
    readings.push(
      ['tidegate_disk_cache_hits', 'Blocks found in the disk level', () => stats.hits],
      ['tidegate_disk_cache_misses', 'Blocks that were in neither memory nor the disk level', () => stats.misses],
      ['tidegate_disk_cache_evictions', 'Blocks evicted from the disk level', () => stats.evictions],
      ['tidegate_disk_cache_writes', 'Blocks taken by the disk level', () => stats.writes],
      ['tidegate_disk_cache_dropped', 'Blocks that the disk level was too busy to take', () => stats.dropped],
      ['tidegate_disk_cache_bad_pages', 'Blocks dropped because a page failed its checksum', () => stats.badPages],
    )
  }
  if (collector) {
    readings.push(
      ['tidegate_remote_orphans', 'Objects removed that belonged to nothing', () => collector.stats.removedObjects],
      [
        'tidegate_remote_abandoned_uploads',
        'Uploads given up that nobody finished',
        () => collector.stats.abandonedUploads,
      ],
    )
  }
  return readings
}

export function remoteGauges({ diskLevel, names, collector, readHealth }: Engine): Reading[] {
  const readings: Reading[] = []
  if (diskLevel) {
    readings.push(['tidegate_disk_cache_held_bytes', 'Disk held by cached blocks', () => diskLevel.bytesHeld])
  }
  if (readHealth) {
    readings.push([
      'tidegate_remote_down',
      '1 while the remote store answers no reads',
      () => Number(readHealth.isDown),
    ])
  }
  if (collector) {
    readings.push([
      'tidegate_remote_missing_segments',
      'Persisted segments that were not there when last compared',
      () => collector.stats.missing,
    ])
  }
  if (names) {
    readings.push(
      [
        'tidegate_names_behind_seconds',
        'How long a change has been waiting for the remote store to hear of it',
        () => names.status().behindMs / 1000,
      ],
      [
        'tidegate_names_shipped_revision',
        'The remote store holds the namespace as of this revision',
        () => names.status().shippedThrough,
      ],
      ['tidegate_backups', 'Backups kept', () => names.status().backups],
    )
  }
  return readings
}
