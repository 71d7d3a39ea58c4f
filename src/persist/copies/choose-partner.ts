/** Which node a new segment is copied to. Pure. */
import type { NodeMember, NodeView } from '../../common/node-view.ts'

export interface PartnerChoice {
  readonly view: Pick<NodeView, 'self' | 'members' | 'member'>
  /** Nodes that a copy failed at lately: taken only if there is no other. */
  readonly failing: ReadonlySet<number>
  /** Nodes that are out of the question. */
  readonly besides: ReadonlySet<number>
  /** From 0 to below 1. */
  readonly random: number
}

/**
 * Another node that serves. Those that are not failing come first, then those that differ in most labels, since they fail apart; among equals by chance, in proportion to
 * their weights, so that one node's copies are spread over the others. Undefined: there is none.
 */
export function choosePartner({ view, failing, besides, random }: PartnerChoice): number | undefined {
  const self = view.member(view.self)
  const candidates = view
    .members()
    .filter(({ number, state }) => number !== view.self && state === 'serving' && !besides.has(number))
  const sound = candidates.filter(({ number }) => !failing.has(number))
  const possible = sound.length > 0 ? sound : candidates
  const apart = possible.map((member) => (self ? differingLabels(self, member) : 0))
  const most = Math.max(...apart)
  return byWeight(
    possible.filter((_, index) => apart[index] === most),
    random,
  )
}

function differingLabels(one: NodeMember, two: NodeMember): number {
  const names = new Set([...Object.keys(one.labels), ...Object.keys(two.labels)])
  return [...names].filter((name) => one.labels[name] !== two.labels[name]).length
}

/** One of weight 0 owns no blocks of the cache; it is taken where all are so. */
function byWeight(members: readonly NodeMember[], random: number): number | undefined {
  const total = members.reduce((sum, { weight }) => sum + weight, 0)
  if (total <= 0) return members[Math.floor(random * members.length)]?.number
  let left = random * total
  for (const { number, weight } of members) {
    left -= weight
    if (left < 0) return number
  }
  return members.findLast(({ weight }) => weight > 0)?.number
}
