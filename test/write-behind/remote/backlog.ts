/** What a gateway says of the bytes that the remote store does not hold yet. */
import { readMetrics } from '../../support/gateway-suite.ts'
import type { GatewayProcess } from '../../support/gateway-process.ts'

export interface Backlog {
  readonly bytes: number
  readonly oldestMs: number
}

export async function readBacklog(gateway: GatewayProcess): Promise<Backlog> {
  const metrics = await readMetrics(gateway)
  const bytes = metrics.get('tidegate_backlog_bytes')
  const oldestSeconds = metrics.get('tidegate_backlog_oldest_age_seconds')
  if (bytes === undefined || oldestSeconds === undefined) throw new Error('the gateway says nothing of its backlog')
  return { bytes, oldestMs: oldestSeconds * 1000 }
}
