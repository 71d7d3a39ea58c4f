// needs: etcd
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { ByteString } from '../../src/common/ids.ts'
import { startClusterNode, type ClusterHealth } from '../../src/meta/raft/member/cluster-node.ts'
import { prepareToJoin } from '../../src/meta/raft/member/prepare-node.ts'
import { ClusterNodes, Writer } from '../support/cluster-nodes.ts'

/** How often each gap is measured: CLUSTER_ROUNDS=20 for figures. */
const ROUNDS = Number(process.env['CLUSTER_ROUNDS'] ?? 2)

let cluster: ClusterNodes

beforeAll(async () => {
  cluster = await ClusterNodes.create(4, { hung: { silentMsMax: 5_000, startMsMax: 60_000 } })
  await cluster.init()
})

afterAll(() => cluster.remove())

const isWell = ({ level }: ClusterHealth): boolean => level === 'well'
const isWellVoter = (health: ClusterHealth): boolean => isWell(health) && health.role === 'voter'

async function leader(): Promise<number> {
  const { members } = await cluster.until(0, isWell)
  return Number(members.find(({ role }) => role === 'leader')?.name.slice(1))
}

/** Of the program, by what is written in /proc: the one with that data. */
function etcdPid(index: number): number {
  const data = `--data-dir=${join(cluster.options(index).directory, 'data')}`
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  const found = pids.find((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(data)
    } catch {
      return false
    }
  })
  return Number(found)
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN
}

async function value(index: number, key: string): Promise<string | undefined> {
  const etcd = await cluster.client(index)
  const range = { start: key as ByteString, end: `${key}\0` as ByteString }
  const { rows } = await etcd.range({ range, limit: 1 })
  await etcd.stop()
  return rows[0] === undefined ? undefined : Buffer.from(rows[0].value).toString()
}

it('begins no cluster by itself', async () => {
  const waiting = startClusterNode({ ...cluster.options(1), startMsMax: 500 })
  await expect(waiting).rejects.toThrow(`no member answers at ${cluster.options(0).clientUrl}, `)
  const lonely = startClusterNode({ ...cluster.options(1), join: [] })
  await expect(lonely).rejects.toThrow('belongs to no cluster: "tidegate cluster init" begins one')
}, 30_000)

it('grows from one to three voters while two join at once; a fourth is a client', async () => {
  await cluster.start(0)
  expect(cluster.node(0).endpoints()).toContain(cluster.options(0).clientUrl)
  const etcd = await cluster.client(0)
  await etcd.transact({
    compares: [],
    success: [{ kind: 'put', key: 'a' as ByteString, value: Buffer.from('1') }],
    failure: [],
  })
  await etcd.stop()
  await Promise.all([cluster.start(1), cluster.start(2)])
  // Served by the others before their own members vote.
  expect(await value(1, 'a')).toBe('1')
  const health = await cluster.until(1, isWellVoter)
  await cluster.until(2, isWellVoter)
  expect(health.members.map(({ name }) => name).sort()).toEqual(['n0', 'n1', 'n2'])
  await cluster.start(3)
  const client = await cluster.node(3).health()
  expect(client).toMatchObject({ role: 'client', level: 'well' })
  expect(cluster.node(3).endpoints()).toHaveLength(3)
  expect(cluster.node(1).endpoints()[0]).toBe(cluster.options(1).clientUrl)
  expect(await value(3, 'a')).toBe('1')
}, 60_000)

/** How long another node's writer waits at most, in ms, from when that is done to the leader. */
async function writingGap(led: number, done: () => void | Promise<void>): Promise<number> {
  const writer = new Writer(await cluster.client((led + 1) % 3))
  await writer.settledFor(300)
  const sinceMs = performance.now()
  await done()
  await writer.settledFor(500)
  const gapMs = writer.longestGapMs(sinceMs)
  await writer.stop()
  return gapMs
}

