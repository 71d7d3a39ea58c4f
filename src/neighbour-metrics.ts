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
}

type Reading = readonly [name: string, description: string, read: (figures: NeighbourFigures) => number]

const COUNTERS: readonly Reading[] = [
  ['tidegate_neighbour_hits', 'Blocks that another node had', ({ hits }) => hits],
  ['tidegate_neighbour_misses', 'Blocks that the node asked did not have', ({ misses }) => misses],
  ['tidegate_neighbour_timeouts', 'Questions to nodes that were not answered in time', ({ timeouts }) => timeouts],
  ['tidegate_neighbour_bad_pages', 'Answers of nodes whose checksums did not fit', ({ badPages }) => badPages],
]

const GAUGES: readonly Reading[] = [
  ['tidegate_neighbour_peers', 'Nodes that there is a connection to', ({ peers }) => peers],
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
}
