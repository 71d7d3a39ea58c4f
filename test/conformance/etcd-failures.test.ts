// needs: etcd openssl
/** What the client does when members fail, and what etcd itself does then; see etcd.ts for what it does otherwise. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import { Secret } from '../../src/common/secret.ts'
import { createEtcdAdmin } from '../../src/meta/raft/admin-client.ts'
import type { EtcdAdmin } from '../../src/meta/raft/admin-client.ts'
import { createEtcdClient } from '../../src/meta/raft/client.ts'
import type { EtcdClientOptions } from '../../src/meta/raft/client.ts'
import type { Etcd, EtcdOperation, TransactionResult } from '../../src/meta/raft/ports.ts'
import { CertificateAuthority } from '../support/certificate-authority.ts'
import { EtcdCluster } from '../support/etcd-member.ts'
import type { ClusterOptions, EtcdMember } from '../support/etcd-member.ts'
import { bytes, put } from './etcd.ts'

const clock = systemClock
const EVERYTHING = { start: bytes('a'), end: bytes('z') }
const CALL_TIMEOUT_MS = 5_000
const MIB = 1024 * 1024

const directories: string[] = []
const directory = (): string => {
  directories.push(mkdtempSync(join(tmpdir(), 'tidegate-etcd-')))
  return directories.at(-1) as string
}
const stops: (() => unknown)[] = []
const clientOf = async (options: Partial<EtcdClientOptions> & { endpoints: readonly string[] }): Promise<Etcd> => {
  const etcd = createEtcdClient({ clock, callTimeoutMs: CALL_TIMEOUT_MS, ...options })
  await etcd.start()
  stops.push(() => etcd.stop())
  return etcd
}
const adminOf = (endpoints: readonly string[], options: Partial<EtcdClientOptions> = {}): EtcdAdmin => {
  const admin = createEtcdAdmin({ clock, endpoints, ...options })
  stops.push(() => admin.close())
  return admin
}
const write = (etcd: Etcd, ...success: EtcdOperation[]): Promise<TransactionResult> =>
  etcd.transact({ compares: [], success, failure: [] })
/** Every key that the watch has told, in order, while the test goes on. */
const follow = (etcd: Etcd, from: number): { keys: string[]; ended: Promise<unknown> } => {
  const controller = new AbortController()
  stops.push(() => controller.abort())
  const keys: string[] = []
  const ended = (async () => {
    for await (const batch of etcd.watch(EVERYTHING, from, controller.signal))
      keys.push(...batch.map((change) => change.key))
  })().catch((error: unknown) => error)
  return { keys, ended }
}

/** What was opened for a test last is closed first. */
async function stopAll(): Promise<void> {
  for (const stop of stops.splice(0).reverse()) await stop()
}
afterEach(stopAll)
afterAll(() => {
  for (const path of directories) rmSync(path, { recursive: true, force: true })
})

describe('without members', () => {
  it('calls end by their deadline, and say that nothing was sent', async () => {
    const etcd = await clientOf({ endpoints: ['http://127.0.0.1:1'], callTimeoutMs: 500 })
    const startMs = clock.monotonicMs()
    await expect(write(etcd, put(bytes('a'), ''))).rejects.toMatchObject({ kind: 'unavailable', sent: false })
    await expect(etcd.range({ range: EVERYTHING, limit: 1 })).rejects.toMatchObject({ kind: 'unavailable' })
    expect(await follow(etcd, 1).ended).toMatchObject({ kind: 'unavailable' })
    expect(clock.monotonicMs() - startMs).toBeLessThan(3_000)
  })

  it('a client that is stopped refuses, and its watches end', async () => {
    const etcd = await clientOf({ endpoints: ['http://127.0.0.1:1'] })
    const { ended } = follow(etcd, 1)
    const pending = write(etcd, put(bytes('a'), ''))
    pending.catch(() => undefined)
    await etcd.stop()
    expect(await ended).toMatchObject({ kind: 'unavailable', sent: false })
    await expect(write(etcd, put(bytes('a'), ''))).rejects.toMatchObject({ kind: 'unavailable', sent: false })
    await expect(pending).rejects.toMatchObject({ kind: 'unavailable', sent: false })
  })
})

