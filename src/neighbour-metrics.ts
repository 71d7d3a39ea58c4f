/** What /metrics shows of the nodes beside this one: what was asked of them and by them, and what is to be copied. Read when somebody collects. */
import { metrics } from '@opentelemetry/api'

export interface NeighbourFigures {
  /** Blocks that another node had, and did not have. */
  readonly hits: number
  readonly misses: number
  /** Questions that were not answered in time. */
  readonly timeouts: number
  /** Answers whose checksums did not fit. */
  readonly badPages: number
  readonly bytesIn: number
  readonly bytesOut: number
  /** Nodes that there is a connection to. */
  readonly peers: number
  /** Segments that are to be copied to another node and are not yet. */
  readonly copiesWaiting: number
  readonly fabric: FabricSums
}

/** Of this node's calls to all others (rdma/ports.ts). */
export interface FabricSums {
  /** Nodes that large bodies go to by it now. */
  readonly peers: number
  /** Bodies that were read from other nodes' memory, and written to it. */
  readonly reads: number
  readonly writes: number
  readonly bytesRead: number
  readonly bytesWritten: number
  /** How often it was given up for a while. */
  readonly fallbacks: number
}

type Reading = readonly [name: string, description: string, read: (figures: NeighbourFigures) => number]

const COUNTERS: readonly Reading[] = [
  ['tidegate_neighbour_hits', 'Blocks that another node had', ({ hits }) => hits],
  ['tidegate_neighbour_misses', 'Blocks that the node asked did not have', ({ misses }) => misses],
  ['tidegate_neighbour_timeouts', 'Questions to nodes that were not answered in time', ({ timeouts }) => timeouts],
  ['tidegate_neighbour_bad_pages', 'Answers of nodes whose checksums did not fit', ({ badPages }) => badPages],
  [
    'tidegate_fabric_fallbacks',
    'How often the fabric to a node failed, and its connection was used instead',
    ({ fabric }) => fabric.fallbacks,
  ],
]

const GAUGES: readonly Reading[] = [
  ['tidegate_neighbour_peers', 'Nodes that there is a connection to', ({ peers }) => peers],
  ['tidegate_fabric_peers', 'Nodes that large bodies go to by the fabric', ({ fabric }) => fabric.peers],
  [
    'tidegate_neighbour_copies_waiting',
    'Segments that are to be copied to another node and are not yet',
    ({ copiesWaiting }) => copiesWaiting,
  ],
]

export function observeNeighbours(figures: () => NeighbourFigures): void {
  const meter = metrics.getMeter('tidegate')
  for (const [name, description, read] of COUNTERS)
    meter.createObservableCounter(name, { description }).addCallback((result) => result.observe(read(figures())))
  for (const [name, description, read] of GAUGES)
    meter.createObservableGauge(name, { description }).addCallback((result) => result.observe(read(figures())))
  const description = 'Bytes from other nodes and to them'
  meter.createObservableCounter('tidegate_neighbour_bytes', { description }).addCallback((result) => {
    const { bytesIn, bytesOut } = figures()
    result.observe(bytesIn, { direction: 'in' })
    result.observe(bytesOut, { direction: 'out' })
  })
  const bodies = { description: "Bodies that this node read from other nodes' memory, and wrote to it" }
  meter.createObservableCounter('tidegate_fabric_bodies', bodies).addCallback((result) => {
    const { reads, writes } = figures().fabric
    result.observe(reads, { kind: 'read' })
    result.observe(writes, { kind: 'write' })
  })
  const bytes = { description: 'Bytes of them' }
  meter.createObservableCounter('tidegate_fabric_bytes', bytes).addCallback((result) => {
    const { bytesRead, bytesWritten } = figures().fabric
    result.observe(bytesRead, { kind: 'read' })
    result.observe(bytesWritten, { kind: 'write' })
  })
}
