import { expect, test } from 'vitest'
import type { SegmentId } from '../../../../src/common/ids.ts'
import { PageTables } from '../../../../src/persist/reading/page-tables.ts'
import type { PageTable } from '../../../../src/persist/reading/ports.ts'
import { segmentNumber } from '../fixtures.ts'

const ONE = segmentNumber(1)

function table(pages: number): PageTable {
  return { dataBytes: pages * 64, pageBytes: 64, pageCrcs: new Uint32Array(pages) }
}

test('however many ask for a table at once, it is loaded once; a failure is told to all and not kept', async () => {
  const tables = new PageTables(10_000)
  let loads = 0
  const load = async (): Promise<PageTable> => {
    loads++
    await Promise.resolve()
    if (loads === 1) throw new Error('remote')
    return table(3)
  }
  const outcomes = await Promise.allSettled([1, 2, 3].map(async () => await tables.get(ONE, load)))
  expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
  const [first, second] = await Promise.all([tables.get(ONE, load), tables.get(ONE, load)])
  expect(first).toBe(second)
  expect(await tables.get(ONE, load)).toBe(first)
  expect(loads).toBe(2)
})

test('tables are held up to a number of bytes, those used last the longest', async () => {
  // Each takes 400 bytes and what an entry takes.
  const tables = new PageTables(2000)
  const loaded: SegmentId[] = []
  const get = async (number: number): Promise<void> => {
    await tables.get(segmentNumber(number), () => {
      loaded.push(segmentNumber(number))
      return Promise.resolve(table(100))
    })
  }
  for (const number of [1, 2, 3, 1, 4]) await get(number)
  expect(loaded.length).toBe(4)
  await get(1)
  expect(loaded.length).toBe(4)
  await get(2)
  expect(loaded.length).toBe(5)
})

test('a table that is forgotten while it is loaded is not kept', async () => {
  const tables = new PageTables(2000)
  let loads = 0
  const load = (): Promise<PageTable> => {
    loads++
    return Promise.resolve(table(1))
  }
  const loading = tables.get(ONE, load)
  tables.forget(ONE)
  expect((await loading).pageBytes).toBe(64)
  await tables.get(ONE, load)
  tables.forget(ONE)
  await tables.get(ONE, load)
  expect(loads).toBe(3)
})
