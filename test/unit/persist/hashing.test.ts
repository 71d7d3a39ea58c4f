import { createHash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { computeChecksum } from '../../../src/common/checksums.ts'
import { CHECKSUM_ALGORITHMS } from '../../../src/common/model.ts'
import { createHashWorkers } from '../../../src/persist/hashing/hash-workers.ts'
import { createInlineHashing } from '../../../src/persist/hashing/inline-hashing.ts'
import type { Hashing, HashSlice } from '../../../src/persist/hashing/ports.ts'

const SLAB_BYTES = 8 * 1024 * 1024
const PAGE_BYTES = 64 * 1024

const slab = new SharedArrayBuffer(SLAB_BYTES)
const bytes = Buffer.from(slab)
randomBytes(SLAB_BYTES).copy(bytes)

const IMPLEMENTATIONS: Record<string, () => Hashing> = {
  inline: () => createInlineHashing({ slab }),
  'one worker': () => createHashWorkers({ slab, workers: 1, queueSlicesMax: 4 }),
  'three workers, a window of one': () => createHashWorkers({ slab, workers: 3, queueSlicesMax: 1 }),
}

const ALL = { md5: true, sha256: true, algorithms: CHECKSUM_ALGORITHMS }

/** Slices of uneven length that cover `[from, from + length)`. */
function slicesOf(from: number, length: number, step: number): HashSlice[] {
  const slices: HashSlice[] = []
  for (let at = 0; at < length; at += step) {
    slices.push({ slabOffset: from + at, length: Math.min(step, length - at) })
  }
  return slices
}

describe.each(Object.entries(IMPLEMENTATIONS))('hashing: %s', (_name, create) => {
  let hashing: Hashing
  beforeEach(async () => {
    hashing = create()
    await hashing.start()
  })
  afterEach(() => hashing.stop())

  test('a stream gives every hash asked for, in the order of its slices', async () => {
    const stream = hashing.open(ALL)
    const updates = slicesOf(3, 1_000_001, 77_777).map((slice) => stream.update(slice))
    const hashes = await stream.finish()
    await Promise.all(updates)
    const body = bytes.subarray(3, 1_000_004)
    expect(hashes.md5).toBe(createHash('md5').update(body).digest('hex'))
    expect(hashes.sha256).toBe(createHash('sha256').update(body).digest('hex'))
    for (const algorithm of CHECKSUM_ALGORITHMS) {
      expect(hashes.checksums[algorithm]).toBe(computeChecksum(algorithm, body))
    }
  })

  test('an empty body has the hashes of nothing, and what was not asked for is absent', async () => {
    const hashes = await hashing.open({ md5: true, sha256: false, algorithms: [] }).finish()
    expect(hashes).toEqual({ md5: 'd41d8cd98f00b204e9800998ecf8427e', checksums: {} })
  })

  test('bytes may be reused once update resolved', async () => {
    const scratch = { slabOffset: 5 * 1024 * 1024, length: 100_000 }
    const place = bytes.subarray(scratch.slabOffset, scratch.slabOffset + scratch.length)
    const stream = hashing.open({ md5: true, sha256: false, algorithms: ['CRC64NVME'] })
    const expected = createHash('md5')
    for (let round = 0; round < 20; round++) {
      place.fill(round)
      expected.update(place)
      await stream.update(scratch)
      place.fill(0xee)
    }
    expect((await stream.finish()).md5).toBe(expected.digest('hex'))
  })

  test('many streams at once do not mix', async () => {
    const bodies = Array.from({ length: 12 }, (_, index) => ({ from: index * 1000, length: 300_000 + index }))
    const hashes = await Promise.all(
      bodies.map(async ({ from, length }) => {
        const stream = hashing.open({ md5: true, sha256: false, algorithms: ['CRC32C'] })
        for (const slice of slicesOf(from, length, 50_000)) await stream.update(slice)
        return stream.finish()
      }),
    )
    bodies.forEach(({ from, length }, index) => {
      const body = bytes.subarray(from, from + length)
      expect(hashes[index]?.md5).toBe(createHash('md5').update(body).digest('hex'))
      expect(hashes[index]?.checksums.CRC32C).toBe(computeChecksum('CRC32C', body))
    })
  })

  test('an abandoned stream leaves the others and the next alone', async () => {
    const kept = hashing.open({ md5: true, sha256: false, algorithms: [] })
    const given = hashing.open(ALL)
    const updates = slicesOf(0, 2_000_000, 100_000).map((slice) => given.update(slice))
    const keptUpdate = kept.update({ slabOffset: 0, length: 1000 })
    given.abandon()
    given.abandon()
    await Promise.all([...updates, keptUpdate])
    const digest = createHash('md5').update(bytes.subarray(0, 1000)).digest('hex')
    expect((await kept.finish()).md5).toBe(digest)
    await hashing.drain()
  })

  test('C14: pages are checked one by one, the last may be short', async () => {
    const slice = { slabOffset: PAGE_BYTES, length: 3 * PAGE_BYTES + 17 }
    const checksums = await hashing.pageChecksums(slice, PAGE_BYTES)
    const pages = slicesOf(slice.slabOffset, slice.length, PAGE_BYTES)
    expect([...checksums]).toEqual(
      pages.map((page) => crc32(bytes.subarray(page.slabOffset, page.slabOffset + page.length))),
    )
    expect(await hashing.verifyPages(slice, PAGE_BYTES, checksums)).toBe(true)
    expect(await hashing.verifyPages(slice, PAGE_BYTES, checksums.subarray(1))).toBe(false)
    bytes[slice.slabOffset + slice.length - 1]! ^= 1
    expect(await hashing.verifyPages(slice, PAGE_BYTES, checksums)).toBe(false)
    bytes[slice.slabOffset + slice.length - 1]! ^= 1
  })

  test('after stop everything is Unavailable', async () => {
    await hashing.stop()
    expect(() => hashing.open(ALL)).toThrow(expect.objectContaining({ code: 'Unavailable' }))
    await expect(hashing.pageChecksums({ slabOffset: 0, length: 10 }, 5)).rejects.toMatchObject({ code: 'Unavailable' })
  })
})

describe('hash workers', () => {
  let hashing: Hashing
  beforeEach(async () => {
    hashing = createHashWorkers({ slab, workers: 1, queueSlicesMax: 2 })
    await hashing.start()
  })
  afterEach(() => hashing.stop())

  test('a stop in the middle of a stream fails what waits, and what comes after', async () => {
    const stream = hashing.open(ALL)
    const updates = slicesOf(0, 4_000_000, 200_000).map((slice) => stream.update(slice))
    const finished = stream.finish()
    const outcomes = Promise.allSettled([...updates, finished])
    await hashing.stop()
    const statuses = (await outcomes).map((outcome) => outcome.status)
    expect(statuses.at(-1)).toBe('rejected')
    await expect(finished).rejects.toMatchObject({ code: 'Unavailable' })
  })

  test('a worker that dies fails its streams, and is replaced', async () => {
    const stream = hashing.open({ md5: true, sha256: false, algorithms: ['CRC32'] })
    await stream.update({ slabOffset: 0, length: 1000 })
    // A slice outside the slab is a bug of the caller's; here it stands for any fault that ends the thread.
    const fault = stream.update({ slabOffset: SLAB_BYTES, length: 1 })
    const queued = stream.update({ slabOffset: 0, length: 1000 })
    await expect(fault).rejects.toMatchObject({ code: 'Unavailable' })
    await expect(queued).rejects.toMatchObject({ code: 'Unavailable' })
    await expect(stream.update({ slabOffset: 0, length: 1 })).rejects.toMatchObject({ code: 'Unavailable' })
    await expect(stream.finish()).rejects.toMatchObject({ code: 'Unavailable' })
    stream.abandon()
    const next = await untilAvailable(() => hashing.open({ md5: true, sha256: false, algorithms: [] }))
    expect((await next.finish()).md5).toBe('d41d8cd98f00b204e9800998ecf8427e')
  })

  test('drain waits for the stream under way and takes no other', async () => {
    const stream = hashing.open({ md5: true, sha256: false, algorithms: [] })
    let drained = false
    const draining = hashing.drain().then(() => (drained = true))
    expect(() => hashing.open(ALL)).toThrow(expect.objectContaining({ code: 'Unavailable' }))
    await stream.update({ slabOffset: 0, length: 1_000_000 })
    expect(drained).toBe(false)
    await stream.finish()
    await draining
  })

  test('the event loop stays free while a large body is hashed', async () => {
    const stream = hashing.open({ md5: true, sha256: true, algorithms: [] })
    let turns = 0
    const timer = setInterval(() => turns++, 1)
    for (let round = 0; round < 4; round++) {
      await Promise.all(slicesOf(0, SLAB_BYTES, 1024 * 1024).map((slice) => stream.update(slice)))
    }
    clearInterval(timer)
    await stream.finish()
    expect(turns).toBeGreaterThan(10) // 32 MiB take about 80 ms of MD5; done inline there would be no more than four
  })
})

async function untilAvailable<T>(attempt: () => T): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return attempt()
    } catch (error) {
      if (tries === 100) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}
