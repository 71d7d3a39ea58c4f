/** What a move of metadata has done, for people. */
import type { MigrateReport } from '../migrate.ts'
import { bytesText } from './flush-text.ts'
import { table } from './table.ts'

const MS = 1000

export function migrateText({ to, data, prefix, moved, keptIn, durationMs }: MigrateReport, place: string): string {
  const [from, into] = to === 'etcd' ? [data, `etcd, below ${prefix}`] : [`etcd, below ${prefix}`, data]
  const lines = [
    ['moved:', moved ? `${moved.source.rows} rows with ${bytesText(moved.source.bytes)}` : 'by an earlier run'],
    ['from:', from],
    ['into:', into],
  ]
  if (moved) {
    if (moved.found > 0) lines.push(['there already:', `${moved.found} rows, from an earlier run`])
    lines.push(['source:', `${moved.source.rows} rows, ${moved.source.bytes} bytes, checksum ${moved.source.checksum}`])
    lines.push(['target:', `${moved.target.rows} rows, ${moved.target.bytes} bytes, checksum ${moved.target.checksum}`])
  }
  if (keptIn !== undefined) lines.push(['put aside:', `${keptIn}: as it was; nobody uses it any more`])
  lines.push(['took:', `${(durationMs / MS).toFixed(1)} s`])
  return `${table(lines)}\n${nextText(to, place)}`
}

function nextText(to: MigrateReport['to'], place: string): string {
  if (to === 'data')
    return "Start it without --meta and without --cluster from now on. What lies in etcd is nobody's, and may be deleted.\n"
  return place === 'cluster' ? 'Start it with --cluster from now on.\n' : `Start it with --meta ${place} from now on.\n`
}
