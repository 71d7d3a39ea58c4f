import { afterEach, beforeEach, expect, it } from 'vitest'
import { systemClock } from '../../../src/common/clock.ts'
import { createAttachmentsPlugin } from '../../../src/gateway/admin/attachments.ts'
import { createAccessControl } from '../../../src/store/policy.ts'
import { FakeAttachments, FAR, LEFT, RUNNING } from '../../support/fake-attachments.ts'
import { runAgainst, startTokenPort, type CommandOutput, type TokenPort } from '../../support/token-port.ts'

let port: TokenPort
let attachments: FakeAttachments

beforeEach(async () => {
  attachments = new FakeAttachments()
  const access = createAccessControl([], systemClock)
  port = await startTokenPort({ plugins: [createAttachmentsPlugin({ attachments, access, defaultAck: 'journal' })] })
})

afterEach(() => port.stop())

const tidegate = (...args: readonly string[]): Promise<CommandOutput> => runAgainst(port, ['bucket', ...args])

it('attaches with what is said, and its defaults', async () => {
  const policy = ['--conflicts', 'keep-both', '--ttl', '3s', '--listing-ttl', '2m', '--compare-interval', '0s']
  const made = await tidegate('attach', 'near', 's3://x/y', '--ack', 'persisted', ...policy)
  expect(made).toEqual({ code: 0, stdout: 'near is attached to s3://x/y\n', stderr: '' })
  await tidegate('attach', 'b2', 's3://z')
  expect(attachments.calls).toMatchObject([
    { conflicts: 'keep-both', ttlMs: 3000, listingTtlMs: 120_000, compareIntervalMs: 0, ack: 'persisted' },
    { conflicts: 'fail', ttlMs: 10_000, listingTtlMs: 60_000, compareIntervalMs: 3_600_000, ack: 'journal' },
  ])
  const json = await tidegate('attach', 'b3', 's3://z', '--json')
  expect(JSON.parse(json.stdout)).toMatchObject({ bucket: 'b3' })
})

it('says what the gateway says against it', async () => {
  const { code, stderr } = await tidegate('attach', 'near', 'http://x')
  expect([code, stderr]).toEqual([1, expect.stringContaining('InvalidArgument: the URL "http://x"')])
})

it('changes an attachment', async () => {
  const changed = await tidegate('change', 'far', '--ttl', '1s', '--conflicts', 'last-writer-wins')
  expect([changed.code, changed.stdout]).toEqual([0, expect.stringContaining('policy last-writer-wins')])
  expect(attachments.calls).toEqual([{ conflicts: 'last-writer-wins', ttlMs: 1000 }])
})

it('shows all of them in a table, and one at length', async () => {
  expect((await tidegate('status')).stdout).toBe(
    `BUCKET  STATE     WAITING  OLDEST  FAILING  CONFLICTS  URL
far     attached  3        1h2m    1        1          s3://there/photos
`,
  )
  expect((await tidegate('status', 'far')).stdout).toBe(`url:         s3://there/photos
state:       attached
conflicts:   1 to be decided; policy fail
waiting:     3 keys, the oldest 1h2m old
on the way:  1
failing:     1
counts for:  keys 10.0s, listings 1m0s
compared:    every 1h0m, last at 2026-11-22T06:39:18.000Z; 4000 keys, 2 had changed
not shown:   2 keys that have no ETag outside: raw, "raw\\u001b2"
events:      5 taken, 1 of others, 0 too many at once
import:      none since the gateway was started

RENAMED FROM  TO    KEYS        DONE
old/          new/  10 or more  4

KEY  TRIED  NEXT     CAUSE
a/b  4      in 2.5s  AccessDenied: the key was revoked
`)
  const json = await tidegate('status', '--json')
  expect(JSON.parse(json.stdout)).toMatchObject([{ bucket: 'far', writeBack: { dirty: 3 } }])
})

it.each([
  [{ problem: 'the store has no conditional PUT' }, 'the store has no conditional PUT'],
  [{ paused: true }, 'paused'],
  [{ writeBack: { ...FAR.writeBack, awayMs: 90_000 } }, 'nothing has got through for 1m30s'],
  [{ record: { ...FAR.record, phase: 'closing' } }, 'being detached'],
])('says that it is not well: %j', async (change, words) => {
  attachments.attached = [{ ...FAR, ...(change as object) }]
  expect((await tidegate('status')).stdout).toContain(words)
})

it('detaches: asks again until all is carried out', async () => {
  attachments.detaches.push({ detached: false, left: LEFT }, { detached: false, left: LEFT })
  expect(await tidegate('detach', 'far')).toEqual({ code: 0, stdout: 'far is detached\n', stderr: '' })
  expect(attachments.calls).toEqual(
    Array.from({ length: 3 }, () => ({ bucket: 'far', force: false, waitMsMax: 30_000 })),
  )
})

