import { afterEach, beforeEach, expect, it } from 'vitest'
import { systemClock } from '../../../src/common/clock.ts'
import { createFlushPlugin } from '../../../src/gateway/admin/flush.ts'
import { createAccessControl } from '../../../src/store/policy.ts'
import { FakeFlush, FAILING } from '../../support/fake-flush.ts'
import { runAgainst, startTokenPort, type CommandOutput, type TokenPort } from '../../support/token-port.ts'

let port: TokenPort
let flush: FakeFlush

beforeEach(async () => {
  flush = new FakeFlush()
  const access = createAccessControl([], systemClock)
  port = await startTokenPort({ plugins: [createFlushPlugin({ flush, access })] })
})

afterEach(() => port.stop())

const tidegate = (...args: readonly string[]): Promise<CommandOutput> => runAgainst(port, ['flush', ...args])

it('shows the state for people', async () => {
  expect((await tidegate('status')).stdout).toBe(`state:       running
waiting:     3 segments with 70.0 MiB, the oldest 1h2m old
backlog:     80.0 MiB of 10.0 GiB
carries:     not known yet
writers:     not slowed, 0 waiting; since the start 2 slowed, 1 refused
on the way:  1
failing:     1
names:       1m5s behind, waiting for 1 segments (00000000000000000000000000000007)
backups:     2

ON THE WAY                        SIZE      FOR
00000000000000000000000000000008  64.0 MiB  1.5s

SEGMENT                           BUCKET     SIZE     AGE   TRIED  NEXT     CAUSE
00000000000000000000000000000007  (several)  3.0 MiB  1h2m  4      in 2.5s  AccessDenied: the key was revoked
`)
})

it('shows it for programs', async () => {
  const { code, stdout } = await tidegate('status', '--json')
  expect([code, JSON.parse(stdout)]).toMatchObject([0, { items: 3, failing: [{ bytes: FAILING.bytes }] }])
})

it('pauses and resumes', async () => {
  expect((await tidegate('pause')).stdout).toMatch(/^state: +paused\n/)
  expect((await tidegate('resume')).stdout).toMatch(/^state: +running\n/)
})

it('drains: asks again for the same segments until they are all there', async () => {
  const left = { through: 9, paused: false, leftItems: 1, leftBytes: 10, left: [], namesLeft: false }
  flush.drains.push(left, left)
  expect(await tidegate('drain')).toEqual({ code: 0, stdout: 'all of it is in the remote store\n', stderr: '' })
  expect(flush.calls).toEqual([
    { waitMsMax: 30_000, through: undefined },
    { waitMsMax: 30_000, through: 9 },
    { waitMsMax: 30_000, through: 9 },
  ])
})

it('says what is left when the time is up, or when flushing is paused, and ends with 1', async () => {
  const left = { through: 9, paused: false, leftItems: 1, leftBytes: FAILING.bytes, left: [FAILING], namesLeft: false }
  flush.drains.push(left)
  const late = await tidegate('drain', '--timeout', '0s')
  expect([late.code, late.stdout]).toEqual([
    1,
    expect.stringMatching(/^1 segments with 3\.0 MiB are not in the remote store\n\nSEGMENT[^]*AccessDenied/),
  ])
  flush.drains.push({ ...left, paused: true })
  const paused = await tidegate('drain', '--json')
  expect([paused.code, JSON.parse(paused.stdout)]).toMatchObject([1, { paused: true, leftItems: 1 }])
})

it.each([
  [[], 'flush wants status, pause, resume or drain'],
  [['stop'], 'flush knows no stop'],
  [['status', 'all'], 'one argument too many'],
  [['drain', '--timeout', 'soon'], '--timeout "soon" is not a time'],
])('refuses %j', async (args, words) => {
  const { code, stderr } = await tidegate(...args)
  expect([code, stderr]).toEqual([2, expect.stringContaining(words)])
})
