/** What a restore or a rebuild did, for people. */
import type { FoundBackup, FoundHolder } from '../persist/names/read-states.ts'
import type { RestoreReport } from '../restore.ts'
import { bytesText, timeText } from './flush-text.ts'
import { table } from './table.ts'
import type { Output } from './command.ts'

const SHOWN_MAX = 20

export function reportText(report: RestoreReport, nowMs: number): string {
  const { state, backup, holder, records, lost, unusable, footers, damaged, unnamedSegments } = report
  const asOf = state && new Date(state.capturedMs).toISOString()
  const age = state ? `, ${timeText(Math.max(0, nowMs - state.capturedMs))} old` : ''
  const from = backup === undefined ? `the newest state${holder ? ` of holder ${holder}` : ''}` : `backup ${backup}`
  const lines = [
    ['restored:', `${report.objects} objects with ${bytesText(report.bytes)} in ${report.buckets} buckets`],
    ['into:', report.data],
    ['from:', `${report.remote}, which ${report.data} holds from now on`],
    [
      'state:',
      state ? `${from}, of revision ${state.revision}, captured ${asOf}${age}` : 'none: there were no usable names',
    ],
    ['newer:', `${records} objects that were acknowledged as persisted since`],
    ['segments:', `${report.segments} with bytes`],
  ]
  if (footers) {
    const { objects, fileWrites, older, dropped, unlabelled } = footers
    lines.push(
      ['by footers:', `${objects} objects and ${fileWrites} writes to files that no names told of`],
      [
        'left out:',
        `${older} older than what is there, ${dropped} deleted before, ${unlabelled} without a usable label`,
      ],
    )
  }
  if (unnamedSegments > 0) lines.push(['unnamed:', `${unnamedSegments} segments that nothing restored refers to`])
  const parts = [table(lines)]
  parts.push(listText('Lost, since bytes of them are not in the store:', lost.map(addressText)))
  parts.push(listText('Done without, under names/:', unusable))
  if (footers) {
    const uploads = footers.uploads.map(
      ({ bucket, key, uploadId, parts: count }) => `${bucket}/${key}  ${uploadId}  ${count} parts`,
    )
    parts.push(listText('Uploads in progress, or completed since, which footers do not tell:', uploads))
    parts.push(listText('Segments without a footer that checks:', footers.unreadable))
    parts.push(UNKNOWABLE)
  }
  if (damaged) {
    const found = damaged.map(({ segment, problem }) => `${segment}  ${problem}`)
    parts.push(found.length === 0 ? '\nEvery byte was read and is what was written.\n' : listText('Damaged:', found))
  }
  return parts.join('')
}

const UNKNOWABLE = `
Footers say what bodies were meant for when they came. What came after the state above and is not known from them: deletes, renames,
copies, tags, how uploads were completed, how files were cut, and objects so small that they lay in the metadata. Nor is it whether a
write was refused in the end because its condition did not hold: its body may be what a key has now.
`

function addressText({ bucket, key }: { readonly bucket: string; readonly key: string }): string {
  return `${bucket}/${key}`
}

function listText(title: string, items: readonly string[]): string {
  if (items.length === 0) return ''
  const more = items.length > SHOWN_MAX ? [`... and ${items.length - SHOWN_MAX} more (--json lists them)`] : []
  return `\n${[title, ...[...items.slice(0, SHOWN_MAX), ...more].map((item) => `  ${item}`)].join('\n')}\n`
}

export function backupsText(backups: readonly FoundBackup[], nowMs: number): string {
  if (backups.length === 0) return 'There are no backups; without --backup the newest state is restored.\n'
  return table([
    ['BACKUP', 'AGE', 'REVISION', 'NAMES'],
    ...backups.map(({ id, manifest, problem }) =>
      manifest
        ? [
            id,
            timeText(Math.max(0, nowMs - manifest.stateMs)),
            `${manifest.revision}`,
            bytesText(manifest.objects.reduce((sum, { bytes }) => sum + bytes, 0)),
          ]
        : [id, '', '', problem ?? 'unusable'],
    ),
  ])
}

export function holdersText(holders: readonly FoundHolder[], nowMs: number): string {
  if (holders.length === 0) return 'There are no names.\n'
  return table([
    ['HOLDER', 'AGE', 'REVISION', 'RESTORED FROM'],
    ...holders.map(({ holder, isCurrent, origin, revision, storedMs, records }) => {
      const from = origin && (origin.backup === undefined ? `holder ${origin.from}` : `backup ${origin.backup}`)
      const age = storedMs === undefined ? '' : timeText(Math.max(0, nowMs - storedMs))
      const state = revision === undefined ? (records > 0 ? 'records only' : 'none') : `${revision}`
      return [holder, age, state, `${from ?? ''}${isCurrent ? `${from ? ', ' : ''}holds the store` : ''}`]
    }),
  ])
}

interface ShownProgress {
  readonly doing: string
  readonly done: number
  /** Undefined while it is not known. */
  readonly total: number | undefined
}

/** One line that is written over again and again; for terminals only. */
export function progressLine(output: Output, everyMs: number): (progress: ShownProgress) => void {
  if (output.isTTY !== true) return () => undefined
  let [shownMs, doing] = [0, '']
  return (progress) => {
    const nowMs = performance.now()
    if (progress.doing === doing && nowMs - shownMs < everyMs) return
    ;[shownMs, doing] = [nowMs, progress.doing]
    const { done, total } = progress
    const share = total === undefined || total === 0 ? `${done || ''}` : `${Math.floor((100 * done) / total)} %`
    output.write(`\r\u001B[K${doing} ${share}`)
  }
}

export function endProgress(output: Output): void {
  if (output.isTTY === true) output.write('\r\u001B[K')
}