it('says what is left when the time is up, and ends with 1', async () => {
  attachments.detaches.push({ detached: false, left: LEFT })
  const late = await tidegate('detach', 'far', '--timeout', '0s')
  expect([late.code, late.stdout]).toEqual([
    1,
    `far stays attached: 2 changes and 1 conflicts are not in the external bucket

KEY        WHY
a/b        AccessDenied: the key was revoked
"c\\u001b"  conflict
`,
  ])
  attachments.detaches.push({ detached: false, left: { ...LEFT, paused: true } })
  const paused = await tidegate('detach', 'far')
  expect([paused.code, paused.stdout]).toEqual([1, expect.stringContaining('carrying out is paused')])
})

it('does not wait for conflicts, which no time ends', async () => {
  attachments.detaches.push({ detached: false, left: { ...LEFT, keys: 0 } })
  expect((await tidegate('detach', 'far')).code).toBe(1)
  expect(attachments.calls).toHaveLength(1)
})

it('forces only after the time is up, and says what is lost', async () => {
  attachments.detaches.push({ detached: false, left: LEFT })
  const { code, stdout } = await tidegate('detach', 'far', '--force', '--timeout', '0s')
  expect([code, stdout]).toEqual([
    0,
    expect.stringMatching(/^far is detached;.*\nlost, .*2 changes and 1 conflicts\n\nKEY/),
  ])
  expect(attachments.calls).toMatchObject([{ force: false }, { force: true, waitMsMax: 0 }])
})

it('imports, and shows lines where there is no terminal', async () => {
  attachments.imports.push({ ...RUNNING, keys: 9000, state: 'done', share: 1 })
  const { code, stdout, stderr } = await tidegate('import', 'far')
  expect([code, stdout]).toEqual([0, 'done; 9000 keys listed, 4000 new or changed, 2500 keys/s\n'])
  expect(stderr).toBe('about 25 %, 5000 keys, 2500 keys/s, 6 ranges left\n')
})

it('starts an import and does not wait, stops it, and ends with 1 when it failed', async () => {
  expect((await tidegate('import', 'far', '--detach', '--again')).stdout).toMatch(/^running; /)
  expect(attachments.calls).toEqual([{ again: true }])
  expect((await tidegate('import', 'far', '--stop')).stdout).toMatch(/^stopped; /)
  attachments.imports.push({ ...RUNNING, state: 'failed', problem: 'the key was revoked' })
  const failed = await tidegate('import', 'far', '--json')
  expect([failed.code, JSON.parse(failed.stdout), failed.stderr]).toMatchObject([
    1,
    { state: 'failed', problem: 'the key was revoked' },
    '',
  ])
})

it('lists conflicts page by page', async () => {
  const [first] = attachments.conflictViews
  attachments.conflictViews = ['a', 'b', 'c\n'].map((key) => ({ ...(first as never as object), key }) as never)
  expect((await tidegate('conflicts', 'far')).stdout).toBe(`KEY  SINCE                     LIES THERE   LAY THERE
a    2026-11-22T06:39:18.000Z  2.0 KiB, e1  nothing
b    2026-11-22T06:39:18.000Z  2.0 KiB, e1  nothing
"c\\n"  2026-11-22T06:39:18.000Z  2.0 KiB, e1  nothing
`)
  const json = await tidegate('conflicts', 'far', '--json')
  const keys = json.stdout
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { key: string }).key)
  expect(keys).toEqual(['a', 'b', 'c\n'])
  attachments.conflictViews = []
  expect((await tidegate('conflicts', 'far')).stdout).toBe('no conflicts\n')
})

it('decides conflicts', async () => {
  expect((await tidegate('resolve', 'far', 'a/b', '--keep', 'both')).stdout).toBe(
    'theirs is a/b, ours is a/b.conflict-x\n',
  )
  expect((await tidegate('resolve', 'far', 'a/b', '--keep', 'ours')).stdout).toBe('a/b is ours\n')
  const none = await tidegate('resolve', 'far', 'x', '--keep', 'ours')
  expect([none.code, none.stderr]).toEqual([1, expect.stringContaining('no conflict at "x"')])
})

it.each([
  [[], 'bucket wants attach, change, conflicts'],
  [['rename'], 'bucket knows no rename'],
  [['attach', 'near'], 'the URL of the external bucket is missing'],
  [['attach', 'near', 's3://x', '--conflicts', 'mine'], '--conflicts "mine" is none of fail'],
  [['attach', 'near', 's3://x', '--ttl', 'soon'], '--ttl "soon" is not a time'],
  [['attach', 'near', 's3://x', '--ack', 'replicated'], '--ack "replicated" is none of'],
  [['change', 'far'], 'wants something to change'],
  [['change', 'far', '--ack', 'journal'], '--ack is decided'],
  [['resolve', 'far', 'a/b'], '--keep ours|theirs|both'],
  [['import', 'far', '--stop', '--again'], '--stop goes with no other'],
  [['detach', 'far', 'x'], 'one argument too many'],
])('refuses %j', async (args, words) => {
  const { code, stderr } = await tidegate(...args)
  expect([code, stderr]).toEqual([2, expect.stringContaining(words)])
})

it('has help', async () => {
  const { code, stdout } = await runAgainst(port, ['help', 'bucket'])
  expect([code, stdout]).toEqual([0, expect.stringContaining('--listing-ttl TIME')])
})
