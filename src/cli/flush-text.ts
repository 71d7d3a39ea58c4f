/** What the admin API says of write-behind (gateway/admin/flush.ts), for people. */
import { table } from './table.ts'

export const FLUSH_PATH = '/admin/v1/flush'

export interface ShownItem {
  readonly segment: string
  readonly bucket: string | null
  readonly bytes: number
  readonly ageMs: number
  readonly action: string
  readonly attempts: number
  readonly cause: { readonly code: string; readonly message: string } | null
  readonly nextTryInMs: number
}

export interface ShownFlush {
  readonly paused: boolean
  readonly awayMs: number | null
  readonly items: number
  readonly bytes: number
  readonly oldestAgeMs: number | null
  readonly uploads: readonly { readonly segment: string; readonly bytes: number; readonly forMs: number }[]
  readonly failingItems: number
  readonly failing: readonly ShownItem[]
  readonly bytesPerSecond: number | null
  readonly pressure: {
    readonly backlogBytes: number
    readonly backlogBytesMax: number
    readonly fill: number
    readonly waiting: number
    readonly slowed: number
    readonly refused: number
  }
  readonly names: ShownNames | null
}

interface ShownNames {
  readonly shippedRevision: number | null
  readonly behindMs: number
  readonly heldUpBy: readonly string[]
  readonly backups: number
  readonly lastError: string | null
  readonly holder: number | null
}

export function statusText(shown: ShownFlush): string {
  const { paused, awayMs, items, bytes, oldestAgeMs, uploads, failingItems, failing, bytesPerSecond, pressure } = shown
  const answers = awayMs === null ? 'running' : `nothing has got through to the remote store for ${timeText(awayMs)}`
  const state = paused ? 'paused' : answers
  const oldest = oldestAgeMs === null ? '' : `, the oldest ${timeText(oldestAgeMs)} old`
  const rate = bytesPerSecond === null ? 'not known yet' : `${bytesText(bytesPerSecond)}/s`
  const lines = [
    ['state:', state],
    ['waiting:', `${items} segments with ${bytesText(bytes)}${oldest}`],
    ['backlog:', `${bytesText(pressure.backlogBytes)} of ${bytesText(pressure.backlogBytesMax)}`],
    ['carries:', rate],
    ['writers:', writersText(pressure)],
    ['on the way:', `${uploads.length}`],
    ['failing:', `${failingItems}`],
    ...namesLines(shown.names),
  ]
  const parts = [table(lines)]
  if (uploads.length > 0) parts.push(uploadsText(uploads))
  if (failing.length > 0) parts.push(itemsText(failing))
  return parts.join('\n')
}

/** Of the state that a restore would find now. */
function namesLines(names: ShownNames | null): [string, string][] {
  if (names === null) return []
  const { shippedRevision, behindMs, heldUpBy, backups, lastError, holder } = names
  const age = behindMs === 0 ? 'up to date' : `${timeText(behindMs)} behind`
  const wait = heldUpBy.length === 0 ? '' : `, waiting for ${heldUpBy.length} segments (${heldUpBy[0]})`
  const failure = lastError === null ? '' : `; ${lastError}`
  const state = shippedRevision === null ? 'not in the remote store yet' : age
  return [
    ['names:', `${state}${wait}${failure}`],
    ...(holder === null ? [] : [['shipped by:', `node ${holder}`] satisfies [string, string]]),
    ['backups:', String(backups)],
  ]
}

function uploadsText(uploads: ShownFlush['uploads']): string {
  return table([
    ['ON THE WAY', 'SIZE', 'FOR'],
    ...uploads.map(({ segment, bytes, forMs }) => [segment, bytesText(bytes), timeText(forMs)]),
  ])
}

function writersText({ fill, waiting, slowed, refused }: ShownFlush['pressure']): string {
  const now = fill >= 1 ? 'stopped' : fill > 0 ? 'slowed' : 'not slowed'
  return `${now}, ${waiting} waiting; since the start ${slowed} slowed, ${refused} refused`
}

const ITEM_COLUMNS: Readonly<Record<string, (item: ShownItem) => string>> = {
  SEGMENT: ({ segment }) => segment,
  BUCKET: ({ bucket }) => bucket ?? '(several)',
  SIZE: ({ bytes }) => bytesText(bytes),
  AGE: ({ ageMs }) => timeText(ageMs),
  TRIED: ({ attempts }) => String(attempts),
  NEXT: ({ cause, nextTryInMs }) => (cause === null ? 'in turn' : `in ${timeText(nextTryInMs)}`),
  CAUSE: ({ cause }) => (cause === null ? '' : `${cause.code}: ${cause.message}`),
}

export function itemsText(items: readonly ShownItem[]): string {
  return table([
    Object.keys(ITEM_COLUMNS),
    ...items.map((item) => Object.values(ITEM_COLUMNS).map((cell) => cell(item))),
  ])
}

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const

export function bytesText(bytes: number): string {
  const unit = Math.min(BYTE_UNITS.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)))
  const value = bytes / 1024 ** unit
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${BYTE_UNITS[unit]}`
}

export function timeText(ms: number): string {
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)}s`
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)}m${Math.floor((ms % 60_000) / 1000)}s`
  return `${Math.floor(ms / 3_600_000)}h${Math.floor((ms % 3_600_000) / 60_000)}m`
}
