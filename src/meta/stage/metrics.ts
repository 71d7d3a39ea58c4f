import { metrics } from '@opentelemetry/api'

/** Told once a group, so that a transaction pays nothing. */
export interface StageMetrics {
  groupCommitted(group: { transactions: number; rows: number; durationMs: number }): void
  groupFailed(group: { transactions: number }): void
}

/** Call it once the process has set its meter provider. */
export function stageMetrics(): StageMetrics {
  const meter = metrics.getMeter('tidegate')
  const transactions = meter.createCounter('tidegate.meta.transactions', {
    description: 'Metadata transactions that wrote something and became durable',
  })
  const undone = meter.createCounter('tidegate.meta.transactions_undone', {
    description: 'Metadata transactions undone because they could not be made durable',
  })
  const groups = meter.createCounter('tidegate.meta.group_commits', {
    description: 'Groups of metadata transactions made durable by one sync',
  })
  const rows = meter.createHistogram('tidegate.meta.group_rows', { description: 'Rows written by a group commit' })
  const duration = meter.createHistogram('tidegate.meta.group_commit_duration', {
    description: 'Time from closing a group of transactions until it is durable',
    unit: 'ms',
  })
  return {
    groupCommitted: (group) => {
      transactions.add(group.transactions)
      groups.add(1)
      rows.record(group.rows)
      duration.record(group.durationMs)
    },
    groupFailed: (group) => undone.add(group.transactions),
  }
}
