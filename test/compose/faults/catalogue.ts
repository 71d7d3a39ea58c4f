/** Every fault that a cluster of containers is put through, by name. */
import { must } from '../../../src/common/assert.ts'
import type { Random } from '../../model/random.ts'
import type { Container } from '../project.ts'
import { leaderOf } from './etcd-leader.ts'
import { faultOf, type Afterwards, type Fault } from './fault.ts'
import type { NodeClocks } from './node-clocks.ts'
import { cutBothWays, cutOff, cutOneWay } from './partitions.ts'
import { killEtcd, killNode, pauseEtcd, pauseNode, restartInTurn } from './processes.ts'
import { slowLink, type LinkSpeed } from './slow-links.ts'
import type { SmallVolume } from './small-volume.ts'

export interface FaultyCluster {
  readonly nodes: readonly Container[]
  /** The S3 behind them. */
  readonly store: Container
  /** Data volumes that can be filled, by the service that has them. */
  readonly smallVolumes: ReadonlyMap<string, SmallVolume>
  readonly clocks: NodeClocks
}

const HOUR_MS = 3_600_000
/** So slow that the load notices, and quick enough for etcd's heartbeats. */
const SLOW: LinkSpeed = { bitsPerSecond: 8_000_000, burstBytes: 64 * 1024 }

type Act = (afterwards: Afterwards) => Promise<void>

interface Planned {
  readonly on: string
  readonly act: Act
}

/** What is drawn is drawn here, so that the same seed gives the same faults whatever happens when they begin. */
const FAULTS = {
  'node killed': (cluster, random) => onNode(cluster, random, killNode),
  'etcd killed': (cluster, random) => onNode(cluster, random, killEtcd),
  'leader etcd killed': ({ nodes }) => ({
    on: 'whoever leads',
    act: async (afterwards) => await killEtcd(await leaderOf(nodes), afterwards),
  }),
  'node paused': (cluster, random) => onNode(cluster, random, pauseNode),
  'etcd paused': (cluster, random) => onNode(cluster, random, pauseEtcd),
  'node cut off': (cluster, random) =>
    onNode(
      cluster,
      random,
      async (node, afterwards) => await cutOff(node, ['hears nobody', 'heard by nobody'], afterwards),
    ),
  'node hears nobody': (cluster, random) =>
    onNode(cluster, random, async (node, afterwards) => await cutOff(node, ['hears nobody'], afterwards)),
  'node heard by nobody': (cluster, random) =>
    onNode(cluster, random, async (node, afterwards) => await cutOff(node, ['heard by nobody'], afterwards)),
  'two nodes cut from each other': (cluster, random) => {
    const [one, other] = twoOf(cluster.nodes, random)
    return {
      on: `${one.service} and ${other.service}`,
      act: async (afterwards) => await cutBothWays([one], [other], afterwards),
    }
  },
  'one node does not hear another': (cluster, random) => {
    const [deaf, speaker] = twoOf(cluster.nodes, random)
    return {
      on: `${deaf.service} of ${speaker.service}`,
      act: async (afterwards) => await cutOneWay(deaf, speaker, afterwards),
    }
  },
  'node cut from the store': (cluster, random) =>
    onNode(cluster, random, async (node, afterwards) => await cutBothWays([node], [cluster.store], afterwards)),
  'slow links': ({ nodes }) => ({
    on: 'all nodes',
    act: async (afterwards) => {
      for (const node of nodes) await slowLink(node, SLOW, afterwards)
    },
  }),
  'disk full': ({ smallVolumes }, random) => {
    const on = random.pick([...smallVolumes.keys()])
    return { on, act: async (afterwards) => await diskFull(must(smallVolumes.get(on), on), afterwards) }
  },
  'clock forward': (cluster, random) => clockJumps(cluster, random, HOUR_MS),
  'clock back': (cluster, random) => clockJumps(cluster, random, -HOUR_MS),
  'rolling restart': ({ nodes }) => ({
    on: 'all nodes',
    act: async (afterwards) => await restartInTurn(nodes, afterwards),
  }),
} as const satisfies Record<string, (cluster: FaultyCluster, random: Random) => Planned>

export type FaultName = keyof typeof FAULTS

export const FAULT_NAMES: readonly FaultName[] = Object.keys(FAULTS) as FaultName[]

export function faultNamed(name: FaultName, cluster: FaultyCluster, random: Random): Fault {
  const { on, act } = FAULTS[name](cluster, random)
  return faultOf({ name, on, begin: act })
}

function onNode(
  { nodes }: FaultyCluster,
  random: Random,
  act: (node: Container, afterwards: Afterwards) => Promise<void>,
): Planned {
  const node = random.pick(nodes)
  return { on: node.service, act: async (afterwards) => await act(node, afterwards) }
}

function twoOf(nodes: readonly Container[], random: Random): [Container, Container] {
  const one = random.pick(nodes)
  return [one, random.pick(nodes.filter((node) => node !== one))]
}

async function diskFull(volume: SmallVolume, afterwards: Afterwards): Promise<void> {
  afterwards(async () => await Promise.resolve(volume.empty()))
  await volume.fill()
}

function clockJumps({ clocks }: FaultyCluster, random: Random, byMs: number): Planned {
  const on = random.pick(clocks.services)
  return {
    on,
    act: async (afterwards) => {
      afterwards(async () => await Promise.resolve(clocks.jump(on, 0)))
      clocks.jump(on, byMs)
      await Promise.resolve()
    },
  }
}
