/** What otherwise happens now and then happens all the time, so that crashes fall into it. */
import type { EngineParts } from '../../../src/engine-parts.ts'

const NAMES_INTERVAL_MS = 200
const BACKUP_INTERVAL_MS = 5_000
const BACKUPS_KEPT = 2
const BASED_ON_BYTES_MIN = 1
const COLLECT_INTERVAL_MS = 1_000

export function inHaste(parts: EngineParts): EngineParts {
  const { remote } = parts
  if (!remote) return parts
  const names = {
    ...remote.names,
    intervalMs: NAMES_INTERVAL_MS,
    backupIntervalMs: BACKUP_INTERVAL_MS,
    backupsKept: BACKUPS_KEPT,
    basedOnBytesMin: BASED_ON_BYTES_MIN,
  }
  return { ...parts, remote: { ...remote, names, collectIntervalMs: COLLECT_INTERVAL_MS } }
}
