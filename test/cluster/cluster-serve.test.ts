// needs: etcd
/** Three gateways that are a cluster, each with a member of etcd of its own, as processes that are stopped and killed. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ClusterGateways, SteadyWriter } from '../support/cluster-gateways.ts'
import { runTidegate } from '../support/command-line.ts'

/** Of the third gateway. */
const STALE_READS = ['--stale-reads', 'on']
const SMALL = 'a value that lies in the metadata'

let cluster: ClusterGateways

beforeAll(async () => {
  cluster = await ClusterGateways.create(3)
})

afterAll(() => cluster.end())

const other = (index: number): number => (index + 1) % 3

/** Of etcd, by what is written in /proc: the one with that data. */
function etcdPids(index: number): number[] {
  const data = `--data-dir=${join(cluster.data(index), 'etcd', 'data')}`
  const isIt = (pid: string): boolean => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(data)
    } catch {
      return false
    }
  }
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && isIt(name))
    .map(Number)
}

async function canBeRead(index: number, keys: readonly string[]): Promise<void> {
  for (const key of keys) expect(await cluster.get(index, key)).toMatchObject({ status: 200, text: `value of ${key}` })
}

it('is begun once, by "cluster init"; what one gateway writes the others read at once', async () => {
  const begun = await cluster.prepare('init', 0)
  expect(begun).toMatchObject({ code: 0 })
  expect(begun.output).toContain('cluster test begins here, with 3 voters in the end')
  await cluster.start(0)
  await Promise.all([cluster.start(1), cluster.start(2, STALE_READS)])
  expect((await cluster.call(0, 'PUT', `/kv/v1/${cluster.bucket}`)).status).toBe(201)
  for (const index of [0, 1, 2]) {
    expect((await cluster.put(index, `from-${index}`, SMALL)).status).toBeLessThan(300)
    for (const reader of [0, 1, 2])
      expect(await cluster.get(reader, `from-${index}`)).toMatchObject({ status: 200, text: SMALL })
  }
  await cluster.leader(0)
  const status = await cluster.command(1, 'status')
  expect(status).toMatchObject({ code: 0 })
  expect(status.output).toMatch(/all is well\n(.*\n)*cluster: +test, 3 voters/)
}, 120_000)

it('goes on when the gateway whose member leads is killed; it comes back and reads everything', async () => {
  const led = await cluster.leader(0)
  const writer = new SteadyWriter(cluster, other(led), 'killed')
  await writer.more(20)
  const [pid] = etcdPids(led)
  expect(pid).toBeGreaterThan(0)
  const sinceMs = performance.now()
  await cluster.kill(led)
  await writer.more(50)
  const gapMs = writer.longestGapMs(sinceMs)
  console.log(`gateway of the leader killed: writes again after ${gapMs.toFixed(0)} ms`)
  expect(gapMs).toBeLessThan(10_000)
  await expect.poll(() => etcdPids(led), { timeout: 15_000 }).toEqual([])
  await cluster.start(led, led === 2 ? STALE_READS : [])
  await writer.stop()
  await canBeRead(led, writer.acknowledged)
  await cluster.leader(led)
}, 120_000)

it('goes on when the gateway whose member leads is stopped', async () => {
  const led = await cluster.leader(0)
  const writer = new SteadyWriter(cluster, other(led), 'stopped')
  await writer.more(20)
  const sinceMs = performance.now()
  expect(await cluster.stop(led)).toBe(0)
  await writer.more(50)
  console.log(`gateway of the leader stopped: longest gap ${writer.longestGapMs(sinceMs).toFixed(0)} ms`)
  expect(etcdPids(led)).toEqual([])
  const health = await cluster.command(other(led), 'health')
  expect(health).toMatchObject({ code: 0 })
  expect(health.output).toContain(`not reached: n${led} (`)
  await cluster.start(led, led === 2 ? STALE_READS : [])
  await writer.stop()
  await canBeRead(led, writer.acknowledged)
  await cluster.leader(led)
}, 120_000)

async function metric(index: number, name: string): Promise<number> {
  const { text } = await cluster.metrics(index)
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
}

