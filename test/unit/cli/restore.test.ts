/** What `tidegate restore` says, and lists. */
import { expect, test } from 'vitest'
import { holdersText, reportText } from '../../../src/cli/restore-text.ts'
import type { RestoreReport } from '../../../src/restore.ts'

const [FIRST, SECOND, THIRD] = ['1', '2', '3'].map((digit) => digit.repeat(32)) as [string, string, string]

const REPORT: RestoreReport = {
  data: '/data',
  remote: 'memory:',
  backup: undefined,
  holder: FIRST,
  state: { revision: 5, capturedMs: 0, lineage: FIRST },
  buckets: 1,
  objects: 2,
  bytes: 3,
  segments: 4,
  records: 0,
  lost: [],
  unusable: [],
  unnamedSegments: 0,
  footers: undefined,
  damaged: undefined,
}

test('holders are listed with what they began with, and which one has the store', () => {
  const none = { isCurrent: false, origin: undefined, revision: undefined, storedMs: undefined, records: 0 }
  const origin = (
    from: string,
    backup?: string,
  ): { holder: string; from: string; backup: string | undefined; sinceMs: number } => ({
    holder: SECOND,
    from,
    backup,
    sinceMs: 1,
  })
  const text = holdersText(
    [
      { ...none, holder: THIRD, isCurrent: true, origin: origin(SECOND), records: 1, storedMs: 1000 },
      { ...none, holder: SECOND, origin: origin(FIRST, '20261122T063918Z-3fa9') },
      { ...none, holder: FIRST, revision: 20, storedMs: 1000 },
    ],
    61_000,
  )
  const lines = text.trimEnd().split('\n')
  expect(lines).toHaveLength(4)
  expect(lines[1]).toMatch(new RegExp(`^${THIRD} +\\S+.* +records only +holder ${SECOND}, holds the store$`))
  expect(lines[2]).toMatch(new RegExp(`^${SECOND} +none +backup 20261122T063918Z-3fa9$`))
  expect(lines[3]).toMatch(new RegExp(`^${FIRST} +\\S+.* +20`))
})

test('a report says whose state it is, and after a rebuild what cannot be known, refused writes among it', () => {
  expect(reportText(REPORT, 1000)).toContain(`the newest state of holder ${FIRST}, of revision 5`)
  const counts = {
    segments: 0,
    unreadable: [],
    objects: 1,
    fileWrites: 0,
    older: 0,
    dropped: 0,
    unlabelled: 0,
    uploads: [],
  }
  const text = reportText({ ...REPORT, holder: undefined, footers: counts }, 1000)
  expect(text).toContain('the newest state, of revision 5')
  expect(text.replaceAll('\n', ' ')).toContain('write was refused in the end because its condition did not hold')
})
