/** The register of nodes over etcd in memory, by a clock that is moved by hand. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { NodeMember } from '../../../../../src/common/node-view.ts'
import { EtcdLayout, onlyKey } from '../../../../../src/meta/raft/layout.ts'
import { decodeMember, encodeMember } from '../../../../../src/meta/raft/nodes/member-row.ts'
import { NodeRegister } from '../../../../../src/meta/raft/nodes/register.ts'
import { readNodeSecret } from '../../../../../src/meta/raft/nodes/secret.ts'
import { HandClock, turn } from '../../../../conformance/hand-clock.ts'
import { FakeEtcd, type FakeEtcdClient } from '../../../../support/fake-etcd.ts'

const layout = new EtcdLayout('/test/')
const LEASE_MS = 10_000
/** So long a register that says something for the last time waits for etcd. */
const TELL_MS_MAX = 2_000

let clock: HandClock
let etcd: FakeEtcd
let registers: NodeRegister[]
const troubles: (string | undefined)[] = []

beforeEach(() => {
  clock = new HandClock()
  etcd = new FakeEtcd({ clock, callTimeoutMs: 1_000 })
  registers = []
  troubles.length = 0
})

afterEach(async () => {
  const stopped = Promise.all(registers.map((register) => register.stop()))
  await pass(LEASE_MS)
  await stopped
})

function memberOf(number: number, life = 1): NodeMember {
  return {
    number,
    name: `n${number}`,
    incarnation: `${number}${life}`.padStart(16, '0'),
    address: `127.0.0.1:${7_000 + number}`,
    weight: 100,
    labels: { zone: 'a' },
    state: 'starting',
    version: '0.1.0',
  }
}

/** Time passes in steps, and everybody has turns in between. */
async function pass(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 250) {
    await clock.advance(Math.min(250, left))
    for (let turns = 0; turns < 5; turns++) await turn()
  }
}

async function client(): Promise<FakeEtcdClient> {
  const made = etcd.client()
  await made.start()
  return made
}

async function join(number: number, life = 1): Promise<{ register: NodeRegister; client: FakeEtcdClient }> {
  const own = await client()
  const onTrouble = (reason: string | undefined): void => void troubles.push(reason)
  const register = new NodeRegister({ etcd: own, layout, clock, member: memberOf(number, life), onTrouble })
  registers.push(register)
  await register.start()
  return { register, client: own }
}

function seenBy({ register }: { register: NodeRegister }): string {
  return register
    .members()
    .map(({ number, state }) => `${number} ${state}`)
    .join(', ')
}

/** As it lies in etcd. */
async function rowOf(number: number): Promise<NodeMember | undefined> {
  const { rows } = await (await client()).range({ range: onlyKey(layout.member(number)), limit: 1 })
  return rows[0] && decodeMember(number, rows[0].value)
}