describe('three members', { timeout: 90_000 }, () => {
  let cluster: EtcdCluster
  beforeAll(async () => {
    cluster = await EtcdCluster.start({ directory: directory(), members: 3 })
  }, 60_000)
  afterAll(() => cluster.remove())

  /** The first endpoint is that of a member which leads or does not. */
  const endpointsFrom = async (first: 'leader' | 'follower'): Promise<{ endpoints: string[]; member: EtcdMember }> => {
    const admin = adminOf(cluster.endpoints)
    const statuses = await Promise.all(cluster.endpoints.map((endpoint) => admin.status(endpoint)))
    const at = statuses.findIndex((status) => (status.leaderId === status.memberId) === (first === 'leader'))
    const member = cluster.members[at] as EtcdMember
    return { member, endpoints: [member.endpoint, ...cluster.endpoints.filter((_, index) => index !== at)] }
  }
  const restarted = async (member: EtcdMember): Promise<void> => {
    member.start(cluster.initial, 'existing')
    await cluster.waitHealthy()
  }
  const writeUntilItWorks = async (etcd: Etcd, key: string): Promise<void> => {
    await expect
      .poll(
        () =>
          write(etcd, put(bytes(key), '')).then(
            () => true,
            () => false,
          ),
        { timeout: 20_000 },
      )
      .toBe(true)
  }

  for (const role of ['follower', 'leader'] as const) {
    it(`a watch and ranges go on when the ${role} that is asked is killed`, async () => {
      const { endpoints, member } = await endpointsFrom(role)
      const etcd = await clientOf({ endpoints })
      const { revision } = await write(etcd, put(bytes(`${role}-0`), ''))
      const { keys } = follow(etcd, revision)
      await expect.poll(() => keys).toEqual([`${role}-0`])
      await member.kill()
      const { rows } = await etcd.range({ range: EVERYTHING, limit: 0 })
      expect(rows.map((row) => row.key)).toContain(`${role}-0`)
      for (let index = 1; index < 5; index++) await writeUntilItWorks(etcd, `${role}-${index}`)
      await restarted(member)
      await writeUntilItWorks(etcd, `${role}-5`)
      await expect.poll(() => keys.at(-1), { timeout: 10_000 }).toBe(`${role}-5`)
      expect([...new Set(keys)]).toEqual(Array.from({ length: 6 }, (_, index) => `${role}-${index}`))
    })
  }

  it('of which the one that is asked stands still: ranges go elsewhere, a transaction may have happened, the watch goes on', async () => {
    const { endpoints, member } = await endpointsFrom('follower')
    const etcd = await clientOf({ endpoints, callTimeoutMs: 2_000 })
    const { revision } = await write(etcd, put(bytes('paused-0'), ''))
    const { keys } = follow(etcd, revision)
    await expect.poll(() => keys).toEqual(['paused-0'])
    member.pause()
    try {
      const startMs = clock.monotonicMs()
      await expect(write(etcd, put(bytes('paused-1'), ''))).rejects.toMatchObject({ kind: 'unavailable', sent: true })
      expect(clock.monotonicMs() - startMs).toBeLessThan(2_500)
      expect((await etcd.range({ range: EVERYTHING, limit: 0 })).rows.length).toBeGreaterThan(0)
      await write(etcd, put(bytes('paused-2'), ''))
      await expect.poll(() => keys.at(-1), { timeout: 6_000 }).toBe('paused-2')
    } finally {
      member.resume()
    }
    // What lay in the member's socket may be carried out now, long after it was told to have failed: etcd 3.4 did, 3.5 saw that it was given up.
    await writeUntilItWorks(etcd, 'paused-3')
    await expect.poll(() => keys, { timeout: 10_000 }).toContain('paused-3')
    expect(keys.filter((key) => key !== 'paused-1')).toEqual(['paused-0', 'paused-2', 'paused-3'])
    expect(keys.length - new Set(keys).size).toBe(0)
  })

  it('of which two are gone: no writes and no linearizable reads, but reads of what may be old', async () => {
    const etcd = await clientOf({ endpoints: cluster.endpoints, callTimeoutMs: 2_000 })
    await write(etcd, put(bytes('before'), ''))
    const [, second, third] = cluster.members as [EtcdMember, EtcdMember, EtcdMember]
    await Promise.all([second.kill(), third.kill()])
    try {
      await expect(write(etcd, put(bytes('during'), ''))).rejects.toMatchObject({ kind: 'unavailable' })
      await expect(etcd.range({ range: EVERYTHING, limit: 1 })).rejects.toMatchObject({ kind: 'unavailable' })
      const old = await etcd.range({ range: EVERYTHING, limit: 1, serializable: true })
      expect(old.rows.length).toBe(1)
    } finally {
      second.start(cluster.initial, 'existing')
      await restarted(third)
    }
    await writeUntilItWorks(etcd, 'after')
  })

  it('know each other, and who leads; leadership moves; a fourth joins as a learner, is promoted and removed', async () => {
    const admin = adminOf(cluster.endpoints)
    expect((await admin.members()).map((member) => member.name).sort()).toEqual(['m0', 'm1', 'm2'])
    const { endpoints } = await endpointsFrom('follower')
    const [follower] = endpoints as [string]
    const before = await admin.status(follower)
    expect(before).toMatchObject({ isLearner: false, errors: [] })
    expect(before.version).toMatch(/^3\.\d+\.\d+/)
    expect(before.dbInUseBytes).toBeLessThanOrEqual(before.dbBytes)
    await admin.moveLeader(before.memberId)
    await admin.moveLeader(before.memberId)
    await expect.poll(async () => (await admin.status(follower)).leaderId).toBe(before.memberId)
    await expect(admin.moveLeader('1234')).rejects.toMatchObject({ kind: 'malformed', sent: false })

    const fourth = await cluster.another()
    const initial = cluster.initial
    const learner = await expect
      .poll(() => admin.addLearner([fourth.peerUrl]).catch((error: { kind: string }) => error.kind), {
        timeout: 15_000,
      })
      .not.toBe('not yet')
      .then(async () => (await admin.members()).find((member) => member.isLearner))
    expect(learner).toMatchObject({ name: '', peerUrls: [fourth.peerUrl] })
    const id = learner?.id ?? ''
    await expect(admin.addLearner([fourth.peerUrl])).rejects.toMatchObject({ kind: 'already so' })
    await expect(admin.promote(id)).rejects.toMatchObject({ kind: 'not yet', sent: false })
    fourth.start(initial, 'existing')
    await expect
      .poll(
        () =>
          admin.promote(id).then(
            () => true,
            () => false,
          ),
        { timeout: 20_000 },
      )
      .toBe(true)
    // While the fourth one's connections come to be, changes of members are refused for that.
    const kindOf = (error: { kind: string }): string => error.kind
    await expect.poll(() => admin.promote(id).catch(kindOf), { timeout: 15_000 }).toBe('already so')
    await admin.update(id, [fourth.peerUrl])
    await admin.remove(id)
    await expect(admin.remove(id)).rejects.toMatchObject({ kind: 'no such member' })
    await fourth.kill()
    cluster.members.pop()
    expect((await admin.members()).length).toBe(3)
  })
})

