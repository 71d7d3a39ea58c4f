/**
 * What befalls gateways and the members of their etcd while clients work, as a seed says: each fault begins after so many operations, lasts so long, and
 * is over before the next begins.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { must } from '../../src/common/assert.ts'
import type { Random } from '../model/random.ts'
import type { CuttableNetwork } from '../support/cuttable-network.ts'
import type { EtcdCluster, EtcdMember } from '../support/etcd-member.ts'

export const FAULTS = [
  'member killed',
  'leader killed',
  'member paused',
  'leader paused',
  'majority paused',
  'member cut off',
  'leader cut off',
  'leader heard by nobody',
  'leader hears nobody',
  'two members cut from each other',
  'gateway cut from a member',
  'gateway cut from all members',
  'members not heard by a gateway',
  'gateway paused',
  'gateway killed',
] as const

/** Longer than anybody waits for etcd: what is on its way then is answered with an unknown outcome, and nothing else is done. */
export const LONG_FAULTS = ['majority paused for long', 'gateway cut from all members for long'] as const

/** Of nodes that keep bytes for each other: none of these takes a majority of etcd away. */
export const NODE_FAULTS = ['gateway killed', 'gateway paused', 'gateway killed', 'leader killed'] as const

/** Longer than a node may be away: it is fenced, and what it had is taken over. Is it paused, it ends once it goes on. */
export const LOST_NODE_FAULTS = ['gateway lost', 'gateway paused until it is lost'] as const

export type Fault = (typeof FAULTS)[number] | (typeof LONG_FAULTS)[number] | (typeof LOST_NODE_FAULTS)[number]

export interface PlannedFault {
  readonly fault: Fault
  readonly afterOperations: number
  readonly lastsMs: number
  /** Of the member, or the gateway; the leader is whoever leads then. */
  readonly target: number
}

/** The lease of a node, and its grace where there are such faults. */
const LOST_AFTER_MS = 17_000
const LASTS_MS = { min: 300, max: 3_000 }
const LONG_MS = [8_000, 24_000] as const
/** Of the faults, where long ones are wanted. */
const LONG_SHARE = 1 / 16
const LOST_NODE_SHARE = 1 / 3
/** How long a look at who leads may take. */
const LOOK_MS_MAX = 500

/** Gateways, by index. */
export interface FaultyGateways {
  readonly count: number
  name(gateway: number): string
  pause(gateway: number): void
  resume(gateway: number): void
  kill(gateway: number): Promise<void>
  /** Whether it ends by itself. */
  ends(gateway: number): Promise<boolean>
  start(gateway: number): Promise<void>
}

export interface Surroundings {
  readonly cluster: EtcdCluster
  readonly network: CuttableNetwork
  readonly gateways: FaultyGateways
}

export interface FaultPlan {
  readonly count: number
  readonly operations: number
  readonly kinds: readonly Fault[]
  /** What those are taken from that last longer; by default `LONG_FAULTS`. */
  readonly longKinds?: readonly Fault[] | undefined
  /** Now and then one lasts longer than anybody waits. */
  readonly long?: boolean | undefined
}

/** Faults spread over the first part of that many operations. */
export function planFaults(random: Random, plan: FaultPlan): PlannedFault[] {
  const { count, operations, kinds, longKinds, long = false } = plan
  const span = Math.floor((operations * 0.8) / count)
  return Array.from({ length: count }, (_, index) => {
    const isLong = long && random.chance(longKinds === undefined ? LONG_SHARE : LOST_NODE_SHARE)
    return {
      fault: random.pick(isLong ? (longKinds ?? LONG_FAULTS) : kinds),
      afterOperations: index * span + random.below(span),
      lastsMs: isLong ? random.pick(LONG_MS) : LASTS_MS.min + random.below(LASTS_MS.max - LASTS_MS.min),
      target: random.below(6),
    }
  })
}

export class FaultDriver {
  readonly #surroundings: Surroundings
  readonly #planned: PlannedFault[]
  #operations = 0
  #working: Promise<void> = Promise.resolve()

  constructor(surroundings: Surroundings, planned: readonly PlannedFault[]) {
    this.#surroundings = surroundings
    this.#planned = [...planned]
  }

  /** To be told of every operation that is over. */
  operationDone(): void {
    this.#operations++
    while (this.#planned[0] !== undefined && this.#planned[0].afterOperations < this.#operations) {
      const next = must(this.#planned.shift(), 'a planned fault')
      const before = this.#working
      this.#working = this.#after(before, next)
      this.#working.catch(() => undefined)
    }
  }

  /** Resolves when all is well again. */
  async done(): Promise<void> {
    await this.#working
    await this.#surroundings.cluster.waitHealthy()
  }

  async #after(before: Promise<void>, next: PlannedFault): Promise<void> {
    await before
    await this.#make(next)
  }