it('refuses quickly, in words, while quorum is lost; comes back by itself', async () => {
  await cluster.leader(0)
  expect((await cluster.ready(0)).status).toBe(200)
  expect(await metric(0, 'tidegate_etcd_up')).toBe(1)
  await Promise.all([cluster.stop(1), cluster.stop(2)])
  await expect.poll(async () => (await cluster.ready(0)).status, { timeout: 30_000 }).toBe(503)
  expect((await cluster.ready(0)).text).toBe(
    'quorum is lost: etcd has no majority, or cannot be reached from here; nothing can be read or written until it is back\n',
  )
  for (const answer of [await cluster.put(0, 'lost', SMALL), await cluster.get(0, 'from-0')]) {
    expect(answer.status).toBe(503)
    expect(answer.headers.get('retry-after')).toBe('1')
    expect(answer.text).toContain('etcd does not answer, or has no majority')
    expect(answer.durationMs).toBeLessThan(3_000)
  }
  for (const action of ['status', 'health']) {
    const { code, output } = await cluster.command(0, action)
    expect(code).toBe(1)
    expect(output).toMatch(
      /^nothing can be written\n- quorum is lost: [01] of 3 voters knows? a leader, 2 are needed; /,
    )
  }
  expect(await metric(0, 'tidegate_etcd_up')).toBe(0)
  expect(cluster.log(0)).toContain('quorum is lost')
  await Promise.all([cluster.start(1), cluster.start(2, STALE_READS)])
  await expect.poll(async () => (await cluster.ready(0)).status, { timeout: 30_000 }).toBe(200)
  expect((await cluster.get(0, 'lost')).status).toBe(404)
  expect((await cluster.put(0, 'back', SMALL)).status).toBeLessThan(300)
  expect((await cluster.get(1, 'back')).text).toBe(SMALL)
  await cluster.leader(0)
}, 180_000)

it('answers reads from what it knows while quorum is lost, with --stale-reads', async () => {
  await cluster.leader(0)
  expect((await cluster.get(2, 'back')).headers.get('tidegate-stale')).toBe(null)
  await Promise.all([cluster.stop(0), cluster.stop(1)])
  await expect.poll(async () => (await cluster.ready(2)).text, { timeout: 30_000 }).toContain('quorum is lost')
  const ready = await cluster.ready(2)
  expect(ready.status).toBe(200)
  expect(ready.text).toContain('reads are answered from what was known before, nothing can be written')
  const read = await cluster.get(2, 'back')
  expect(read).toMatchObject({ status: 200, text: SMALL })
  expect(read.headers.get('tidegate-stale')).toBe('metadata')
  expect(read.durationMs).toBeLessThan(1_000)
  expect((await cluster.get(2, 'lost')).status).toBe(404)
  expect((await cluster.put(2, 'lost', SMALL)).status).toBe(503)
  expect(await metric(2, 'tidegate_etcd_stale_reads_total')).toBeGreaterThan(1)
}, 120_000)

it('ends when it is told to, without a majority, and while it waits for one', async () => {
  expect(await cluster.stop(2)).toBe(0)
  expect(etcdPids(2)).toEqual([])
  const waiting = cluster.wait(2)
  await expect.poll(() => waiting.log(), { timeout: 30_000 }).toContain('waiting for the cluster: quorum is lost')
  const sinceMs = performance.now()
  expect(await waiting.stop()).toBe(0)
  expect(performance.now() - sinceMs).toBeLessThan(15_000)
  expect(etcdPids(2)).toEqual([])
}, 120_000)

it('is never served but as a node of its cluster', async () => {
  const refused = await runTidegate(['serve', '--data', cluster.data(0)])
  expect(refused).toMatchObject({ code: 2 })
  expect(refused.output).toContain('is that of a node of cluster test: start it with --cluster test')
  const both = await runTidegate(['serve', '--data', cluster.data(0), ...cluster.flags(0), '--meta', 'etcd://a:2379'])
  expect(both).toMatchObject({ code: 2 })
  expect(both.output).toContain('--meta and --cluster: ')
  const stale = await runTidegate(['serve', '--data', cluster.data(0), ...STALE_READS])
  expect(stale.output).toContain('--stale-reads on: it is for metadata in etcd')
}, 60_000)