it('starts a member again that was killed; writes go on without the leader', async () => {
  const gaps: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const led = await leader()
    gaps.push(await writingGap(led, () => void process.kill(etcdPid(led), 'SIGKILL')))
    const health = await cluster.until(led, isWellVoter)
    expect(health.restarts).toBeGreaterThan(0)
    expect(health.lastEnding).toContain('SIGKILL')
  }
  console.log(
    `leader killed: writes again after ${median(gaps).toFixed(0)} ms (median of ${ROUNDS}, at most ${Math.max(...gaps).toFixed(0)})`,
  )
}, 300_000)

it('kills a member that hangs, and starts it again', async () => {
  const { restarts } = await cluster.until(1, isWellVoter)
  process.kill(etcdPid(1), 'SIGSTOP')
  const health = await cluster.until(1, (seen) => isWellVoter(seen) && seen.restarts > restarts)
  expect(health.lastEnding).toContain('SIGKILL')
  expect(await value(1, 'a')).toBe('1')
}, 60_000)

it('moves the leadership before a planned stop', async () => {
  const gaps: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const led = await leader()
    const seen = led === 0 ? 1 : 0
    gaps.push(await writingGap(led, () => cluster.stop(led)))
    const { level, words } = await cluster.until(seen, (health) => !isWell(health))
    expect(level).toBe('impaired')
    expect(words.join()).toContain(`not reached: n${led} (${cluster.options(led).clientUrl})`)
    await cluster.start(led)
    await cluster.until(led, isWellVoter)
  }
  console.log(
    `planned stop: gap ${median(gaps).toFixed(0)} ms (median of ${ROUNDS}, at most ${Math.max(...gaps).toFixed(0)})`,
  )
}, 300_000)

it('replaces a disk that was lost, under a new id', async () => {
  const before = await cluster.until(2, isWellVoter)
  await cluster.stop(2)
  cluster.loseDisk(2)
  await cluster.start(2)
  const after = await cluster.until(2, isWellVoter)
  expect(after.memberId).not.toBe(before.memberId)
  expect(after.members).toHaveLength(3)
  expect(await value(2, 'a')).toBe('1')
}, 60_000)

it('replaces a disk that was lost while the member ran', async () => {
  const before = await cluster.until(1, isWellVoter)
  const pid = etcdPid(1)
  rmSync(join(cluster.options(1).directory, 'data'), { recursive: true })
  process.kill(pid, 'SIGKILL')
  const after = await cluster.until(1, (health) => isWellVoter(health) && health.memberId !== before.memberId)
  expect(after.members).toHaveLength(3)
}, 60_000)

it('refuses an address that a living member has', async () => {
  const { peerUrl } = cluster.options(0)
  const strange = startClusterNode({ ...cluster.options(3), directory: `${cluster.options(3).directory}-x`, peerUrl })
  await expect(strange).rejects.toThrow(`--cluster-peer: ${peerUrl} is that of n0, which runs`)
  await expect(prepareToJoin({ ...cluster.options(3), clusterName: 'other' })).rejects.toThrow('--cluster: other')
}, 30_000)

it('takes a member out for good: its node goes on as a client, and a waiting one takes the place', async () => {
  await cluster.node(0).remove('n2')
  const removed = await cluster.until(2, ({ role }) => role === 'removed')
  expect(removed.members.map(({ name }) => name)).not.toContain('n2')
  expect(await value(2, 'a')).toBe('1')
  await cluster.stop(3)
  await cluster.start(3)
  await cluster.until(3, isWellVoter)
  await cluster.stop(2)
  await cluster.start(2)
  expect((await cluster.node(2).health()).role).toBe('removed')
  await expect(cluster.node(0).remove('n9')).rejects.toThrow('n9 is no member; there are ')
}, 60_000)

it('says in words that quorum is lost, and comes back', async () => {
  await cluster.until(0, isWell)
  await cluster.stop(1)
  await cluster.stop(3)
  const { words } = await cluster.until(0, ({ level }) => level === 'failing')
  expect(words).toHaveLength(1)
  expect(words[0]).toMatch(/^quorum is lost: [01] of 3 voters knows? a leader, 2 are needed; not reached: n\d/)
  await Promise.all([cluster.start(1), cluster.start(3)])
  await cluster.until(0, isWell)
  await expect.poll(() => cluster.node(1).endpoints().length).toBe(3)
}, 60_000)
