/** What `tidegate status` shows (gateway/admin/status.ts), from the engine and from what this node knows of the others. Part of the composition root. */
import type { Clock } from './common/clock.ts'
import type { NodeMember, NodeView } from './common/node-view.ts'
import type { Engine } from './engine.ts'
import type {
  BacklogView,
  HoldingsView,
  LostNodeView,
  NodeStatusView,
  StatusSource,
  TiersView,
} from './gateway/admin/status.ts'
import type { FabricSums, NeighbourFigures } from './neighbour-metrics.ts'
import type { Copies } from './persist/copies/ports.ts'
import type { PeerFigures, Transport } from './rdma/ports.ts'
import { SegmentTotalsCounter } from './segment-totals.ts'

export interface StatusParts {
  readonly engine: Pick<Engine, 'memory' | 'diskLevel' | 'readHealth' | 'names' | 'writeBehind' | 'orderedStore'>
  readonly slabBytes: number
  readonly version: string
  readonly clock: Clock
  /** Why nothing, or only reads, can be served. */
  readonly trouble: () => string | undefined
  readonly neighbours: NeighbourStatus | undefined
}

/** What is known of the others, where metadata are shared. */
export interface NeighbourStatus {
  readonly view: NodeView
  readonly figures: () => NeighbourFigures
  /** Of those that there was a reason to call. */
  readonly peer: (node: number) => Pick<PeerFigures, 'connected' | 'roundTripMs' | 'fabric'> | undefined
  readonly lost: () => readonly LostNodeView[]
  readonly copiesHere: () => { readonly segments: number; readonly bytes: number }
  readonly isRemoteShared: boolean
}

export interface NeighbourStatusParts {
  readonly view: NodeView
  readonly transport: Pick<Transport, 'figures'>
  /** Of the neighbour level. */
  readonly asked: () => Pick<NeighbourFigures, 'hits' | 'misses' | 'timeouts' | 'badPages'>
  readonly copies: Pick<Copies, 'status'> | undefined
  readonly lost: () => readonly LostNodeView[]
  readonly isRemoteShared: boolean
}

export function neighbourStatus(parts: NeighbourStatusParts): NeighbourStatus {
  const { view, transport, copies, lost, isRemoteShared } = parts
  return {
    view,
    lost,
    isRemoteShared,
    figures: () => neighbourFigures(parts),
    peer: (node) => transport.figures.peers.find((peer) => peer.node === node),
    copiesHere: () => {
      const { heldSegments = 0, heldBytes = 0 } = copies?.status() ?? {}
      return { segments: heldSegments, bytes: heldBytes }
    },
  }
}

function neighbourFigures({ transport, asked, copies }: NeighbourStatusParts): NeighbourFigures {
  const { peers } = transport.figures
  const { hits, misses, timeouts, badPages } = asked()
  return {
    hits,
    misses,
    timeouts,
    badPages,
    // Of the connections, so that copies count as well.
    bytesIn: peers.reduce((sum, peer) => sum + peer.bytesIn, 0),
    bytesOut: peers.reduce((sum, peer) => sum + peer.bytesOut, 0),
    peers: peers.filter(({ connected }) => connected).length,
    copiesWaiting: copies?.status().wantingCopies ?? 0,
    fabric: fabricSums(peers),
  }
}

function fabricSums(peers: readonly PeerFigures[]): FabricSums {
  const sums = { peers: 0, reads: 0, writes: 0, bytesRead: 0, bytesWritten: 0, fallbacks: 0 }
  for (const { fabric } of peers) {
    if (fabric === undefined) continue
    sums.peers += fabric.isUsed ? 1 : 0
    sums.reads += fabric.reads
    sums.writes += fabric.writes
    sums.bytesRead += fabric.bytesRead
    sums.bytesWritten += fabric.bytesWritten
    sums.fallbacks += fabric.fallbacks
  }
  return sums
}

export function createStatus(parts: StatusParts): StatusSource {
  const { engine, clock, neighbours } = parts
  const sinceMs = clock.monotonicMs()
  const counter =
    neighbours &&
    new SegmentTotalsCounter({
      store: engine.orderedStore,
      clock,
      alive: () => new Set(neighbours.view.members().map(({ number }) => number)),
      isRemoteShared: neighbours.isRemoteShared,
    })
  return {
    look: async () => ({
      node: {
        number: neighbours?.view.self,
        version: parts.version,
        upMs: clock.monotonicMs() - sinceMs,
        trouble: parts.trouble(),
      },
      nodes: neighbours?.view.members().map((member) => nodeView(member, neighbours)) ?? [],
      lost: neighbours?.lost() ?? [],
      tiers: tiersView(parts),
      backlog: backlogView(parts),
      holdings: counter && neighbours && (await holdingsView(counter, neighbours, clock)),
    }),
  }
}

function nodeView(member: NodeMember, { view, peer }: NeighbourStatus): NodeStatusView {
  const { incarnation: _, ...shown } = member
  const isSelf = member.number === view.self
  const seen = isSelf ? undefined : peer(member.number)
  const fabric = seen?.fabric?.isUsed === true ? seen.fabric.provider : undefined
  return { ...shown, isSelf, isReachable: isSelf ? true : seen?.connected, roundTripMs: seen?.roundTripMs, fabric }
}

function tiersView({ engine, slabBytes, neighbours }: StatusParts): TiersView {
  const { memory, diskLevel, names, readHealth } = engine
  const { hits, misses } = memory.stats
  return {
    memory: { bytesHeld: memory.bytesHeld, bytesMax: slabBytes, hits, misses },
    disk: diskLevel && {
      bytesHeld: diskLevel.bytesHeld,
      bytesMax: diskLevel.bytesMax,
      hits: diskLevel.stats.hits,
      misses: diskLevel.stats.misses,
    },
    neighbours: neighbours?.figures(),
    remote: names || readHealth ? { trouble: readHealth?.reason } : undefined,
  }
}

function backlogView({ engine, neighbours }: StatusParts): BacklogView {
  const { pressure, items, oldestAgeMs, failingItems, paused } = engine.writeBehind.status()
  return {
    bytes: pressure.backlogBytes,
    bytesMax: pressure.backlogBytesMax,
    segments: items,
    oldestAgeMs,
    failingSegments: failingItems,
    paused,
    copiesWaiting: neighbours?.figures().copiesWaiting ?? 0,
  }
}

async function holdingsView(
  counter: SegmentTotalsCounter,
  { copiesHere }: NeighbourStatus,
  clock: Clock,
): Promise<HoldingsView> {
  const { totals, trouble } = await counter.look()
  const { countedMs = clock.monotonicMs(), isComplete = false, byNode = [], unreachable = [] } = totals ?? {}
  const ageMs = clock.monotonicMs() - countedMs
  return { ageMs, isComplete, trouble, byNode, copiesHere: copiesHere(), unreachable }
}
