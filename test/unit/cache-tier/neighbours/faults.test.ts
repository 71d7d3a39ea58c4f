/** Readers on three nodes, whose neighbours fail in every way at random: right bytes or a refusal, in bounded time, and nothing held afterwards. */
import { expect, test } from 'vitest'
import { isTidegateError } from '../../../../src/common/errors.ts'
import type { SegmentId } from '../../../../src/common/ids.ts'
import { Random } from '../../../model/random.ts'
import { TINY_LIMITS } from '../../../sim/life.ts'
import { segmentNumber, type SegmentImage } from '../../persist/fixtures.ts'
import { blockOf, imageOf, Nodes } from './nodes.ts'

const { blockBytes } = TINY_LIMITS
const RUNS = 25
const READS = 120
const SLOTS = 40
/** All that is asked of holders, and once more of who owns it by then. */
const READ_MS_MAX = 16_000
const FAULTS = ['silent', 'refuses', 'spoils', 'garbage'] as const

interface Placed {
  readonly segment: SegmentId
  readonly image: SegmentImage
  readonly isShared: boolean
}

/** Half of them in the remote store, half with one node alone or one and a copy. */
async function place(nodes: Nodes, random: Random): Promise<readonly Placed[]> {
  const placed: Placed[] = []
  for (let number = 1; number <= 8; number++) {
    const segment = segmentNumber(number)
    const bytes = 300 + random.below(3000)
    const isShared = number % 2 === 0
    const image = isShared ? await nodes.upload(segment, bytes) : imageOf(segment, bytes)
    placed.push({ segment, image, isShared })
    if (isShared) continue
    const [node, copy] = [1 + random.below(3), 1 + random.below(3)]
    const copies = node === copy ? {} : { copies: [copy] }
    nodes.rows.set(segment, { state: 'sealed', bytes: image.data.length, node, ...copies })
    await nodes.node(node).hold(segment, image.sealed)
    for (let block = 0; block * blockBytes < image.data.length; block++) {
      if (node !== copy) nodes.node(copy).copies.set(`${segment}/${block}`, blockOf(image, block))
    }
  }
  return placed
}

async function readOne(
  nodes: Nodes,
  random: Random,
  { segment, image, isShared }: Placed,
): Promise<'read' | 'refused'> {
  const block = Math.floor(random.below(image.data.length) / blockBytes)
  const beganMs = nodes.scheduler.nowMs
  try {
    const bytes = await nodes.node(1 + random.below(3)).read(segment, block)
    expect(bytes).toEqual(blockOf(image, block))
    return 'read'
  } catch (error) {
    if (isShared || !isTidegateError(error, 'Unavailable')) throw error
    return 'refused'
  } finally {
    expect(nodes.scheduler.nowMs - beganMs).toBeLessThan(READ_MS_MAX)
  }
}

async function run(seed: number): Promise<readonly ('read' | 'refused')[]> {
  const random = new Random(seed)
  const nodes = new Nodes(3, { slots: SLOTS })
  const placed = await place(nodes, random)
  const reading: Promise<'read' | 'refused'>[] = []
  for (let read = 0; read < READS; read++) {
    const node = 1 + random.below(3)
    if (random.chance(0.1)) nodes.faults.set(node, random.pick(FAULTS))
    if (random.chance(0.1)) nodes.faults.delete(node)
    reading.push(readOne(nodes, random, random.pick(placed)))
    if (random.chance(0.3)) await nodes.finish(nodes.scheduler.delay(random.next() * 300))
  }
  const outcomes = await nodes.finish(Promise.all(reading))
  // What was asked for and not waited for any more is answered by now.
  nodes.faults.clear()
  await nodes.finish(nodes.scheduler.delay(20_000))
  for (const { memory, slab } of nodes.nodes) {
    expect(memory.leases).toBe(0)
    expect(slab.freeSlots + memory.bytesHeld / blockBytes).toBe(SLOTS)
  }
  return outcomes
}

test(`${RUNS} runs with neighbours that fail: right bytes or Unavailable, and what a shared store has is always read`, async () => {
  const all: ('read' | 'refused')[] = []
  for (let seed = 1; seed <= RUNS; seed++) {
    all.push(
      ...(await run(seed).catch((cause: unknown) => {
        throw new Error(`seed ${seed}`, { cause })
      })),
    )
  }
  expect(all.filter((outcome) => outcome === 'refused').length).toBeGreaterThan(0)
  expect(all.filter((outcome) => outcome === 'read').length).toBeGreaterThan(all.length / 2)
})