describe('space', { timeout: 90_000 }, () => {
  let cluster: EtcdCluster
  beforeAll(async () => {
    const flags = [`--quota-backend-bytes=${16 * MIB}`]
    cluster = await EtcdCluster.start({ directory: directory(), members: 1, flags })
  }, 60_000)
  afterAll(() => cluster.remove())

  it('over the quota only deletes pass, and puts that lie in nested transactions alone; it is won back (C19)', async () => {
    const etcd = await clientOf({ endpoints: cluster.endpoints })
    const admin = adminOf(cluster.endpoints)
    const [endpoint] = cluster.endpoints as [string]
    const fill = async (): Promise<never> => {
      for (let index = 0; ; index++) await write(etcd, put(bytes(`fill-${index % 4}`), Buffer.alloc(MIB)))
    }
    await expect(fill()).rejects.toMatchObject({ kind: 'no space', sent: true })
    const status = await admin.status(endpoint)
    expect(await admin.alarms()).toEqual([{ kind: 'no space', memberId: status.memberId }])
    await expect(write(etcd, put(bytes('small'), ''))).rejects.toMatchObject({ kind: 'no space', sent: true })
    await expect(etcd.grantLease(60)).rejects.toMatchObject({ kind: 'no space' })
    // etcd's gap: what a transaction takes is added up over its outermost level alone.
    const inner = { compares: [], success: [put(bytes('nested'), 'passes')], failure: [] }
    await write(etcd, { kind: 'transaction', transaction: inner })
    const { revision } = await write(etcd, { kind: 'delete', range: { start: bytes('fill-1'), end: bytes('fill-9') } })
    await admin.compact(revision)
    await admin.compact(revision)
    await admin.defragment(endpoint, 30_000)
    for (const alarm of await admin.alarms()) await admin.disarm(alarm)
    expect(await admin.alarms()).toEqual([])
    await write(etcd, put(bytes('small'), ''))
    const after = await admin.status(endpoint)
    expect(after.dbBytes).toBeLessThan(status.dbBytes / 2)
  })

  it('a snapshot is a database and the checksum of it', async () => {
    const admin = adminOf(cluster.endpoints)
    const pieces: Uint8Array[] = []
    for await (const piece of admin.snapshot(cluster.endpoints[0] ?? '', 30_000)) pieces.push(piece)
    const whole = Buffer.concat(pieces)
    const [database, sum] = [whole.subarray(0, -32), whole.subarray(-32)]
    expect(createHash('sha256').update(database).digest()).toEqual(sum)
  })
})