  async #make({ fault, lastsMs, target }: PlannedFault): Promise<void> {
    const { cluster, gateways } = this.#surroundings
    const member = must(cluster.members[target % cluster.members.length], 'member')
    const gateway = target % gateways.count
    switch (fault) {
      case 'member killed':
        return await this.#killed(member, lastsMs)
      case 'leader killed':
        return await this.#killed(await this.#leader(member), lastsMs)
      case 'member paused':
        return await this.#paused([member], lastsMs)
      case 'leader paused':
        return await this.#paused([await this.#leader(member)], lastsMs)
      case 'majority paused':
      case 'majority paused for long':
        return await this.#paused(this.#othersOf(member), lastsMs)
      case 'member cut off':
        return await this.#cut(this.#between(member, 'both'), lastsMs)
      case 'leader cut off':
        return await this.#cut(this.#between(await this.#leader(member), 'both'), lastsMs)
      case 'leader heard by nobody':
        return await this.#cut(this.#between(await this.#leader(member), 'out'), lastsMs)
      case 'leader hears nobody':
        return await this.#cut(this.#between(await this.#leader(member), 'in'), lastsMs)
      case 'two members cut from each other':
        return await this.#cut(bothWays(this.#othersOf(member).map(({ name }) => name)), lastsMs)
      case 'gateway cut from a member':
        return await this.#cut(bothWays([gateways.name(gateway), member.name]), lastsMs)
      case 'gateway cut from all members':
      case 'gateway cut from all members for long':
        return await this.#cut(
          cluster.members.flatMap(({ name }) => bothWays([gateways.name(gateway), name])),
          lastsMs,
        )
      case 'members not heard by a gateway':
        return await this.#cut(
          cluster.members.map(({ name }) => [name, gateways.name(gateway)]),
          lastsMs,
        )
      case 'gateway paused':
        gateways.pause(gateway)
        await sleep(lastsMs)
        return gateways.resume(gateway)
      case 'gateway lost':
        await gateways.kill(gateway)
        await sleep(LOST_AFTER_MS + lastsMs / 4)
        return await gateways.start(gateway)
      case 'gateway paused until it is lost':
        gateways.pause(gateway)
        await sleep(LOST_AFTER_MS + lastsMs / 4)
        gateways.resume(gateway)
        if (!(await gateways.ends(gateway))) throw new Error(`${gateways.name(gateway)} was lost, and goes on`)
        return await gateways.start(gateway)
      case 'gateway killed':
        await gateways.kill(gateway)
        await sleep(lastsMs / 4)
        return await gateways.start(gateway)
    }
  }

  async #killed(member: EtcdMember, lastsMs: number): Promise<void> {
    await member.kill()
    await sleep(lastsMs)
    member.start(this.#surroundings.cluster.initial)
    await member.waitHealthy()
  }

  async #paused(members: readonly EtcdMember[], lastsMs: number): Promise<void> {
    for (const member of members) member.pause()
    await sleep(lastsMs)
    for (const member of members) member.resume()
  }

  async #cut(directions: readonly Direction[], lastsMs: number): Promise<void> {
    const { network } = this.#surroundings
    for (const [from, to] of directions) network.cut(from, to)
    await sleep(lastsMs)
    network.heal()
  }

  /** Directions between a member and the others. */
  #between(member: EtcdMember, which: 'both' | 'in' | 'out'): Direction[] {
    return this.#othersOf(member).flatMap(({ name }) => {
      const [out, into] = bothWays([member.name, name])
      return which === 'both' ? [out, into] : [which === 'out' ? out : into]
    })
  }

  #othersOf(member: EtcdMember): EtcdMember[] {
    return this.#surroundings.cluster.members.filter((other) => other !== member)
  }

  /** Whoever leads now, as far as that one knows; itself if it knows nothing. */
  async #leader(member: EtcdMember): Promise<EtcdMember> {
    const { cluster, network } = this.#surroundings
    const idHex = await leaderId(member).catch(() => undefined)
    const name = idHex === undefined ? undefined : network.nameOf(idHex)
    return cluster.members.find((candidate) => candidate.name === name) ?? member
  }
}

type Direction = readonly [from: string, to: string]

function bothWays(names: readonly string[]): readonly [Direction, Direction] {
  const [one = '', other = ''] = names
  return [
    [one, other],
    [other, one],
  ]
}

async function leaderId(member: EtcdMember): Promise<string | undefined> {
  const { leader } = await ask<{ leader?: string }>(member, 'maintenance/status')
  return leader === undefined || leader === '0' ? undefined : BigInt(leader).toString(16)
}

/** Tells the network which member is which. */
export async function nameMembers({ cluster, network }: Surroundings): Promise<void> {
  const { members } = await ask<{ members: readonly { ID: string; name: string }[] }>(
    must(cluster.members[0], 'member'),
    'cluster/member/list',
  )
  for (const { ID, name } of members) network.nameMember(BigInt(ID).toString(16), name)
}

/** etcd's API in JSON, which it has beside gRPC. */
async function ask<Answer>(member: EtcdMember, what: string): Promise<Answer> {
  const signal = AbortSignal.timeout(LOOK_MS_MAX)
  const response = await fetch(`${member.endpoint}/v3/${what}`, { method: 'POST', body: '{}', signal })
  return (await response.json()) as Answer
}
