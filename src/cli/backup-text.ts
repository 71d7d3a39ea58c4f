/** Backups in words and tables (gateway/admin/backups.ts). */
import { table } from './table.ts'

export interface ShownBackup {
  readonly id: string
  readonly created: string
  readonly state: string
  readonly revision: number
  readonly objects: number
  readonly bytes: number
  readonly ancestral: boolean
}

export interface ShownNames {
  readonly shippedThrough: number
  readonly durableRevision: number
  readonly behindMs: number
  readonly state: string | null
  readonly heldUpBy: readonly string[]
  readonly unreadableBackups: readonly string[]
  readonly nextBackup: string | null
  readonly lastError: string | null
}

const COLUMNS: Readonly<Record<string, (backup: ShownBackup) => string>> = {
  ID: ({ id, ancestral }) => (ancestral ? `${id} (before the restore)` : id),
  STATE: ({ state }) => state,
  REVISION: ({ revision }) => String(revision),
  OBJECTS: ({ objects }) => String(objects),
  BYTES: ({ bytes }) => String(bytes),
}

export function backupText(made: ShownBackup & { readonly complete: boolean; readonly names: ShownNames }): string {
  const { id, state, revision, complete, names } = made
  const lacks = complete ? 'with all that was written before' : `without what was written since: ${whyBehind(names)}`
  return `${id}: the namespace of ${state}, revision ${revision}, ${lacks}\n`
}

export function listText({
  backups,
  names,
}: {
  readonly backups: readonly ShownBackup[]
  readonly names: ShownNames
}): string {
  const rows = [Object.keys(COLUMNS), ...backups.map((backup) => Object.values(COLUMNS).map((cell) => cell(backup)))]
  const lines = [table(rows), '\n']
  if (names.state === null) lines.push('The remote store holds no state of the namespace yet.\n')
  else lines.push(`The remote store holds the namespace of ${names.state}, revision ${names.shippedThrough}.\n`)
  if (names.behindMs > 0) lines.push(`Behind for ${Math.ceil(names.behindMs / 1000)} s: ${whyBehind(names)}.\n`)
  if (names.nextBackup !== null) lines.push(`Next backup: ${names.nextBackup}.\n`)
  for (const id of names.unreadableBackups) {
    lines.push(`Backup ${id} cannot be read: nothing is freed in the remote store until it is dropped.\n`)
  }
  return lines.join('')
}

function whyBehind({ lastError, heldUpBy }: ShownNames): string {
  if (lastError !== null) return lastError
  return heldUpBy.length > 0 ? `segment ${heldUpBy[0]} has not arrived` : 'it is on its way'
}
