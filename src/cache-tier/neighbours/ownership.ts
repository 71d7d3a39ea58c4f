/**
 * Which node owns a block among those that share the caches: rendezvous hashing with weights. Each node gets a score for a group of blocks, by a hash of both and its weight, and the
 * highest owns it; so whoever joins or is lost moves only its own share, and all who see the same nodes agree without a word. Pure.
 *
 * The score is -weight / ln(u), u uniform in (0, 1): the node with the highest is each with a chance in proportion to its weight (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables").
 */
import type { SegmentId } from '../../common/ids.ts'
import type { NodeMember } from '../../common/node-view.ts'

/** Blocks of a segment that follow each other belong together: small segments stay on one node, large bodies spread over all. */
const GROUP_BYTES = 4 * 1024 * 1024

/** Numbers of the nodes that may own it, the owner first. Empty when no node may own anything. */
export function ownersOf(
  members: readonly NodeMember[],
  segment: SegmentId,
  block: number,
  blockBytes: number,
): readonly number[] {
  const group = Math.floor(block / Math.max(1, Math.floor(GROUP_BYTES / blockBytes)))
  const seed = hashOf(segment, group)
  return members
    .filter(mayOwn)
    .map(({ number, weight }) => ({ number, score: weight / -Math.log(uniform(seed, number)) }))
    .sort((one, two) => two.score - one.score || one.number - two.number)
    .map(({ number }) => number)
}

function mayOwn({ weight, state }: NodeMember): boolean {
  return weight > 0 && state === 'serving'
}

type Seed = readonly [high: number, low: number]

function hashOf(segment: SegmentId, group: number): Seed {
  let high = mixed(group ^ 0x9e3779b9)
  let low = mixed(group ^ 0x85ebca6b)
  for (let at = 0; at < segment.length; at += 8) {
    const word = Number.parseInt(segment.slice(at, at + 8), 16)
    high = mixed(high ^ word)
    low = mixed(low ^ Math.imul(word, 0xcc9e2d51))
  }
  return [high, low]
}

/** 52 bits and a half: never 0, nor rounded to 1. */
function uniform([high, low]: Seed, node: number): number {
  const salt = mixed(Math.imul(node, 0x27d4eb2f) ^ 0x165667b1)
  const upper = mixed(high ^ salt) >>> 0
  const lower = mixed(low ^ Math.imul(salt, 0x2c1b3c6d) ^ upper) >>> 12
  return (upper * 2 ** 20 + lower + 0.5) / 2 ** 52
}

/** The finalizer of MurmurHash3: each bit of the input changes each of the output with a chance near a half. */
function mixed(value: number): number {
  let hash = value | 0
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}
