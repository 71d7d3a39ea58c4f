import { expect, test } from 'vitest'
import { Pack } from '../../../../src/cache-tier/disk/block-files.ts'
import { DiskQueues } from '../../../../src/cache-tier/disk/disk-queues.ts'
import { segment } from '../../../conformance/cache-level.ts'

const GEOMETRY = { blockBytes: 100, pageBytes: 100 }
const ONE = segment('1')

/** A pack of ten blocks, numbered from `first`. */
function pack(sequence: number, first: number): Pack {
  const made = new Pack({ sequence, path: String(sequence), bytes: 1000 }, GEOMETRY)
  for (let index = 0; index < 10; index++) {
    const place = { segment: ONE, block: first + index, length: 100, position: index * 100 }
    made.add({ ...place, pageCrcs: new Uint32Array(1) })
  }
  return made
}

test('files leave small in order; blocks that were used survive, the most used first', () => {
  const queues = new DiskQueues()
  const [a, b] = [pack(1, 0), pack(2, 10)]
  queues.push(a, 'small')
  queues.push(b, 'small')
  queues.touch(a, 3)
  for (let use = 0; use < 5; use++) queues.touch(a, 7)
  expect(queues.victim(20)).toEqual({ file: a, survivors: [7, 3] })
  expect(queues.victim(20)).toEqual({ file: b, survivors: [] })
  expect(queues.victim(20)).toBeUndefined()
})

test('a file of which half was used stays, in main, until its uses are used up', () => {
  const queues = new DiskQueues()
  const [hot, cold] = [pack(1, 0), pack(2, 10)]
  queues.push(hot, 'small')
  for (let ordinal = 0; ordinal < 5; ordinal++) queues.touch(hot, ordinal)
  queues.push(cold, 'small')
  expect(queues.victim(20)?.file).toBe(cold)
  expect(queues.victim(20)).toEqual({ file: hot, survivors: [] })
})

test('main gives way only when small is down to its share', () => {
  const queues = new DiskQueues()
  const main = Array.from({ length: 9 }, (_, index) => pack(index + 1, index * 10))
  for (const file of main) queues.push(file, 'main')
  const small = [pack(20, 200), pack(21, 210)]
  for (const file of small) queues.push(file, 'small')
  expect(queues.victim(200)?.file).toBe(small[0])
  expect(queues.victim(200)?.file).toBe(main[0])
})

test('a block that comes back after it left small unused goes to main, once', () => {
  const queues = new DiskQueues()
  queues.push(pack(1, 0), 'small')
  expect(queues.queueFor(ONE, 4)).toBe('small')
  queues.victim(100)
  expect(queues.queueFor(ONE, 4)).toBe('main')
  expect(queues.queueFor(ONE, 4)).toBe('small')
})

test('ghosts are as many as there are blocks', () => {
  const queues = new DiskQueues()
  queues.push(pack(1, 0), 'small')
  queues.victim(3)
  const remembered = Array.from({ length: 10 }, (_, block) => queues.queueFor(ONE, block))
  expect(remembered.filter((queue) => queue === 'main')).toHaveLength(3)
})
