/** What every device of the fabric does (src/rdma/fabric/ports.ts): the native addon, whatever carries it, and the double that other tests use. */
import { readdirSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Operation } from '../../src/rdma/fabric/ports.ts'
import { testClosing } from './fabric-device-closing.ts'
import {
  FabricEnds,
  MIB,
  POOL_BYTES,
  filled,
  isFilled,
  outcomeOf,
  same,
  sleep,
  start,
  startSoon,
  there,
} from './fabric-device-fixture.ts'
import type { FabricDeviceHarness } from './fabric-device-fixture.ts'

const CYCLES = 100
/** On a machine that is busy with other tests; to open a channel costs what its provider allocates for it. */
const CYCLES_MS_MAX = 600_000

export function testFabricDevice(name: string, harness: FabricDeviceHarness): void {
  describe(`device of the fabric: ${name}`, () => {
    let ends: FabricEnds

    beforeEach(async () => {
      ends = new FabricEnds(await harness.open())
    })

    afterEach(() => ends.close())

    describe('moves', () => {
      const SIZES = [1, 2, 3, 7, 63, 64, 255, 1_500, 4_096, 4_097, 65_537, 262_143, MIB, MIB + 1]

      it('bytes from there to here, those and no others', async () => {
        const { channel } = ends.pair()
        for (const bytes of SIZES.filter((size) => size <= ends.one.operationBytesMax)) {
          const [to, from] = [1 + ends.random.below(5_000), 1 + ends.random.below(5_000)]
          ends.mine.memory.fill(0x5a)
          expect(await outcomeOf(channel, ends.read(to, bytes, from))).toBe('well')
          const expected = new Uint8Array(POOL_BYTES).fill(0x5a)
          expected.set(ends.theirs.memory.subarray(from, from + bytes), to)
          expect(same(ends.mine.memory, expected)).toBe(true)
        }
        expect(same(ends.theirs.memory, filled(new Uint8Array(POOL_BYTES), 1))).toBe(true)
      })

      it('bytes from here to there, those and no others, and they are there when it has ended', async () => {
        const { channel } = ends.pair()
        filled(ends.mine.memory, 2)
        for (const bytes of SIZES.filter((size) => size <= ends.one.operationBytesMax)) {
          const [from, to] = [1 + ends.random.below(5_000), 1 + ends.random.below(5_000)]
          ends.theirs.memory.fill(0x5a)
          expect(await outcomeOf(channel, ends.write(from, bytes, to))).toBe('well')
          const expected = new Uint8Array(POOL_BYTES).fill(0x5a)
          expected.set(ends.mine.memory.subarray(from, from + bytes), to)
          expect(same(ends.theirs.memory, expected)).toBe(true)
        }
        expect(same(ends.mine.memory, filled(new Uint8Array(POOL_BYTES), 2))).toBe(true)
      })

      it('to the first and the last byte of what is registered', async () => {
        const { channel } = ends.pair()
        for (const [to, from] of [
          [0, 0],
          [POOL_BYTES - 1, POOL_BYTES - 1],
          [0, POOL_BYTES - 1],
        ] as const) {
          ends.mine.memory[to] = ~(ends.theirs.memory[from] ?? 0)
          expect(await outcomeOf(channel, ends.read(to, 1, from))).toBe('well')
          expect(ends.mine.memory[to]).toBe(ends.theirs.memory[from])
        }
      })

      it('as much at once as it says', async () => {
        const bytes = Math.min(ends.one.operationBytesMax, POOL_BYTES)
        expect(bytes).toBeGreaterThanOrEqual(4_096)
        const { channel } = ends.pair()
        expect(await outcomeOf(channel, ends.read(0, bytes))).toBe('well')
        expect(same(ends.mine.memory.subarray(0, bytes), ends.theirs.memory.subarray(0, bytes))).toBe(true)
      })

      it('what is registered of a larger memory, at any byte of it', async () => {
        const { channel } = ends.pair()
        const [whole, wholeThere] = [new Uint8Array(100_000), filled(new Uint8Array(100_000), 3)]
        const part = ends.one.register(whole.subarray(4_321, 64_321), 'none')
        const partThere = ends.two.register(wholeThere.subarray(1_111, 71_111), 'read')
        const remote = there(partThere, 13)
        expect(await outcomeOf(channel, { kind: 'read', region: part, offset: 17, bytes: 50_001, remote })).toBe('well')
        const expected = new Uint8Array(100_000)
        expected.set(wholeThere.subarray(1_111 + 13, 1_111 + 13 + 50_001), 4_321 + 17)
        expect(same(whole, expected)).toBe(true)
      })

      it('both ways between two ends that are connected to each other', async () => {
        const [channel, other] = [ends.one.open(), ends.two.open()]
        channel.connect(other.name)
        other.connect(channel.name)
        const lent = ends.one.register(filled(new Uint8Array(MIB), 4), 'read')
        const into = ends.two.register(new Uint8Array(MIB), 'none')
        const back = { kind: 'read', region: into, offset: 0, bytes: MIB, remote: there(lent) } as const
        const outcomes = await Promise.all([
          outcomeOf(channel, ends.read(0, MIB)),
          outcomeOf(other, back),
          outcomeOf(channel, ends.read(MIB, MIB, MIB)),
        ])
        expect(outcomes).toEqual(['well', 'well', 'well'])
        expect(same(into.memory, lent.memory)).toBe(true)
        expect(same(ends.mine.memory.subarray(0, 2 * MIB), ends.theirs.memory.subarray(0, 2 * MIB))).toBe(true)
      })

      it('many at once over several channels, both kinds, each to its place', async () => {
        const pairs = Array.from({ length: 4 }, () => ends.pair())
        const [cells, cellBytes] = [64, 32 * 1024]
        const wells: Promise<void>[] = []
        filled(ends.mine.memory, 5)
        // Even cells are read, odd ones are written.
        const expectedHere = ends.mine.memory.slice()
        const expectedThere = ends.theirs.memory.slice()
        for (let round = 0; round < 4; round++) {
          for (let cell = 0; cell < cells; cell++) {
            const bytes = 1 + ends.random.below(cellBytes - 1)
            const at = cell * cellBytes + ends.random.below(cellBytes - bytes)
            const operation = cell % 2 === 0 ? ends.read(at, bytes, at) : ends.write(at, bytes, at)
            if (cell % 2 === 0) expectedHere.set(ends.theirs.memory.subarray(at, at + bytes), at)
            else expectedThere.set(ends.mine.memory.subarray(at, at + bytes), at)
            const channel = ends.random.pick(pairs).channel
            wells.push(outcomeOf(channel, operation).then((outcome) => expect(outcome).toBe('well')))
          }
        }
        await Promise.all(wells)
        expect(wells.length).toBe(256)
        expect(same(ends.mine.memory, expectedHere)).toBe(true)
        expect(same(ends.theirs.memory, expectedThere)).toBe(true)
        expect(pairs.map(({ channel }) => channel.underWay)).toEqual([0, 0, 0, 0])
      })
    })

    describe('refuses', () => {
      const CASES: Record<string, () => Omit<Operation, 'ended'>> = {
        'a key that nobody has': () => ({
          ...ends.read(0, 64),
          remote: { key: ends.theirs.key ^ 0x5555n, address: ends.theirs.address },
        }),
        'bytes behind the end': () => ends.read(0, 64, POOL_BYTES - 63),
        'bytes far behind the end': () => ends.write(0, 64, 2 ** 40),
        'an address that is none': () => ({
          ...ends.read(0, 64),
          remote: { key: ends.theirs.key, address: 2n ** 64n - 32n },
        }),
        'to write what may only be read': () => {
          const region = ends.two.register(new Uint8Array(4_096), 'read')
          return { ...ends.write(0, 64), remote: there(region) }
        },
        'to write what could be written before, and may now only be read': () => {
          const memory = new Uint8Array(65_536)
          ends.two.register(memory, 'read and write').close()
          return { ...ends.write(0, 64), remote: there(ends.two.register(memory, 'read')) }
        },
        'to read what is for nobody': () => {
          const region = ends.two.register(new Uint8Array(4_096), 'none')
          return { ...ends.read(0, 64), remote: there(region) }
        },
        'to read what is closed': () => {
          const region = ends.two.register(filled(new Uint8Array(4_096), 6), 'read')
          region.close()
          return { ...ends.read(0, 64), remote: there(region) }
        },
      }

      it.each(Object.keys(CASES))('%s, and a fresh channel works', async (what) => {
        const { channel } = ends.pair()
        expect(await outcomeOf(channel, ends.read(0, 1_000))).toBe('well')
        ends.mine.memory.fill(0x77)
        const before = ends.theirs.memory.slice()
        const operation = CASES[what]?.() ?? ends.read(0, 1)
        // Who carries it may say no more than that the connection was ended because of it, as `tcp` does.
        expect(['refused', 'gone']).toContain(await outcomeOf(channel, operation))
        expect(same(ends.theirs.memory, before)).toBe(true)
        expect(isFilled(ends.mine.memory, 0x77)).toBe(true)
        await ends.expectFreshChannelWorks()
        // This one may be of no use any more, but what is asked of it ends.
        const again = await startSoon(channel, ends.read(0, 64), 200)
        await channel.close()
        expect(again === 'later' || again.outcome !== undefined).toBe(true)
        await ends.expectFreshChannelWorks()
      })

      it('what is closed while it is read, or moves it', async () => {
        const region = ends.two.register(filled(new Uint8Array(MIB), 7), 'read')
        const { channel } = ends.pair()
        const bytes = Math.min(MIB, ends.one.operationBytesMax)
        const started = [0, 1, 2, 3].map((index) =>
          start(channel, { kind: 'read', region: ends.mine, offset: index * MIB, bytes, remote: there(region) }),
        )
        region.close()
        region.memory.fill(0)
        await sleep(50)
        await channel.close()
        for (const each of started) {
          if (each !== 'later') expect([each.times, typeof each.outcome]).toEqual([1, 'string'])
        }
        await ends.expectFreshChannelWorks()
      })
    })

    describe('throws, and nothing has happened, for', () => {
      it('operations that cannot be', async () => {
        const { channel } = ends.pair()
        const base = { ...ends.read(0, 64), ended: () => undefined }
        const wrong: Partial<Operation>[] = [
          { bytes: 0 },
          { bytes: -1 },
          { bytes: 1.5 },
          { bytes: Number.NaN },
          { bytes: ends.one.operationBytesMax + 1 },
          { offset: -1 },
          { offset: POOL_BYTES },
          { offset: POOL_BYTES - 63 },
          { offset: 2 ** 53 },
          { offset: Number.POSITIVE_INFINITY },
          { region: ends.theirs },
        ]
        for (const each of wrong) {
          expect(() => channel.start({ ...base, ...each }), JSON.stringify(Object.keys(each))).toThrow()
        }
        expect(channel.underWay).toBe(0)
        expect(() => ends.one.open().start(base)).toThrow()
        expect(() => channel.connect(ends.two.open().name)).toThrow()
        await ends.expectFreshChannelWorks()
      })

      it('memory that a channel of another device is to tell of', () => {
        expect(() => ends.one.register(new Uint8Array(4_096), 'read', ends.two.open())).toThrow()
      })

      it('memory of no bytes', () => {
        expect(() => ends.one.register(new Uint8Array(0), 'read')).toThrow()
      })
    })

    it('names and keys are each their own', () => {
      const names = Array.from({ length: 8 }, () => Buffer.from(ends.one.open().name).toString('hex'))
      expect(new Set(names).size).toBe(8)
      const keys = Array.from({ length: 8 }, () => ends.two.register(new Uint8Array(4_096), 'read').key)
      expect(new Set(keys).size).toBe(8)
      for (const key of keys) expect(key).toBe(BigInt.asUintN(64, key))
    })

    it('says what it is', () => {
      expect(['verbs', 'tcp']).toContain(ends.one.provider)
      expect([ends.one.domain.length > 0, /^\d+\.\d+/.test(ends.one.version)]).toEqual([true, true])
    })

    it(
      `can be opened and closed ${CYCLES} times, and nothing is left`,
      async () => {
        const descriptors = (): number => readdirSync('/proc/self/fd').length
        let before = 0
        for (let cycle = 0; cycle < CYCLES; cycle++) {
          if (cycle === CYCLES / 10) before = descriptors()
          const { channel, other } = ends.pair()
          const region = ends.two.register(filled(new Uint8Array(1_000), cycle), 'read')
          if (cycle % 3 > 0) {
            const remote = there(region)
            expect(await outcomeOf(channel, { kind: 'read', region: ends.mine, offset: 0, bytes: 1_000, remote })).toBe(
              'well',
            )
            expect(same(ends.mine.memory.subarray(0, 1_000), region.memory)).toBe(true)
          }
          if (cycle % 3 === 1) start(channel, ends.read(0, Math.min(MIB, ends.one.operationBytesMax)))
          // The ends are closed in either order, and at once.
          if (cycle % 4 === 0) await other.close()
          if (cycle % 4 === 1) await channel.close()
          await Promise.all([channel.close(), other.close()])
          region.close()
        }
        expect(descriptors()).toBeLessThan(before + 20)
      },
      CYCLES_MS_MAX,
    )
  })

  describe(`device of the fabric, at its ends: ${name}`, () => testClosing(harness))
}
