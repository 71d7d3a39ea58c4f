import { afterEach, beforeEach, expect, it } from 'vitest'
import { backupText, listText, type ShownNames } from '../../../src/cli/backup-text.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { createBackupsPlugin } from '../../../src/gateway/admin/backups.ts'
import { createAccessControl } from '../../../src/store/policy.ts'
import { FakeBackups, OLD_BACKUP } from '../../support/fake-backups.ts'
import { runAgainst, startTokenPort, type CommandOutput, type TokenPort } from '../../support/token-port.ts'

let port: TokenPort
let names: FakeBackups

beforeEach(async () => {
  names = new FakeBackups()
  const access = createAccessControl([], systemClock)
  port = await startTokenPort({ plugins: [createBackupsPlugin({ names, access, monotonicMs: () => 0 })] })
})

afterEach(() => port.stop())

const tidegate = (...args: readonly string[]): Promise<CommandOutput> => runAgainst(port, ['backup', ...args])

it('makes one and says of when it is', async () => {
  expect(await tidegate()).toEqual({
    code: 0,
    stdout:
      '20261123T063918Z-0001: the namespace of 2026-11-22T06:39:17.000Z, revision 1234, with all that was written before\n',
    stderr: '',
  })
  expect(names.calls).toEqual([{ deadlineMs: 20_000 }])
})

it('ends with 1 when not all arrived in time, and says what is missing and why', async () => {
  names.complete = false
  const { code, stdout } = await tidegate('--wait', '2s')
  expect([code, stdout]).toEqual([
    1,
    expect.stringMatching(/revision 1234, without what was written since: segment 0{32} has not arrived\n$/),
  ])
  const json = await tidegate('--wait', '2s', '--json')
  expect([json.code, JSON.parse(json.stdout)]).toMatchObject([1, { complete: false, revision: 1234 }])
  expect(names.calls).toEqual([{ deadlineMs: 2000 }, { deadlineMs: 2000 }])
})

it('lists them for people', async () => {
  await tidegate()
  expect((await tidegate('list')).stdout)
    .toBe(`ID                                          STATE                     REVISION  OBJECTS  BYTES
20261122T063918Z-3fa9 (before the restore)  2026-11-22T06:39:17.000Z  1234      5        70000
20261123T063918Z-0001                       2026-11-22T06:39:17.000Z  1234      5        70000

The remote store holds the namespace of 2026-11-22T06:39:18.000Z, revision 2000.
Behind for 2 s: segment 00000000000000000000000000000000 has not arrived.
Next backup: 2026-11-23T06:39:18.000Z.
`)
})

it('lists them for programs', async () => {
  const { code, stdout } = await tidegate('list', '--json')
  expect([code, JSON.parse(stdout)]).toMatchObject([0, { backups: [{ id: OLD_BACKUP.id }], names: { deltas: 3 } }])
})

it('drops one', async () => {
  expect(await tidegate('drop', OLD_BACKUP.id)).toEqual({ code: 0, stdout: '', stderr: '' })
  const again = await tidegate('drop', OLD_BACKUP.id, '--json')
  expect([again.code, again.stdout, again.stderr]).toEqual([
    1,
    '',
    expect.stringContaining(`no backup ${OLD_BACKUP.id}`),
  ])
})

it('sends an id as one, whatever is in it', async () => {
  await tidegate('drop', '../tokens/a?b')
  expect(names.calls).toEqual([{ drop: '../tokens/a?b' }])
})

it.each([
  [['make'], 'backup knows no make'],
  [['toString'], 'backup knows no toString'],
  [['drop'], 'the id of a backup'],
  [['drop', 'a', 'b'], 'one argument too many'],
  [['list', 'all'], 'one argument too many'],
  [['--wait', 'soon'], '--wait "soon" is not a time'],
  [['--wait', '51s'], '--wait "51s" is not in whole seconds up to 50s'],
  [['--wait', '100ms'], '--wait "100ms" is not in whole seconds up to 50s'],
])('refuses %j', async (args, words) => {
  const { code, stderr } = await tidegate(...args)
  expect([code, stderr]).toEqual([2, expect.stringContaining(words)])
  expect(names.calls).toEqual([])
})

const QUIET: ShownNames = {
  shippedThrough: 10,
  durableRevision: 10,
  behindMs: 0,
  state: '2026-11-22T06:39:18.000Z',
  heldUpBy: [],
  unreadableBackups: [],
  nextBackup: null,
  lastError: null,
}

it('what failed comes before what is waited for', () => {
  const made = {
    id: 'id',
    created: 'later',
    state: 'then',
    revision: 7,
    objects: 1,
    bytes: 1,
    ancestral: false,
    complete: false,
  }
  const why = (more: Partial<ShownNames>): string | undefined =>
    /since: (.*)\n/.exec(backupText({ ...made, names: { ...QUIET, ...more } }))?.[1]
  expect(why({})).toBe('it is on its way')
  expect(why({ heldUpBy: ['1', '2'] })).toBe('segment 1 has not arrived')
  expect(why({ heldUpBy: ['1'], lastError: 'AccessDenied' })).toBe('AccessDenied')
})

it('an empty list says what the store holds, and which backups cannot be read', () => {
  expect(listText({ backups: [], names: QUIET })).toBe(
    'ID  STATE  REVISION  OBJECTS  BYTES\n\nThe remote store holds the namespace of 2026-11-22T06:39:18.000Z, revision 10.\n',
  )
  const text = listText({ backups: [], names: { ...QUIET, state: null, unreadableBackups: ['one'] } })
  expect(text).toContain('holds no state of the namespace yet.\n')
  expect(text).toContain('Backup one cannot be read: nothing is freed in the remote store until it is dropped.\n')
})