describe('TLS and users', { timeout: 90_000 }, () => {
  const keys = directory()
  const authority = new CertificateAuthority(keys)
  const others = new CertificateAuthority(directory())
  let cluster: EtcdCluster

  const clusterWith = (options: Partial<ClusterOptions>): Promise<EtcdCluster> =>
    EtcdCluster.start({ directory: directory(), members: 1, ...options })
  const works = (etcd: Etcd): Promise<boolean> =>
    etcd.range({ range: EVERYTHING, limit: 1 }).then(
      () => true,
      () => false,
    )

  describe('a member that wants certificates', () => {
    beforeAll(async () => {
      const tls = { ...authority.sign('member'), clientAuthority: authority.certificate }
      cluster = await clusterWith({ tls })
    }, 60_000)
    afterAll(() => cluster.remove())

    it('serves a client of the same authority, and no other', async () => {
      const { certificate: certificatePath, key: keyPath } = authority.sign('client')
      const authorityPath = authority.certificate
      const { endpoints } = cluster
      const short = { endpoints, callTimeoutMs: 1_000 }
      expect(await works(await clientOf({ endpoints, tls: { authorityPath, certificatePath, keyPath } }))).toBe(true)
      expect(await works(await clientOf({ ...short, tls: { authorityPath } }))).toBe(false)
      const wrong = others.sign('client')
      const withWrong = { authorityPath, certificatePath: wrong.certificate, keyPath: wrong.key }
      expect(await works(await clientOf({ ...short, tls: withWrong }))).toBe(false)
      const strange = { authorityPath: others.certificate, certificatePath, keyPath }
      expect(await works(await clientOf({ ...short, tls: strange }))).toBe(false)
      expect(await works(await clientOf({ ...short, endpoints: [endpoints[0]?.replace('https', 'http') ?? ''] }))).toBe(
        false,
      )
    })

    it('is asked with a certificate that was renewed in place', async () => {
      const wrong = others.sign('renewed')
      const { certificate: certificatePath, key: keyPath } = wrong
      // A client whose files are replaced by good ones: those of the same names, signed by the right authority.
      const good = authority.sign('renewed')
      execFileSync('cp', [certificatePath, join(keys, 'replaced.pem')])
      execFileSync('cp', [keyPath, join(keys, 'replaced.key')])
      const tls = {
        authorityPath: authority.certificate,
        certificatePath: join(keys, 'replaced.pem'),
        keyPath: join(keys, 'replaced.key'),
      }
      const etcd = await clientOf({ endpoints: cluster.endpoints, callTimeoutMs: 1_000, tls })
      expect(await works(etcd)).toBe(false)
      execFileSync('cp', [good.certificate, tls.certificatePath])
      execFileSync('cp', [good.key, tls.keyPath])
      await expect.poll(() => works(etcd), { timeout: 20_000 }).toBe(true)
    })
  })

  describe('a cluster with users', () => {
    beforeAll(async () => {
      cluster = await clusterWith({ flags: ['--auth-token-ttl=2'] })
      // Through the JSON gateway that every member has on its client port.
      const ask = async (path: string, body: object): Promise<void> => {
        const url = `${cluster.endpoints[0]}/v3/auth/${path}`
        const response = await fetch(url, { method: 'POST', body: JSON.stringify(body) })
        if (!response.ok) throw new Error(`${path}: ${await response.text()}`)
      }
      const base64 = (key: string): string => Buffer.from(key).toString('base64')
      await ask('user/add', { name: 'root', password: 'root-password' })
      await ask('user/add', { name: 'tidegate', password: 'its password' })
      await ask('role/add', { name: 'writer' })
      const perm = { permType: 'READWRITE', key: base64('a'), range_end: base64('n') }
      await ask('role/grant', { name: 'writer', perm })
      await ask('user/grant', { user: 'tidegate', role: 'writer' })
      await ask('user/grant', { user: 'root', role: 'root' })
      await ask('enable', {})
    }, 60_000)
    afterAll(() => cluster.remove())
    const permitted = { start: bytes('a'), end: bytes('n') }
    const login = { user: 'tidegate', password: new Secret('its password') }

    it('refuses who gives no password or a wrong one, and what is not permitted', async () => {
      const refused = { kind: 'refused', sent: false }
      const { endpoints } = cluster
      const nobody = await clientOf({ endpoints })
      await expect(write(nobody, put(bytes('a'), ''))).rejects.toMatchObject(refused)
      await expect(nobody.range({ range: permitted, limit: 1 })).rejects.toMatchObject(refused)
      const wrong = await clientOf({ endpoints, login: { user: 'tidegate', password: new Secret('another') } })
      await expect(write(wrong, put(bytes('a'), ''))).rejects.toMatchObject(refused)
      const etcd = await clientOf({ endpoints, login })
      await write(etcd, put(bytes('a'), ''))
      await expect(write(etcd, put(bytes('n'), ''))).rejects.toMatchObject(refused)
      expect(await follow(etcd, 1).ended).toMatchObject(refused)
      expect(await follow(nobody, 1).ended).toMatchObject(refused)
    })

    it('gives a new token when one has run out, and when the member was started again', async () => {
      const etcd = await clientOf({ endpoints: cluster.endpoints, login })
      const { revision } = await write(etcd, put(bytes('b'), ''))
      await new Promise((resolve) => setTimeout(resolve, 4_500))
      await write(etcd, put(bytes('c'), ''))
      const [member] = cluster.members as [EtcdMember]
      await member.kill()
      member.start(cluster.initial, 'existing')
      await cluster.waitHealthy()
      await write(etcd, put(bytes('d'), ''))
      const controller = new AbortController()
      const keys: string[] = []
      for await (const batch of etcd.watch(permitted, revision, controller.signal)) {
        keys.push(...batch.map((change) => change.key))
        if (keys.length === 3) break
      }
      expect(keys).toEqual(['b', 'c', 'd'])
      await new Promise((resolve) => setTimeout(resolve, 4_500))
      const again = etcd.watch(permitted, revision, controller.signal)[Symbol.asyncIterator]()
      // It has begun at a member.
      expect((await again.next()).value).toEqual([])
      expect((await again.next()).value?.length).toBeGreaterThan(0)
      controller.abort()
    })
  })
})
