import { afterEach, beforeEach, expect, it } from 'vitest'
import { systemClock } from '../../../src/common/clock.ts'
import { createStatusPlugin } from '../../../src/gateway/admin/status.ts'
import { createAccessControl } from '../../../src/store/policy.ts'
import { ALONE, FakeStatus } from '../../support/fake-status.ts'
import { runAgainst, startTokenPort, type TokenPort } from '../../support/token-port.ts'

let port: TokenPort
let status: FakeStatus

beforeEach(async () => {
  status = new FakeStatus()
  port = await startTokenPort({
    plugins: [createStatusPlugin({ status, access: createAccessControl([], systemClock) })],
  })
})

afterEach(() => port.stop())

it('shows nodes, tiers, backlog and holders for people; ends with 1 while bytes can be reached nowhere', async () => {
  expect(await runAgainst(port, ['status'])).toMatchObject({
    code: 1,
    stdout: `this node:     number 1 (a), 0.1.0, up 1m5s
memory:        12.0 MiB of 64.0 MiB, 10 blocks found, 2 not
neighbours:    1 connected, 5 blocks found, 1 not, 1 not answered in time; 5.0 MiB in, 0 B out
remote store:  none
backlog:       3.0 MiB of 1.0 GiB in 2 segments, the oldest 1.5s old; 1 fail
copies:        2 segments wait for theirs

NODE  NAME  ADDRESS        STATE    FROM HERE    VERSION  WEIGHT  LABELS
1 *   a     10.0.0.1:9002  serving  -            0.1.0    1       zone=x
2     b     10.0.0.2:9002  serving  0.4 ms, tcp  0.1.0    1       -
4     d     10.0.0.4:9002  leaving  not reached  0.1.0    1       -

LOST  NAME  STATE   AWAY FOR
3     c     fenced  1m1s

HOLDER  STATE      SEGMENTS  BYTES
1 (a)   sealed     2         3.0 MiB
3       persisted  1         1.0 MiB

segments:     counted 2.0s ago
copies here:  1 segments with 1.0 MiB
unreachable:  1 segments with 1.0 MiB, until node 3 is back
`,
  })
})

it('shows a gateway that shares its metadata with nobody', async () => {
  status.view = ALONE
  expect(await runAgainst(port, ['status'])).toMatchObject({
    code: 0,
    stdout: `this node:     alone, 0.1.0, up 1.0s
memory:        12.0 MiB of 64.0 MiB, 10 blocks found, 2 not
remote store:  the key was revoked
backlog:       3.0 MiB of 1.0 GiB in 2 segments, the oldest 1.5s old; paused
`,
  })
})

it('prints JSON, and ends with 1 when it cannot serve', async () => {
  status.view = { ...ALONE, node: { ...ALONE.node, trouble: 'quorum is lost' } }
  const { code, stdout } = await runAgainst(port, ['status', '--json'])
  expect([code, JSON.parse(stdout)]).toMatchObject([1, { node: { trouble: 'quorum is lost' }, holdings: null }])
})
