// needs: etcd cc libfabric
/** A large object is read from one node while the other, which has half of it alone, fails in every way that there is: the short form of `npm run rdma-faults`. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { testSeed } from '../model/random.ts'
import { FAULT_KINDS } from './fabric-faults/faults.ts'
import { KnownContent } from './fabric-faults/known-content.ts'
import { STALL_MS_MAX } from './fabric-faults/object-reader.ts'
import { FabricFaultRounds } from './fabric-faults/rounds.ts'

const MIB = 1024 * 1024
const OBJECT_BYTES = 96 * MIB
const LASTS_MS_MAX = 1_500

const seed = testSeed()
const rounds = new FabricFaultRounds({ bytes: OBJECT_BYTES, partBytes: 8 * MIB, seed, flags: ['--fabric', 'tcp'] })
beforeAll(() => rounds.start())
afterAll(() => rounds.end())

it.each(FAULT_KINDS)('%s: no wrong byte, and no GET that hangs', async (kind) => {
  const roundSeed = seed + FAULT_KINDS.indexOf(kind)
  const result = await rounds.run({ seed: roundSeed, kind, lastsMsMax: LASTS_MS_MAX })
  console.log(`seed ${roundSeed}: ${JSON.stringify(result)}`)
  expect(result.reads.wrongBytes).toBe(0)
  expect(result.reads.longestStallMs).toBeLessThan(STALL_MS_MAX)
  expect(result.reads.bytes).toBeGreaterThanOrEqual(OBJECT_BYTES)
  // Half of it is nowhere else, and more than fits the reader's memory.
  expect(result.figures.tcpBytes + result.figures.fabricBytes).toBeGreaterThan(OBJECT_BYTES / 4)
  expect(result.figures.remoteBytes).toBeGreaterThan(0)
})

it('the comparison finds one wrong byte wherever it is, and a page that stands in the place of another', () => {
  const content = new KnownContent(OBJECT_BYTES, seed)
  const from = 3 * MIB + 4001
  const slice = content.slice(from, 70_000)
  expect(content.compare(from, slice)).toBeUndefined()
  for (const at of [0, 95, 4096, slice.length - 1]) {
    slice[at] = (slice[at] ?? 0) ^ 1
    expect(content.compare(from, slice)).toMatchObject({ offset: from + at, wrongBytes: 1 })
    slice[at] = (slice[at] ?? 0) ^ 1
  }
  content.slice(MIB, 4096).copy(slice, 95)
  expect(content.compare(from, slice)?.found).toBe(`page ${(from + 95) / 4096} of the object holds page ${MIB / 4096}`)
})
