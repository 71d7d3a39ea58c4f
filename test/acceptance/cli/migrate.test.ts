// needs: etcd fusermount3
/** Metadata of a gateway that move to etcd and back, as its users see it: nothing is different but where they lie. */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { systemClock } from '../../../src/common/clock.ts'
import { readMoving } from '../../../src/meta/migrate/moving-row.ts'
import { createEtcdAdmin } from '../../../src/meta/raft/admin-client.ts'
import { createEtcdClient } from '../../../src/meta/raft/client.ts'
import { EtcdLayout } from '../../../src/meta/raft/layout.ts'
import type { Etcd } from '../../../src/meta/raft/ports.ts'
import type { MigrateReport } from '../../../src/migrate.ts'
import { runTidegate } from '../../support/command-line.ts'
import { EtcdCluster } from '../../support/etcd-member.ts'
import { randomCredentials, startGateway, type GatewayProcess } from '../../support/gateway-process.ts'
import { SMALL_FLAGS } from '../../support/gateway-suite.ts'
import { shell } from '../../support/mounted-gateway.ts'
import {
  BUCKETS,
  COMPLETED_DIGEST,
  completeUpload,
  fillGateway,
  fillValues,
  kvOf,
  observed,
} from '../../support/moved-gateway.ts'
import { sdkClient } from '../../support/sdk-client.ts'
import { spawnTidegate } from '../../support/spawned-command.ts'

const VALUES = Number(process.env['MOVED_VALUES'] ?? 6000)
const KILL_LOOK_MS = 2

const directory = mkdtempSync(join(tmpdir(), 'tidegate-moved-'))
const mountPoint = join(directory, 'mnt')
const root = randomCredentials()
let etcd: EtcdCluster

beforeAll(async () => {
  mkdirSync(mountPoint)
  etcd = await EtcdCluster.start({ directory: join(directory, 'etcd'), members: 1 })
}, 60_000)

afterAll(async () => {
  await shell(`umount -l ${mountPoint}`)
  await etcd.remove()
  rmSync(directory, { recursive: true, force: true })
})

const url = (prefix: string): string => `etcd://${new URL(etcd.endpoints[0] ?? '').host}/${prefix}`

function start(data: string, ...flags: string[]): Promise<GatewayProcess> {
  return startGateway({ data, root, flags: [...SMALL_FLAGS, ...flags], logFile: join(directory, 'log') })
}

