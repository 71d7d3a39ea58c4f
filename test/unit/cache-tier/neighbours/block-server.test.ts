import { beforeEach, expect, test } from 'vitest'
import { decodeAnswer, encodeQuestion } from '../../../../src/cache-tier/neighbours/messages.ts'
import type { SegmentId } from '../../../../src/common/ids.ts'
import type { NodeAnswer } from '../../../../src/common/node-calls.ts'
import { segmentNumber } from '../../persist/fixtures.ts'
import { imageOf, Nodes, type TestNode } from './nodes.ts'

const SEGMENT = segmentNumber(3)
let nodes: Nodes
let server: TestNode

beforeEach(async () => {
  nodes = new Nodes(2, { slots: 32 })
  server = nodes.node(2)
  const image = imageOf(SEGMENT, 4000)
  nodes.rows.set(SEGMENT, { state: 'sealed', bytes: image.data.length, node: 2 })
  await server.hold(SEGMENT, image.sealed)
})

function question(
  block: number,
  { segment = SEGMENT, from = 1, needed = 1, mayFetch = false } = {},
): Promise<NodeAnswer> {
  const head = encodeQuestion({ segment, block, needed, from: 0, mayFetch })
  const signal = new AbortController().signal
  return nodes.finish(server.server.handler({ from, head, body: Buffer.alloc(0), signal }))
}

function outcomeOf({ head }: NodeAnswer): string | undefined {
  return decodeAnswer(head)?.outcome
}

test('C13: an answer holds its block until it is sent; a peer gets a share of memory, and all peers together another', async () => {
  const first = await question(0)
  expect([outcomeOf(first), server.memory.leases]).toEqual(['here', 1])
  const more = [await question(1), await question(2), await question(3)]
  // An eighth of 32 slots.
  expect(outcomeOf(await question(4))).toBe('busy')
  expect(outcomeOf(await question(4, { from: 3 }))).toBe('here')
  first.sent?.()
  expect(server.memory.leases).toBe(4)
  const again = await question(4)
  expect(outcomeOf(again)).toBe('here')
  const others = [await question(5, { from: 3 }), await question(5, { from: 4 }), await question(5, { from: 5 })]
  expect(others.map(outcomeOf)).toEqual(['here', 'here', 'here'])
  const many: NodeAnswer[] = []
  for (let from = 6; from < 20; from++) many.push(await question(0, { from }))
  // Three eighths of 32 slots are 12, of which 8 are held.
  expect(many.map(outcomeOf).filter((outcome) => outcome === 'here').length).toBe(4)
  for (const { sent } of [...more, again, ...others, ...many]) sent?.()
  expect(server.server.figures).toMatchObject({ served: 13, busy: 11, elsewhere: 0 })
})

test('what is not here is elsewhere, and the remote store is asked only if the question says so', async () => {
  const far = segmentNumber(4)
  await nodes.upload(far, 1000)
  expect(outcomeOf(await question(0, { segment: far }))).toBe('elsewhere')
  expect(nodes.remoteReads).toEqual([])
  const fetched = await question(0, { segment: far, mayFetch: true })
  expect([outcomeOf(fetched), nodes.remoteReads.length]).toEqual(['here', 2])
  fetched.sent?.()
  expect(outcomeOf(await question(0, { segment: segmentNumber(5) }))).toBe('elsewhere')
  expect(nodes.calls).toEqual([])
  expect(server.memory.leases).toBe(0)
})

test('less of a block than is needed is elsewhere; a bad one is lost; a fetch that fails says nothing of the bytes', async () => {
  const grows = segmentNumber(6)
  server.copies.set(`${grows}/0`, Buffer.alloc(100, 1))
  expect(outcomeOf(await question(0, { segment: grows, needed: 101 }))).toBe('elsewhere')
  const answer = await question(0, { segment: grows, needed: 100 })
  expect(outcomeOf(answer)).toBe('here')
  answer.sent?.()
  const bad = imageOf(segmentNumber(7), 600)
  bad.sealed.writeUInt8(bad.sealed.readUInt8(10) ^ 1, 10)
  await server.hold(segmentNumber(7), bad.sealed)
  expect(outcomeOf(await question(0, { segment: segmentNumber(7) }))).toBe('lost')
  server.fileSystem.open = () => Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO' }))
  expect(outcomeOf(await question(0, { segment: segmentNumber(8) }))).toBe('failed')
  expect(server.slab.freeSlots).toBe(31)
})

test('what is no question is not answered, and takes nothing', async () => {
  const signal = new AbortController().signal
  const crooked = encodeQuestion({ segment: SEGMENT, block: 0, needed: 100, from: 33, mayFetch: false })
  for (const head of [crooked, Buffer.alloc(0), Buffer.alloc(29, 0xff), Buffer.alloc(4096)]) {
    expect(outcomeOf(await server.server.handler({ from: 1, head, body: Buffer.alloc(9), signal }))).toBe('failed')
  }
  expect(server.slab.freeSlots).toBe(32)
})

test('an answer that nobody waits for any more is not made', async () => {
  const gone = new AbortController()
  const head = encodeQuestion({ segment: SEGMENT, block: 0, needed: 1, from: 0, mayFetch: false })
  const answering = server.server.handler({ from: 1, head, body: Buffer.alloc(0), signal: gone.signal })
  gone.abort()
  expect(outcomeOf(await nodes.finish(answering))).toBe('elsewhere')
  expect(server.memory.leases).toBe(0)
})

test('a reader here does not fail with the fetch for a peer that he joined', async () => {
  const segment: SegmentId = segmentNumber(9)
  // Lies with node 1 alone: node 2 is asked for it in vain, while a reader of its own wants it too.
  const image = imageOf(segment, 600)
  nodes.rows.set(segment, { state: 'sealed', bytes: image.data.length, node: 1 })
  await nodes.node(1).hold(segment, image.sealed)
  const asked = question(0, { segment })
  const reading = server.read(segment, 0)
  expect(outcomeOf(await asked)).toBe('elsewhere')
  expect((await nodes.finish(reading)).length).toBe(256)
})
