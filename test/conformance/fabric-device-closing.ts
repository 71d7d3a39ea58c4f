/** The part of fabric-device.ts about ends: nobody there, channels, regions and devices closed. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FabricFailure } from '../../src/rdma/fabric/ports.ts'
import type { Channel } from '../../src/rdma/fabric/ports.ts'
import {
  FabricEnds,
  MIB,
  PATIENCE_MS,
  filled,
  isFilled,
  outcomeOf,
  sleep,
  start,
  startSoon,
  until,
} from './fabric-device-fixture.ts'
import type { FabricDeviceHarness, Started } from './fabric-device-fixture.ts'

const SOCKADDR_IN_BYTES = 16
/** The last byte of its address. */
const SOCKADDR_IN_LAST = 7
/** A busy machine has pauses; libfabric would resolve an address for two seconds. */
const BLOCKED_MS_MAX = 1_000

export function testClosing(harness: FabricDeviceHarness): void {
  let ends: FabricEnds

  beforeEach(async () => {
    ends = new FabricEnds(await harness.open())
  })

  afterEach(() => ends.close())

  describe('when nobody is there', () => {
    it('nothing goes well, and close ends what was started', async () => {
      const { channel, other } = ends.pair()
      await other.close()
      const outcome = await outcomeOf(channel, ends.read(0, 64), 1_000)
      expect(['later', 'gone', 'failed', undefined]).toContain(outcome)
      const beganMs = performance.now()
      await channel.close()
      expect(performance.now() - beganMs).toBeLessThan(PATIENCE_MS)
      expect(channel.underWay).toBe(0)
      await ends.expectFreshChannelWorks()
    })

    it('because the other end was closed after it was used', async () => {
      const { channel, other } = ends.pair()
      expect(await outcomeOf(channel, ends.read(0, 64))).toBe('well')
      await other.close()
      for (let left = 5; left > 0; left--) {
        expect(['later', 'gone', 'failed', undefined]).toContain(await outcomeOf(channel, ends.read(0, 64), 200))
      }
      await channel.close()
      await ends.expectFreshChannelWorks()
    })

    it('because the other device was closed', async () => {
      const { channel } = ends.pair()
      expect(await outcomeOf(channel, ends.read(0, 64))).toBe('well')
      await ends.two.close()
      expect(['later', 'gone', 'failed', undefined]).toContain(await outcomeOf(channel, ends.read(0, 64), 1_000))
      await channel.close()
      expect(channel.underWay).toBe(0)
    })

    it('and never was, this thread does not wait for it', async () => {
      const name = Uint8Array.from(ends.two.open().name)
      // Of a socket address that is IPv4: another host of the same network, which is not there. Of another name: another end, which is not there either.
      name[name.length === SOCKADDR_IN_BYTES ? SOCKADDR_IN_LAST : 0]! ^= 0x55
      const channel = ends.one.open()
      let longestMs = 0
      let lastMs = performance.now()
      const look = (): void => {
        longestMs = Math.max(longestMs, performance.now() - lastMs)
        lastMs = performance.now()
      }
      const watching = setInterval(look, 5)
      try {
        await channel.resolve(name)
        channel.connect(name)
        await outcomeOf(channel, ends.read(0, 64), 1_500)
      } catch (error) {
        expect(error).toBeInstanceOf(FabricFailure)
      } finally {
        clearInterval(watching)
      }
      look()
      expect(longestMs).toBeLessThan(BLOCKED_MS_MAX)
      await channel.close()
      await ends.expectFreshChannelWorks()
    })

    it('others are not held up', async () => {
      const { channel: dead, other } = ends.pair()
      await other.close()
      const waiting = startSoon(dead, ends.read(MIB, 64), 2_000)
      for (let left = 10; left > 0; left--) await ends.expectFreshChannelWorks()
      await dead.close()
      await waiting
    })

    it('because the name is none', async () => {
      const good = ends.two.open().name
      const names = {
        empty: new Uint8Array(0),
        zeros: new Uint8Array(good.length),
        ones: new Uint8Array(good.length).fill(0xff),
        short: good.slice(0, good.length - 1),
        long: Uint8Array.from([...good, 0, 0, 0, 0]),
        huge: new Uint8Array(100_000).fill(1),
      }
      for (const [what, bytes] of Object.entries(names)) {
        const channel = ends.one.open()
        try {
          channel.connect(bytes)
          const outcome = await outcomeOf(channel, ends.read(0, 64), 300)
          expect([what, 'later', 'gone', 'failed', 'unfit', undefined]).toContain(outcome)
        } catch (error) {
          expect(error, what).toBeInstanceOf(FabricFailure)
        }
        await channel.close()
      }
      await ends.expectFreshChannelWorks()
    })
  })

  describe('close', () => {
    /** As many as are taken at once. */
    function startMany(channel: Channel, kind: 'read' | 'write'): Started[] {
      const bytes = Math.min(MIB, ends.one.operationBytesMax)
      const many: Started[] = []
      for (let index = 0; index < 8 && many.length === index; index++) {
        const at = index * MIB
        const started = start(channel, kind === 'read' ? ends.read(at, bytes, at) : ends.write(at, bytes, at))
        if (started !== 'later') many.push(started)
      }
      return many
    }

    it('of this end ends what is under way, and its memory stays as it is', async () => {
      for (let round = 0; round < 10; round++) {
        const { channel, other } = ends.pair()
        expect(await outcomeOf(channel, ends.read(0, 64))).toBe('well')
        const many = startMany(channel, 'read')
        expect(many.length).toBeGreaterThan(0)
        // At any moment of their being moved.
        if (round % 2 === 1) await sleep(ends.random.below(4))
        await channel.close()
        ends.mine.memory.fill(0xa5)
        for (const { outcome, times } of many) {
          expect(times).toBe(1)
          expect(['well', 'cut off']).toContain(outcome)
        }
        expect([channel.isClosed, channel.underWay]).toEqual([true, 0])
        await sleep(30)
        expect(isFilled(ends.mine.memory, 0xa5)).toBe(true)
        expect(many.every(({ times }) => times === 1)).toBe(true)
        await other.close()
      }
      await sleep(300)
      expect(isFilled(ends.mine.memory, 0xa5)).toBe(true)
      await ends.expectFreshChannelWorks()
    })

    it('of the other end: what was written to it stays as it is from then on', async () => {
      filled(ends.mine.memory, 8)
      for (let round = 0; round < 10; round++) {
        const { channel, other } = ends.pair()
        expect(await outcomeOf(channel, ends.write(0, 64))).toBe('well')
        const many = startMany(channel, 'write')
        expect(many.length).toBeGreaterThan(0)
        if (round % 2 === 1) await sleep(ends.random.below(4))
        await other.close()
        ends.theirs.memory.fill(0xa5)
        await sleep(30)
        expect(isFilled(ends.theirs.memory, 0xa5)).toBe(true)
        await channel.close()
        expect(many.every(({ times }) => times === 1)).toBe(true)
      }
      await sleep(300)
      expect(isFilled(ends.theirs.memory, 0xa5)).toBe(true)
      await ends.expectFreshChannelWorks()
    })

    it('leaves nothing to be done with the handle, and is safe to repeat', async () => {
      const { channel, other } = ends.pair()
      await Promise.all([channel.close(), channel.close()])
      await channel.close()
      expect([channel.isClosed, channel.underWay]).toEqual([true, 0])
      expect(() => channel.start({ ...ends.read(0, 64), ended: () => undefined })).toThrow()
      expect(() => channel.connect(other.name)).toThrow()
      expect(() => channel.hurry(true)).not.toThrow()
      expect(channel.name.length).toBeGreaterThan(0)
    })

    it('may be asked for by what is told that an operation has ended', async () => {
      const { channel } = ends.pair()
      let closed: Promise<void> | undefined
      const first = { ...ends.read(0, 64), ended: () => (closed ??= channel.close()) }
      while (channel.start(first) === 'later') await sleep(1)
      await until('the first has ended', () => closed !== undefined)
      await closed
      expect(channel.underWay).toBe(0)
    })

    it('of a region: once none of its operations is under way', async () => {
      const region = ends.one.register(new Uint8Array(MIB), 'none')
      const { channel, other } = ends.pair()
      await other.close()
      // Either nobody takes it, or it is under way until the channel is closed or its failure is told.
      const started = await startSoon(channel, { ...ends.read(0, 64), region }, 100)
      if (started !== 'later' && started.outcome === undefined) expect(() => region.close()).toThrow()
      await channel.close()
      region.close()
      region.close()
      expect(region.isClosed).toBe(true)
      const { channel: next } = ends.pair()
      expect(() => next.start({ ...ends.read(0, 64), region, ended: () => undefined })).toThrow()
      await ends.expectFreshChannelWorks()
    })

    it('of a region is refused while an operation is under way on it', async () => {
      const region = ends.one.register(new Uint8Array(MIB), 'none')
      const { channel } = ends.pair()
      expect(await outcomeOf(channel, { ...ends.read(0, 64), region })).toBe('well')
      const started = await startSoon(channel, {
        ...ends.read(0, MIB),
        region,
        bytes: Math.min(MIB, ends.one.operationBytesMax),
      })
      // It ends in a later turn at the earliest, and none has passed since.
      expect(started).toMatchObject({ outcome: undefined })
      expect(() => region.close()).toThrow()
      expect(region.isClosed).toBe(false)
      await channel.close()
      region.close()
    })

    it('of the device closes all that is open', async () => {
      const pairs = Array.from({ length: 3 }, () => ends.pair())
      const many = pairs.flatMap(({ channel }) => startMany(channel, 'read'))
      const closing = Promise.all([ends.one.close(), ends.one.close()])
      expect(() => ends.one.open()).toThrow(FabricFailure)
      await closing
      await ends.one.close()
      ends.mine.memory.fill(0xa5)
      expect(many.every(({ times }) => times === 1)).toBe(true)
      expect(pairs.every(({ channel }) => channel.isClosed && channel.underWay === 0)).toBe(true)
      expect([ends.mine.isClosed, ends.theirs.isClosed]).toEqual([true, false])
      expect(() => ends.one.open()).toThrow(FabricFailure)
      expect(() => ends.one.register(new Uint8Array(4_096), 'none')).toThrow(FabricFailure)
      await sleep(100)
      expect(isFilled(ends.mine.memory, 0xa5)).toBe(true)
    })
  })
}