async function migrate(data: string, ...place: string[]): Promise<MigrateReport> {
  const { code, output } = await runTidegate(['meta', 'migrate', '--data', data, '--json', ...place])
  expect([code, output]).toEqual([0, expect.stringMatching(/^\{/)])
  const report = JSON.parse(output) as MigrateReport
  expect(report.moved?.source).toEqual(report.moved?.target)
  return report
}

/** Ends with that code, and says that. */
async function expectRefused(code: number, words: RegExp, ...args: string[]): Promise<void> {
  expect(await runTidegate(args)).toMatchObject({ code, output: expect.stringMatching(words) })
}

it('all is as it was after a move to etcd, and after the way back', { timeout: 480_000 }, async () => {
  const data = join(directory, 'all')
  const mounted = ['--mount', mountPoint]
  const place = url('all')
  let gateway = await start(data, '--buckets', BUCKETS, ...mounted)
  const upload = await fillGateway(gateway, mountPoint)
  const before = await observed(gateway, mountPoint)
  expect(before.size).toBeGreaterThan(15)
  const kv = kvOf(gateway)
  const { next: watchedFrom } = await kv.poll({})
  const { revision: lastRevision } = await kv.put('last before', 'value')
  kv.close()
  await expectRefused(3, /is in use by another process/, 'meta', 'migrate', '--data', data, '--to', place)
  expect(await gateway.stop()).toBe(0)

  expect(await migrate(data, '--to', place)).toMatchObject({ moved: { found: 0 }, keptIn: join(data, 'meta.moved') })
  await expectRefused(2, /is that of node 0 of gateways that share their metadata/, 'serve', '--data', data)
  await expectRefused(2, /are in etcd already/, 'meta', 'migrate', '--data', data, '--to', place)

  gateway = await start(data, '--meta', place, ...mounted)
  const there = kvOf(gateway)
  expect((await there.get('last before'))?.revision).toBe(lastRevision)
  await expect(there.poll({ from: watchedFrom })).rejects.toMatchObject({ code: 'RevisionGone' })
  await there.delete('last before')
  expect(await observed(gateway, mountPoint)).toEqual(before)
  // C3: no update is lost because it looks older than what it replaces, and no condition of before holds by chance.
  const { revision } = await there.put('session', 'newer', {
    ifMatch: (before.get('value session') as { revision: number }).revision,
  })
  expect(revision).toBeGreaterThan(lastRevision)
  await expect(there.put('session', 'stale', { ifMatch: lastRevision })).rejects.toMatchObject({
    code: 'PreconditionFailed',
  })
  expect((await there.increment('counter', 1)).value).toBe(16n)
  expect(await completeUpload(gateway, upload)).toBe(COMPLETED_DIGEST)
  const s3 = sdkClient(gateway)
  await s3.send(new PutObjectCommand({ Bucket: 'kept', Key: 'd/versions', Body: 'made over etcd' }))
  s3.destroy()
  const { code, stderr } = await shell(
    `cd ${mountPoint}/plain && echo more >> tree/one/file && mv tree/one tree/moved && rm tree/link`,
  )
  expect([code, stderr]).toEqual([0, ''])
  const changed = await observed(gateway, mountPoint)
  const { next: watchedThere } = await there.poll({})
  const { revision: lastThere } = await there.put('last there', 'value')
  there.close()
  expect(await gateway.stop()).toBe(0)

  await migrate(data, '--from', place)
  await expectRefused(
    1,
    /were moved into the data directory/,
    'serve',
    '--data',
    join(directory, 'another'),
    '--meta',
    place,
  )
  gateway = await start(data, ...mounted)
  const back = kvOf(gateway)
  expect((await back.get('last there'))?.revision).toBe(lastThere)
  await expect(back.poll({ from: watchedThere })).rejects.toMatchObject({ code: 'RevisionGone' })
  await back.delete('last there')
  expect(await observed(gateway, mountPoint)).toEqual(changed)
  expect((await back.put('session', 'newest')).revision).toBeGreaterThan(lastThere)
  back.close()
  expect(await gateway.stop()).toBe(0)
})

it('a move that is killed goes on, and until it is over only its source is served', { timeout: 480_000 }, async () => {
  const data = join(directory, 'killed')
  const place = url('killed')
  let gateway = await start(data, '--buckets', BUCKETS)
  await fillGateway(gateway, undefined)
  await fillValues(gateway, VALUES)
  const before = await observed(gateway, undefined)
  expect(await gateway.stop()).toBe(0)

  const client = createEtcdClient({ endpoints: etcd.endpoints, clock: systemClock })
  await client.start()
  let cursor = ''
  for (let kills = 0; kills < 3; kills++) cursor = await killed(client, data, { place, after: cursor })
  await expectRefused(1, /not all there yet/, 'serve', '--data', join(directory, 'another'), '--meta', place)
  await expectRefused(2, /holds metadata of its own/, 'serve', '--data', data, '--meta', place)
  const { moved } = await migrate(data, '--to', place)
  expect(moved?.found).toBeGreaterThan(0)
  expect(moved?.found).toBeLessThan(moved?.source.rows ?? 0)
  gateway = await start(data, '--meta', place)
  expect(await observed(gateway, undefined)).toEqual(before)
  expect(await gateway.stop()).toBe(0)

  await killedBack(data, place)
  // The source can be served, and then all is copied anew.
  gateway = await start(data, '--meta', place)
  const kv = kvOf(gateway)
  await kv.put('new', 'value')
  kv.close()
  const changed = await observed(gateway, undefined)
  expect(await gateway.stop()).toBe(0)
  expect((await migrate(data, '--from', place)).moved?.found).toBe(0)
  gateway = await start(data)
  expect(await observed(gateway, undefined)).toEqual(changed)
  expect(await gateway.stop()).toBe(0)
  await client.stop()
})

it('a move into an etcd that is full says so, and goes on when that has more room', { timeout: 480_000 }, async () => {
  const data = join(directory, 'full')
  const flags = ['--quota-backend-bytes=16777216']
  const small = await EtcdCluster.start({ directory: join(directory, 'small'), members: 1, flags })
  try {
    const place = `etcd://${new URL(small.endpoints[0] ?? '').host}/full`
    let gateway = await start(data, '--buckets', BUCKETS)
    await fillValues(gateway, 6000, 3000)
    const before = await observed(gateway, undefined)
    expect(await gateway.stop()).toBe(0)
    await expectRefused(
      1,
      /over its quota.*it goes on where it stopped/,
      'meta',
      'migrate',
      '--data',
      data,
      '--to',
      place,
    )
    await expectRefused(1, /over its quota/, 'meta', 'migrate', '--data', data, '--to', place)
    const [member] = small.members
    await member?.stop()
    flags[0] = '--quota-backend-bytes=268435456'
    member?.start(small.initial, 'existing')
    // With the alarm it does not call itself healthy.
    const admin = createEtcdAdmin({ endpoints: small.endpoints, clock: systemClock })
    const alarms = await vi.waitFor(() => admin.alarms(), { timeout: 60_000, interval: 200 })
    for (const alarm of alarms) await admin.disarm(alarm)
    admin.close()
    const { moved } = await migrate(data, '--to', place)
    expect(moved?.found).toBeGreaterThan(0)
    gateway = await start(data, '--meta', place)
    expect(await observed(gateway, undefined)).toEqual(before)
    expect(await gateway.stop()).toBe(0)
  } finally {
    await small.remove()
  }
})

/** Kills a move once it has come further than that. Resolves with how far. */
async function killed(client: Etcd, data: string, { place, after }: { place: string; after: string }): Promise<string> {
  const layout = new EtcdLayout(`${new URL(place).pathname}/`)
  const command = spawnTidegate(['meta', 'migrate', '--data', data, '--to', place])
  for (;;) {
    const moving = await readMoving(client, layout)
    expect(command.child.exitCode, command.output()).toBeNull()
    if (moving?.state === 'arriving' && moving.cursor > after) break
    await sleep(KILL_LOOK_MS)
  }
  await command.kill()
  return (await readMoving(client, layout))?.cursor ?? ''
}

async function killedBack(data: string, place: string): Promise<void> {
  const command = spawnTidegate(['meta', 'migrate', '--data', data, '--from', place])
  while (!existsSync(join(data, 'meta.incoming', 'data.mdb'))) {
    expect(command.child.exitCode, command.output()).toBeNull()
    await sleep(KILL_LOOK_MS)
  }
  await command.kill()
  expect(existsSync(join(data, 'node.json'))).toBe(true)
}
