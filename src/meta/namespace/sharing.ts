/** What the nodes that share a namespace do about each other, bound to one context. */
import type { Bound, NamespaceContext } from './context.ts'
import { joinHorizons, lifeOfNode } from './horizons.ts'
import { inheritPersisted, inheritSegment } from './inherit-segments.ts'
import { dropLocks } from './locks/lock-rows.ts'
import { letGo, partNode, removeNode, sharingNodes } from './remove-node.ts'
import { copiesChanged, segmentsCopiedTo, segmentsOf } from './segments.ts'

export interface Sharing {
  /** To be called before this node serves a namespace that it shares, and before it judges its segments. */
  readonly join: () => Promise<void>
  readonly nodes: Bound<typeof sharingNodes>
  /** Of a node that was shut out, perhaps for a while (remove-node.ts). */
  readonly lifeOfNode: Bound<typeof lifeOfNode>
  readonly partNode: Bound<typeof partNode>
  readonly letGo: Bound<typeof letGo>
  readonly inheritSegment: Bound<typeof inheritSegment>
  readonly inheritPersisted: Bound<typeof inheritPersisted>
  /** Of a node that was shut out for good. */
  readonly removeNode: Bound<typeof removeNode>

  readonly copiesChanged: Bound<typeof copiesChanged>
  readonly segmentsCopiedTo: Bound<typeof segmentsCopiedTo>
  readonly segmentsOf: Bound<typeof segmentsOf>
}

export function createSharing(context: NamespaceContext): Sharing {
  const bind = <Rest extends unknown[], Result>(
    operation: (context: NamespaceContext, ...rest: Rest) => Result,
  ): ((...rest: Rest) => Result) => operation.bind(undefined, context)
  return {
    join: () => join(context),
    nodes: bind(sharingNodes),
    lifeOfNode: bind(lifeOfNode),
    partNode: bind(partNode),
    letGo: bind(letGo),
    inheritSegment: bind(inheritSegment),
    inheritPersisted: bind(inheritPersisted),
    removeNode: bind(removeNode),
    copiesChanged: bind(copiesChanged),
    segmentsCopiedTo: bind(segmentsCopiedTo),
    segmentsOf: bind(segmentsOf),
  }
}

async function join(context: NamespaceContext): Promise<void> {
  await joinHorizons(context)
  // Of mounts of an earlier life.
  if (context.store.isShared) await dropLocks(context.store, context.nodeNumber)
}
