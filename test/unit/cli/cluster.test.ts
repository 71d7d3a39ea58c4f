import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { systemClock } from '../../../src/common/clock.ts'
import { TidegateError } from '../../../src/common/errors.ts'
import { createClusterPlugin } from '../../../src/gateway/admin/cluster.ts'
import type { ClusterControl, ClusterHealthView } from '../../../src/gateway/admin/cluster.ts'
import { createStatusPlugin } from '../../../src/gateway/admin/status.ts'
import { runCli } from '../../../src/cli/run.ts'
import { createAccessControl } from '../../../src/store/policy.ts'
import { FakeStatus } from '../../support/fake-status.ts'
import { runAgainst, startTokenPort, type CommandOutput, type TokenPort } from '../../support/token-port.ts'

const MEMBER = { peerUrl: 'http://127.0.0.1:2380', role: 'leader', version: '3.6.5', dbBytes: 2 ** 21, lag: 0 }
const AWAY = { ...MEMBER, role: 'follower', version: undefined, dbBytes: undefined, lag: undefined }

class FakeCluster implements ClusterControl {
  readonly removed: string[] = []
  level = 'impaired'

  health(): Promise<ClusterHealthView> {
    const a = { ...MEMBER, id: '11', name: 'a', clientUrl: 'http://a:2379', trouble: undefined, dbInUseBytes: 2 ** 20 }
    const b = { ...AWAY, id: '22', name: 'b', clientUrl: undefined, trouble: 'it was never started' }
    return Promise.resolve({
      cluster: 'main',
      node: 'a',
      role: 'voter',
      memberId: '11',
      voters: 3,
      quotaBytes: 2 ** 33,
      restarts: 2,
      lastEnding: 'SIGKILL',
      level: this.level,
      words: ['not reached: b: it was never started'],
      alarms: [],
      members: [a, { ...b, dbInUseBytes: undefined }],
    })
  }

  remove(member: string): Promise<void> {
    if (member !== 'b') throw new TidegateError('InvalidArgument', `${member} is no member; there are a (11), b (22)`)
    this.removed.push(member)
    return Promise.resolve()
  }
}

let port: TokenPort
let cluster: FakeCluster
let scratch: string

beforeEach(async () => {
  cluster = new FakeCluster()
  scratch = mkdtempSync(join(tmpdir(), 'tidegate-cluster-command-'))
  const access = createAccessControl([], systemClock)
  port = await startTokenPort({ plugins: [createClusterPlugin({ cluster, access })] })
})

afterEach(async () => {
  rmSync(scratch, { recursive: true })
  await port.stop()
})

const tidegate = (...args: readonly string[]): Promise<CommandOutput> => runAgainst(port, ['cluster', ...args])

it('shows the cluster for people', async () => {
  expect(await tidegate('status')).toMatchObject({
    code: 0,
    stdout: `works, but not all is well
- not reached: b: it was never started

cluster:    main, 3 voters, quota 8.0 GiB
this node:  a, voter
its etcd:   restarted 2 times; it ended by SIGKILL

MEMBER  ID  ROLE      STATE    VERSION  BEHIND  IN USE              ADDRESS
a       11  leader    answers  3.6.5    0       1.0 MiB of 2.0 MiB  http://a:2379
b       22  follower  away     -        -       -                   -
`,
  })
})

it('shows the nodes as well, where the gateway knows of them', async () => {
  const access = createAccessControl([], systemClock)
  await port.stop()
  port = await startTokenPort({
    plugins: [createClusterPlugin({ cluster, access }), createStatusPlugin({ status: new FakeStatus(), access })],
  })
  const { code, stdout } = await tidegate('status')
  expect(code).toBe(0)
  expect(stdout).toMatch(/^b +22 .*\n\nNODE +NAME .*\n1 \* +a +10\.0\.0\.1:9002 +serving/m)
  expect(JSON.parse((await tidegate('status', '--json')).stdout)).toMatchObject({
    members: [{ name: 'a' }, { name: 'b' }],
    nodes: [{ number: 1 }, { number: 2 }, { number: 4 }],
  })
})

it('says what is the matter, and ends with 1 when nothing can be written', async () => {
  cluster.level = 'failing'
  const stdout = 'nothing can be written\n- not reached: b: it was never started\n'
  expect(await tidegate('health')).toMatchObject({ code: 1, stdout })
  const { code, stdout: json } = await tidegate('health', '--json')
  expect([code, JSON.parse(json)]).toMatchObject([1, { members: [{ id: '11' }, { clientUrl: null, version: null }] }])
})

it('takes a member out', async () => {
  expect(await tidegate('remove', 'b')).toMatchObject({ code: 0 })
  expect(cluster.removed).toEqual(['b'])
  const { code, stderr } = await tidegate('remove', 'c')
  expect([code, stderr]).toEqual([1, 'tidegate: InvalidArgument: c is no member; there are a (11), b (22)\n'])
  expect((await tidegate('remove')).code).toBe(2)
})

async function prepare(...argv: readonly string[]): Promise<CommandOutput> {
  let stdout = ''
  let stderr = ''
  const code = await runCli({
    argv: ['cluster', ...argv, '--data', join(scratch, 'data')],
    env: {},
    stdout: { write: (text) => (stdout += String(text)) },
    stderr: { write: (text) => (stderr += String(text)) },
    serve: () => Promise.reject(new Error('not to be served')),
  })
  return { code, stdout, stderr }
}

it('refuses what cannot be, naming the value', async () => {
  expect(await prepare('init')).toMatchObject({ code: 2, stderr: expect.stringContaining('--cluster is missing') })
  const open = await prepare('init', '--cluster', 'main', '--cluster-peer', 'http://10.1.2.3:2380')
  expect(open).toMatchObject({ code: 2, stderr: expect.stringContaining('http://10.1.2.3:2380 can be reached from') })
  const partly = await prepare('init', '--cluster', 'main', '--cluster-ca', 'ca.pem')
  expect(partly).toMatchObject({ code: 2, stderr: expect.stringContaining('give all three or none') })
  const without = await prepare('init', '--cluster', 'main', '--cluster-etcd', 'no-such-program')
  expect(without).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('no-such-program is not found in the PATH'),
  })
  const alone = await prepare('join', '--cluster', 'main')
  expect(alone).toMatchObject({ code: 2, stderr: expect.stringContaining('--cluster-join is missing') })
})

it('begins a cluster once', async () => {
  // Only asked for its version here.
  const etcd = join(scratch, 'etcd')
  writeFileSync(etcd, '#!/bin/sh\necho "etcd Version: 3.5.9"\n', { mode: 0o755 })
  const first = await prepare('init', '--cluster', 'main', '--cluster-etcd', etcd)
  expect(first).toMatchObject({ code: 0, stdout: expect.stringMatching(/^cluster main begins here, with 3 voters/) })
  const record = JSON.parse(readFileSync(join(scratch, 'data', 'etcd', 'node.json'), 'utf8')) as object
  expect(record).toMatchObject({ format: 1, cluster: 'main', state: 'founding', voters: 3 })
  const again = await prepare('init', '--cluster', 'main', '--cluster-etcd', etcd)
  expect(again).toMatchObject({ code: 0, stdout: 'this is a node of cluster main already\n' })
  const other = await prepare('init', '--cluster', 'other', '--cluster-etcd', etcd)
  expect(other).toMatchObject({ code: 2, stderr: expect.stringContaining('is that of a node of main (founding)') })
})