describe('the register of nodes', () => {
  it('shows who is there, in order, and what becomes of them', async () => {
    const two = await join(2)
    let changes = 0
    const end = two.register.onChange(() => changes++)
    const one = await join(1)
    expect(seenBy(one)).toBe('1 starting, 2 starting')
    await pass(250)
    expect(seenBy(two)).toBe('1 starting, 2 starting')
    expect(two.register.member(1)).toEqual(memberOf(1))
    expect([two.register.self, changes]).toEqual([2, 1])
    await one.register.setState('serving')
    expect(seenBy(one)).toBe('1 serving, 2 starting')
    await pass(250)
    expect(seenBy(two)).toBe('1 serving, 2 starting')
    end()
    await one.register.setState('leaving')
    await pass(250)
    expect([seenBy(two), changes]).toEqual(['1 leaving, 2 starting', 2])
    await one.register.stop()
    await pass(250)
    expect(seenBy(two)).toBe('2 starting')
    expect(await rowOf(1)).toBeUndefined()
  })

  it('keeps its lease for as long as it runs; that of a process that died runs out', async () => {
    const one = await join(1)
    const two = await join(2)
    await pass(5 * LEASE_MS)
    expect([seenBy(one), seenBy(two)]).toEqual(['1 starting, 2 starting', '1 starting, 2 starting'])
    two.client.reachable = false
    await pass(LEASE_MS - 4_000)
    expect(seenBy(one)).toBe('1 starting, 2 starting')
    await pass(5_000)
    expect(seenBy(one)).toBe('1 starting')
  })

  it('counts nobody gone because it is blind itself, and puts its row again when it sees', async () => {
    const one = await join(1)
    const two = await join(2)
    await pass(500)
    one.client.reachable = false
    await pass(3 * LEASE_MS)
    expect(seenBy(one)).toBe('1 starting, 2 starting')
    expect(seenBy(two)).toBe('2 starting')
    expect(troubles).toHaveLength(1)
    // What it is meanwhile told of later.
    const told = one.register.setState('serving')
    one.client.reachable = true
    await pass(2_000)
    await told
    expect([seenBy(one), seenBy(two)]).toEqual(['1 serving, 2 starting', '1 serving, 2 starting'])
    expect(troubles).toEqual([expect.stringContaining('etcd'), undefined])
  })

  it('after etcd was restored from before there was anybody, has everybody again, and none was gone in between', async () => {
    const before = etcd.backup()
    const one = await join(1)
    const two = await join(2)
    await pass(1_000)
    let isAlone = false
    one.register.onChange(() => (isAlone ||= one.register.members().length < 2))
    etcd.restore(before)
    await pass(LEASE_MS)
    expect((await rowOf(1))?.number).toBe(1)
    expect((await rowOf(2))?.number).toBe(2)
    await pass(2 * LEASE_MS)
    expect([seenBy(one), seenBy(two)]).toEqual(['1 starting, 2 starting', '1 starting, 2 starting'])
    expect(isAlone).toBe(false)
  })

  it('counts who is missing after a restore as gone once a lease has passed', async () => {
    const before = etcd.backup()
    const one = await join(1)
    const two = await join(2)
    await pass(1_000)
    two.client.reachable = false
    etcd.restore(before)
    await pass(LEASE_MS - 2_000)
    expect(seenBy(one)).toBe('1 starting, 2 starting')
    await pass(2 * LEASE_MS)
    expect(seenBy(one)).toBe('1 starting')
  })

  it('sees changes without a watch as well', async () => {
    const one = await join(1)
    one.client.hold()
    const two = await join(2)
    await two.register.setState('serving')
    await pass(9_000)
    // A held member answers linearizable reads all the same.
    await pass(2_000)
    expect(seenBy(one)).toBe('1 starting, 2 serving')
    one.client.release()
  })

  it('believes the watch before a look that was answered earlier and arrives later', async () => {
    const one = await join(1)
    const two = await join(2)
    await pass(500)
    expect(seenBy(one)).toBe('1 starting, 2 starting')
    const looks: number[] = []
    etcd.planner = ({ client, request }) => {
      if (client !== one.client || request?.range.start !== layout.members.start) return undefined
      looks.push(clock.monotonicMs())
      return { afterMs: 750 }
    }
    for (let steps = 0; looks.length === 0 && steps < 80; steps++) await pass(250)
    expect(looks).toHaveLength(1)
    await two.register.stop()
    await pass(250)
    expect(seenBy(one)).toBe('1 starting')
    await pass(1_000)
    expect(seenBy(one)).toBe('1 starting')
  })

  it('goes on where a watch failed, or what it missed was compacted', async () => {
    const one = await join(1)
    one.client.failWatches('compacted')
    const two = await join(2)
    etcd.compact()
    await pass(1_000)
    expect(seenBy(one)).toBe('1 starting, 2 starting')
    await two.register.setState('serving')
    await pass(250)
    expect(seenBy(one)).toBe('1 starting, 2 serving')
  })

  it('puts the row of a process that was there before over, and leaves alone that of a later one', async () => {
    const old = await join(1)
    await join(1, 2)
    for (let passedMs = 0; passedMs <= 2 * LEASE_MS; passedMs += 250) {
      expect((await rowOf(1))?.incarnation).toBe(memberOf(1, 2).incarnation)
      await pass(250)
    }
    const stopped = old.register.stop()
    await pass(1_000)
    await stopped
    expect((await rowOf(1))?.incarnation).toBe(memberOf(1, 2).incarnation)
  })

  it('does not start without etcd', async () => {
    const own = await client()
    own.reachable = false
    const register = new NodeRegister({ etcd: own, layout, clock, member: memberOf(1) })
    await expect(register.start()).rejects.toMatchObject({ code: 'Unavailable' })
    await register.stop()
  })

  it('says that it leaves, and ends, without waiting long for an etcd that answers nothing', async () => {
    const answers = await client()
    let isSilent = false
    const silence = new Promise<never>(() => undefined)
    const own = new Proxy(answers, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target)
        if (typeof value !== 'function') return value
        return (...given: unknown[]): unknown => (isSilent ? silence : (Reflect.apply(value, target, given) as unknown))
      },
    })
    const register = new NodeRegister({ etcd: own, layout, clock, member: memberOf(1) })
    await register.start()
    isSilent = true
    let done = 0
    const count = (): void => void done++
    void register.setState('leaving').then(count)
    await pass(TELL_MS_MAX - 250)
    expect(done).toBe(0)
    await pass(500)
    expect(done).toBe(1)
    expect(register.member(1)?.state).toBe('leaving')
    void register.stop().then(count)
    await pass(TELL_MS_MAX + 250)
    expect(done).toBe(2)
  })

  it('is known over the quota of etcd too', async () => {
    etcd.noSpaceAlarm = true
    await join(1)
    expect(await rowOf(1)).toEqual(memberOf(1))
  })

  it('takes rows that cannot be read for nobody', async () => {
    const one = await join(1)
    const own = await client()
    const write = async (value: string): Promise<void> => {
      const put = { kind: 'put', key: layout.member(2), value: Buffer.from(value) } as const
      await own.transact({ compares: [], success: [put], failure: [] })
      await pass(250)
    }
    const good = JSON.parse(Buffer.from(encodeMember(memberOf(2))).toString()) as object
    await write(JSON.stringify(good))
    expect(seenBy(one)).toBe('1 starting, 2 starting')
    const wrong = [
      { state: 'dead' },
      { weight: -1 },
      { weight: '1' },
      { labels: { a: 1 } },
      { labels: [] },
      { address: 7 },
    ]
    for (const text of ['', 'null', '[]', '{', '{}', ...wrong.map((one) => JSON.stringify({ ...good, ...one }))]) {
      await write(JSON.stringify(good))
      expect(seenBy(one)).toBe('1 starting, 2 starting')
      await write(text)
      expect(seenBy(one), text).toBe('1 starting')
    }
    await write(JSON.stringify({ ...good, later: true }))
    expect(one.register.member(2)).toEqual(memberOf(2))
  })
})

describe('the secret', () => {
  it('is made once, whoever comes first, and made anew where it was cut short', async () => {
    const [a, b] = [await client(), await client()]
    let random = 0
    const fillRandom = (bytes: Uint8Array): void => void bytes.fill(++random)
    const read = (by: FakeEtcdClient): Promise<Uint8Array> => readNodeSecret({ etcd: by, layout, fillRandom })
    const [first, second] = await Promise.all([read(a), read(b)])
    expect(first).toHaveLength(32)
    expect(second).toEqual(first)
    expect(await read(b)).toEqual(first)
    const put = { kind: 'put', key: layout.secret, value: Buffer.alloc(3) } as const
    await a.transact({ compares: [], success: [put], failure: [] })
    const [third, fourth] = await Promise.all([read(a), read(b)])
    expect(third).toHaveLength(32)
    expect(third).not.toEqual(first)
    expect(fourth).toEqual(third)
  })
})
