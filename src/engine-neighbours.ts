/** The other nodes' caches, where metadata are shared: what is asked of them, and what they are answered (engine.ts). */
import { BlockServer } from './cache-tier/neighbours/block-server.ts'
import { NeighbourLevel } from './cache-tier/neighbours/neighbour-level.ts'
import { TidegateError } from './common/errors.ts'
import type { NodeCalls } from './common/node-calls.ts'
import type { NodeView } from './common/node-view.ts'
import type { Bytes } from './engine-bytes.ts'
import type { EngineParts } from './engine-parts.ts'
import type { Namespace } from './meta/namespace/namespace.ts'
import type { NeighbourFigures } from './neighbour-metrics.ts'
import type { BlockSource } from './persist/block-source.ts'

/** Where a node takes part. */
export interface EngineNeighbours {
  readonly calls: NodeCalls
  readonly view: NodeView
  /** Memory that blocks lie in (neighbours.ts). */
  readonly lend?: ((memory: ArrayBufferLike) => void) | undefined
}

export interface Neighbouring {
  readonly level: NeighbourLevel
  readonly server: BlockServer
  figures(): Omit<NeighbourFigures, 'peers' | 'copiesWaiting' | 'fabric'>
}

/** Undefined: the metadata are shared with nobody. */
export function buildNeighbours(
  parts: EngineParts,
  { memory, hashing, slab, slabView }: Bytes,
  { namespace, source }: { readonly namespace: Namespace; readonly source: () => BlockSource },
): Neighbouring | undefined {
  const { clock, limits, nodeNumber, remote } = parts
  if (nodeNumber === undefined) return undefined
  const { calls, view, lend } = parts.neighbours ?? alone(nodeNumber)
  lend?.(slab.buffer)
  const level = new NeighbourLevel({
    calls,
    view,
    segment: (segment) => namespace.segment(segment),
    isRemoteShared: remote?.carries === 'uploading',
    hashing,
    limits,
    slabView,
    clock,
  })
  const server = new BlockServer({
    memory,
    level,
    read: (place, mayFetch) => source().readHere(place, mayFetch),
    hashing,
    limits,
    slabView,
  })
  calls.serve('block', server.handler)
  return { level, server, figures: () => figuresOf(level, server) }
}

function figuresOf(level: NeighbourLevel, server: BlockServer): ReturnType<Neighbouring['figures']> {
  const sums = { hits: 0, misses: 0, timeouts: 0, badPages: 0, bytesIn: 0, bytesOut: server.figures.bytesOut }
  for (const { hits, misses, timeouts, badPages, bytesIn } of level.figures()) {
    sums.hits += hits
    sums.misses += misses
    sums.timeouts += timeouts
    sums.badPages += badPages
    sums.bytesIn += bytesIn
  }
  return sums
}

/** A node that does not take part: what lies with another one is refused. */
function alone(self: number): EngineNeighbours {
  return {
    calls: {
      call: (node) =>
        Promise.reject(
          new TidegateError('Unavailable', `this node does not speak to node ${node}`, { details: { node } }),
        ),
      serve: () => undefined,
    },
    view: { self, members: () => [], member: () => undefined, onChange: () => () => undefined },
  }
}
