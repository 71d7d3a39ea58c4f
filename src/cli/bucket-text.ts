/** What the admin API says of attached buckets (gateway/admin/attachments.ts), for people. */
import { timeText } from './flush-text.ts'
import { table } from './table.ts'

export const ATTACHMENTS_PATH = '/admin/v1/attachments'

export function attachmentPath(bucket: string, below = ''): string {
  return `${ATTACHMENTS_PATH}/${encodeURIComponent(bucket)}${below}`
}

export interface ShownAttachment {
  readonly bucket: string
  readonly url: string
  readonly conflicts: string
  readonly ttlMs: number
  readonly listingTtlMs: number
  readonly compareIntervalMs: number
  readonly attached: string
  readonly state: 'attached' | 'detaching'
  readonly capabilities: object | null
  readonly problem: string | null
  readonly paused: boolean
  readonly writeBack: ShownWriteBack
  readonly import: ShownImport | null
  readonly compare: {
    readonly keys: number
    readonly changed: number
    readonly completed: string | null
    readonly lastError: string | null
  } | null
  readonly events: { readonly taken: number; readonly ignored: number; readonly overflowed: number }
  readonly unheld: { readonly keys: number; readonly isAtLeast: boolean; readonly listed: readonly string[] }
}

interface ShownWriteBack {
  readonly dirty: number
  readonly dirtyIsAtLeast: boolean
  readonly conflicts: number
  readonly oldestAgeMs: number | null
  readonly underWay: number
  readonly failing: number
  readonly awayMs: number | null
  readonly failed: readonly ShownFailure[]
  readonly renames: readonly {
    readonly from: string
    readonly to: string
    readonly keys: number
    readonly keysIsAtLeast: boolean
    readonly carriedOut: number
  }[]
}

interface ShownFailure {
  readonly key: string
  readonly attempts: number
  readonly cause: { readonly code: string; readonly message: string }
  readonly nextTryInMs: number
}

export interface ShownImport {
  readonly state: 'running' | 'done' | 'failed' | 'stopped'
  readonly keys: number
  readonly changed: number
  readonly keysPerSecond: number
  readonly rangesLeft: number
  readonly share: number
  readonly problem: string | null
}

const COLUMNS: Readonly<Record<string, (attachment: ShownAttachment) => string>> = {
  BUCKET: ({ bucket }) => bucket,
  STATE: (attachment) => stateText(attachment),
  WAITING: ({ writeBack }) => countText(writeBack.dirty, writeBack.dirtyIsAtLeast),
  OLDEST: ({ writeBack: { oldestAgeMs } }) => (oldestAgeMs === null ? '' : timeText(oldestAgeMs)),
  FAILING: ({ writeBack }) => String(writeBack.failing),
  CONFLICTS: ({ writeBack }) => String(writeBack.conflicts),
  URL: ({ url }) => url,
}

export function attachmentsText(attachments: readonly ShownAttachment[]): string {
  const cells = attachments.map((attachment) => Object.values(COLUMNS).map((cell) => cell(attachment)))
  return table([Object.keys(COLUMNS), ...cells])
}

export function attachmentText(shown: ShownAttachment): string {
  const { url, conflicts, ttlMs, listingTtlMs, compareIntervalMs, writeBack, events } = shown
  const { dirty, dirtyIsAtLeast, oldestAgeMs, underWay, failing, failed, renames } = writeBack
  const oldest = oldestAgeMs === null ? '' : `, the oldest ${timeText(oldestAgeMs)} old`
  const lines = [
    ['url:', url],
    ['state:', stateText(shown)],
    ['conflicts:', `${writeBack.conflicts} to be decided; policy ${conflicts}`],
    ['waiting:', `${countText(dirty, dirtyIsAtLeast)} keys${oldest}`],
    ['on the way:', String(underWay)],
    ['failing:', String(failing)],
    ['counts for:', `keys ${timeText(ttlMs)}, listings ${timeText(listingTtlMs)}`],
    ['compared:', comparedText(compareIntervalMs, shown.compare)],
    ['not shown:', unheldText(shown.unheld)],
    ['events:', `${events.taken} taken, ${events.ignored} of others, ${events.overflowed} too many at once`],
    ['import:', shown.import === null ? 'none since the gateway was started' : importText(shown.import)],
  ]
  const parts = [table(lines)]
  if (renames.length > 0) parts.push(renamesText(renames))
  if (failed.length > 0) parts.push(failuresText(failed))
  return parts.join('\n')
}

function stateText({ state, problem, paused, writeBack: { awayMs } }: ShownAttachment): string {
  if (state === 'detaching') return 'being detached'
  if (problem !== null) return problem
  if (paused) return 'paused'
  return awayMs === null ? 'attached' : `nothing has got through for ${timeText(awayMs)}`
}

const SHOWN_UNHELD_MAX = 3

/** Objects without an ETag: nothing could be changed on condition there. */
function unheldText({ keys, isAtLeast, listed }: ShownAttachment['unheld']): string {
  if (keys === 0) return '0 keys'
  const some = listed.slice(0, SHOWN_UNHELD_MAX).map(keyText).join(', ')
  const more = isAtLeast || keys > SHOWN_UNHELD_MAX ? ', ...' : ''
  return `${countText(keys, isAtLeast)} keys that have no ETag outside: ${some}${more}`
}

function comparedText(intervalMs: number, compare: ShownAttachment['compare']): string {
  if (intervalMs === 0) return 'never'
  const every = `every ${timeText(intervalMs)}`
  if (compare === null) return every
  const { keys, changed, completed, lastError } = compare
  const last = completed === null ? '' : `, last at ${completed}`
  return `${every}${last}; ${keys} keys, ${changed} had changed${lastError === null ? '' : `; ${lastError}`}`
}

export function importText({ state, keys, changed, keysPerSecond, problem }: ShownImport): string {
  const why = problem === null ? '' : `: ${problem}`
  return `${state}${why}; ${keys} keys listed, ${changed} new or changed, ${keysPerSecond} keys/s`
}

function renamesText(renames: ShownWriteBack['renames']): string {
  return table([
    ['RENAMED FROM', 'TO', 'KEYS', 'DONE'],
    ...renames.map(({ from, to, keys, keysIsAtLeast, carriedOut }) => [
      from,
      to,
      countText(keys, keysIsAtLeast),
      String(carriedOut),
    ]),
  ])
}

function failuresText(failed: readonly ShownFailure[]): string {
  return table([
    ['KEY', 'TRIED', 'NEXT', 'CAUSE'],
    ...failed.map(({ key, attempts, nextTryInMs, cause }) => [
      keyText(key),
      String(attempts),
      nextTryInMs === 0 ? 'in turn' : `in ${timeText(nextTryInMs)}`,
      `${cause.code}: ${cause.message}`,
    ]),
  ])
}

export function countText(count: number, isAtLeast: boolean): string {
  return isAtLeast ? `${count} or more` : String(count)
}

/** Keys may hold anything, and a terminal obeys some of it. */
export function keyText(key: string): string {
  return /^[^\p{C}]*$/u.test(key) ? key : JSON.stringify(key).replaceAll(/[^\P{C}]/gu, escaped)
}

function escaped(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`
}
