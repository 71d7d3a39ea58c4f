import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Clock } from '../../../../src/common/clock.ts'
import { BLOCK_BYTES, blockBytes, pageCrcs, segment } from '../../../conformance/cache-level.ts'
import { HandClock } from '../../../conformance/hand-clock.ts'
import { DiskFixture } from './disk-fixtures.ts'

const [ONE, TWO, THREE] = [segment('1'), segment('2'), segment('3')]
let fixture: DiskFixture

beforeEach(() => {
  fixture = new DiskFixture()
})
afterEach(() => fixture.dispose())

function flip(path: string, at: number): void {
  const bytes = readFileSync(path)
  bytes[at] = (bytes[at] ?? 0) ^ 1
  writeFileSync(path, bytes)
}

describe('adoption', () => {
  test('takes a segment over by rename: its blocks are here, the file is no longer there', async () => {
    const level = await fixture.start()
    const { path, sealed } = fixture.sealedFile(ONE, 2 * BLOCK_BYTES + 100)
    expect(await level.adopt(ONE, path, sealed)).toBe(true)
    expect(existsSync(path)).toBe(false)
    expect(await fixture.read(level, ONE, 1)).toEqual(blockBytes(ONE, 1))
    expect(await fixture.read(level, ONE, 2)).toEqual(blockBytes(ONE, 2, 100))
    expect(await fixture.read(level, ONE, 3)).toBeUndefined()
    expect(level.residentBytes(ONE, 0, 1e6)).toBe(2 * BLOCK_BYTES + 100)
  })

  test('at every moment a block is under the old path or here, for who looks in this order', async () => {
    const level = await fixture.start()
    const { path, sealed } = fixture.sealedFile(ONE, 2 * BLOCK_BYTES)
    const adopting = level.adopt(ONE, path, sealed)
    // Many looks, of which the first come before and the last after the rename.
    for (let look = 0; look < 200; look++) {
      if (!existsSync(path)) expect(await fixture.read(level, ONE, 1)).toEqual(blockBytes(ONE, 1))
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(await adopting).toBe(true)
    expect(existsSync(path)).toBe(false)
  })

  test('leaves the file where it is when it cannot be renamed, is too large, or is here already', async () => {
    const level = await fixture.start({ bytesMax: 512 * 1024 })
    const { path, sealed } = fixture.sealedFile(ONE, 2 * BLOCK_BYTES)
    fixture.fault = (operation) => {
      if (operation === 'rename') throw Object.assign(new Error('cross-device link'), { code: 'EXDEV' })
    }
    expect(await level.adopt(ONE, path, sealed)).toBe(false)
    fixture.fault = () => undefined
    expect([existsSync(path), await fixture.read(level, ONE, 0), level.bytesHeld]).toEqual([true, undefined, 0])
    const large = fixture.sealedFile(TWO, 200 * 1024)
    expect(await level.adopt(TWO, large.path, large.sealed)).toBe(false)
    expect(await level.adopt(ONE, path, sealed)).toBe(true)
    const again = fixture.sealedFile(ONE, 2 * BLOCK_BYTES)
    expect(await level.adopt(ONE, again.path, again.sealed)).toBe(false)
    expect(await level.adopt(THREE, join(fixture.root, 'none'), sealed)).toBe(false)
    expect(fixture.failures).toEqual([])
  })

  test('a segment that is forgotten while its rename fails gives its room back once', async () => {
    const level = await fixture.start()
    const other = fixture.sealedFile(TWO, 4 * BLOCK_BYTES)
    expect(await level.adopt(TWO, other.path, other.sealed)).toBe(true)
    const held = level.bytesHeld
    const { path, sealed } = fixture.sealedFile(ONE, BLOCK_BYTES)
    fixture.fault = (operation) => {
      if (operation !== 'rename') return
      level.forget(ONE)
      throw Object.assign(new Error('cross-device link'), { code: 'EXDEV' })
    }
    expect(await level.adopt(ONE, path, sealed)).toBe(false)
    await fixture.settled(level)
    expect([existsSync(path), level.bytesHeld, fixture.failures]).toEqual([true, held, []])
  })

  test('a segment that is forgotten while it is adopted is not here afterwards, and takes no room', async () => {
    const level = await fixture.start()
    const { path, sealed } = fixture.sealedFile(ONE, BLOCK_BYTES)
    const adopting = level.adopt(ONE, path, sealed)
    level.forget(ONE)
    await adopting
    await fixture.settled(level)
    expect([await fixture.read(level, ONE, 0), level.bytesHeld, fixture.files()]).toEqual([undefined, 0, []])
  })

  test('when an adopted segment goes, blocks of it that were used stay, and go on to be found', async () => {
    const level = await fixture.start({ bytesMax: 1024 * 1024 })
    const first = fixture.sealedFile(ONE, 32 * BLOCK_BYTES)
    expect(await level.adopt(ONE, first.path, first.sealed)).toBe(true)
    for (const block of [3, 30]) expect(await fixture.read(level, ONE, block)).toBeDefined()
    for (let block = 0; block < 400; block++) await fixture.keep(level, TWO, block)
    expect(fixture.files().some((name) => name.includes(ONE))).toBe(false)
    expect(await fixture.read(level, ONE, 3)).toEqual(blockBytes(ONE, 3))
    expect(await fixture.read(level, ONE, 30)).toEqual(blockBytes(ONE, 30))
    expect(await fixture.read(level, ONE, 4)).toBeUndefined()
  })
})

describe('bytes', () => {
  test('neither the count nor the directory is over the bound at any moment, adopted files and survivors included', async () => {
    const bytesMax = 768 * 1024
    const level = await fixture.start({ bytesMax })
    const ids = ['4', '5', '6', '7', '8', '9', 'a', 'b'].map(segment)
    for (const id of ids) {
      const { path, sealed } = fixture.sealedFile(id, 20 * BLOCK_BYTES)
      await level.adopt(id, path, sealed)
      for (let block = 0; block < 9; block++) await fixture.read(level, id, block)
      for (let block = 0; block < 40; block++) {
        await fixture.keep(level, ONE, ids.indexOf(id) * 40 + block)
        expect(level.bytesHeld).toBeLessThanOrEqual(bytesMax)
        expect(fixture.bytesOnDisk()).toBeLessThanOrEqual(level.bytesHeld)
      }
    }
    expect(level.stats.evictions).toBeGreaterThan(0)
    expect(fixture.bytesSeenMax).toBeGreaterThan(bytesMax / 2)
    expect(fixture.bytesSeenMax).toBeLessThanOrEqual(bytesMax)
  })

  test('a file is not removed while it is read, and its bytes count until it is', async () => {
    const level = await fixture.start()
    const { path, sealed } = fixture.sealedFile(ONE, 4 * BLOCK_BYTES)
    await level.adopt(ONE, path, sealed)
    const gate = Promise.withResolvers<void>()
    fixture.reader.gate = gate.promise
    const reading = fixture.read(level, ONE, 2)
    await new Promise((resolve) => setTimeout(resolve, 20))
    const held = level.bytesHeld
    level.forget(ONE)
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect([level.bytesHeld, fixture.files().length]).toEqual([held, 1])
    gate.resolve()
    expect(await reading).toEqual(blockBytes(ONE, 2))
    await fixture.settled(level)
    expect([level.bytesHeld, fixture.files()]).toEqual([0, []])
  })

  test('gives way when the disk runs full', async () => {
    let nowMs = 0
    const clock: Clock = {
      nowMs: () => nowMs,
      monotonicMs: () => nowMs,
      sleep: (_, signal) =>
        new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(new Error('ended')))),
    }
    const level = await fixture.start({ freeBytesMin: 1e6, clock })
    for (let block = 0; block < 60; block++) await fixture.keep(level, ONE, block)
    const before = level.bytesHeld
    nowMs = 5000
    fixture.freeBytes = 1e6 - before / 2
    await fixture.keep(level, ONE, 100)
    expect(level.bytesHeld).toBeLessThanOrEqual(before / 2)
  })

  test('gives way when the disk runs full though nothing is offered, as while the remote store is away', async () => {
    const clock = new HandClock()
    const level = await fixture.start({ freeBytesMin: 1e6, clock })
    for (let block = 0; block < 60; block++) await fixture.keep(level, ONE, block)
    const before = level.bytesHeld
    for (let round = 0; round < 3; round++) {
      // Somebody else fills the disk; what is evicted is free again.
      fixture.freeBytes = 1e6 - before / 2 + (before - level.bytesHeld)
      await clock.advance(1000)
      await fixture.settled(level)
    }
    expect(level.bytesHeld).toBeGreaterThan(0)
    expect(level.bytesHeld).toBeLessThanOrEqual(before / 2)
    expect(fixture.bytesOnDisk()).toBeLessThanOrEqual(before / 2)
    expect(fixture.failures).toEqual([])
    await level.stop()
    const files = fixture.files()
    fixture.freeBytes = 0
    await clock.advance(5000)
    expect(fixture.files()).toEqual(files)
  })

  test('files that are open for reading are few, however many there are', async () => {
    const level = await fixture.start({ bytesMax: 8 * 1024 * 1024 })
    const ids = Array.from({ length: 200 }, (_, index) => (256 + index).toString(16).padStart(32, '0') as typeof ONE)
    for (const id of ids) {
      const { path, sealed } = fixture.sealedFile(id, 100)
      expect(await level.adopt(id, path, sealed)).toBe(true)
    }
    for (const id of ids) expect(await fixture.read(level, id, 0)).toEqual(blockBytes(id, 0, 100))
    expect(fixture.reader.openFiles).toBeLessThanOrEqual(130)
  })
})

describe('bad bytes (C14)', () => {
  test('a flipped bit is dropped, counted, and the block can be kept anew', async () => {
    const level = await fixture.start()
    await fixture.keep(level, ONE, 0)
    await fixture.keep(level, ONE, 1)
    const pack = join(fixture.directory, fixture.files()[0] ?? '')
    flip(pack, 64 + 64 + 2000)
    expect(await fixture.read(level, ONE, 0)).toBeUndefined()
    expect(level.stats).toMatchObject({ badPages: 1, misses: 1 })
    expect(level.residentBytes(ONE, 0, BLOCK_BYTES)).toBe(0)
    await fixture.keep(level, ONE, 0)
    expect(await fixture.read(level, ONE, 0)).toEqual(blockBytes(ONE, 0))
    expect(await fixture.read(level, ONE, 1)).toEqual(blockBytes(ONE, 1))
  })

  test('so is one in an adopted segment, and its other blocks stay', async () => {
    const level = await fixture.start()
    const { path, sealed } = fixture.sealedFile(ONE, 3 * BLOCK_BYTES)
    await level.adopt(ONE, path, sealed)
    flip(join(fixture.directory, fixture.files()[0] ?? ''), BLOCK_BYTES + 10)
    expect(await fixture.read(level, ONE, 1)).toBeUndefined()
    expect(await fixture.read(level, ONE, 0)).toEqual(blockBytes(ONE, 0))
    await fixture.keep(level, ONE, 1)
    expect(await fixture.read(level, ONE, 1)).toEqual(blockBytes(ONE, 1))
    expect(level.stats.badPages).toBe(1)
  })

  test('a disk that cannot be read is a miss, never an error', async () => {
    const level = await fixture.start()
    await fixture.keep(level, ONE, 0)
    await fixture.keep(level, TWO, 0)
    fixture.fault = (operation) => {
      if (operation === 'read') throw Object.assign(new Error('i/o error'), { code: 'EIO' })
    }
    expect(await fixture.read(level, ONE, 0)).toBeUndefined()
    fixture.fault = () => undefined
    expect(await fixture.read(level, TWO, 0)).toEqual(blockBytes(TWO, 0))
  })

  test('a disk that cannot be written turns writing off, tells so once, and what is held is still read', async () => {
    const level = await fixture.start()
    await fixture.keep(level, ONE, 0)
    fixture.fault = (operation) => {
      if (operation === 'write') throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
    }
    await fixture.keep(level, ONE, 1)
    await fixture.keep(level, ONE, 2)
    expect(fixture.failures).toEqual(['write a block: no space left on device'])
    expect(level.stats).toMatchObject({ writes: 1, dropped: 2 })
    expect(await fixture.read(level, ONE, 0)).toEqual(blockBytes(ONE, 0))
    const { path, sealed } = fixture.sealedFile(TWO, BLOCK_BYTES)
    expect(await level.adopt(TWO, path, sealed)).toBe(false)
  })
})

describe('restart', () => {
  async function filled(): Promise<void> {
    const level = await fixture.start()
    for (let block = 0; block < 20; block++) await fixture.keep(level, ONE, block)
    const { path, sealed } = fixture.sealedFile(TWO, 2 * BLOCK_BYTES)
    await level.adopt(TWO, path, sealed)
  }

  /** Blocks of those that `filled` made. */
  async function found(level: Awaited<ReturnType<DiskFixture['start']>>): Promise<number> {
    let count = 0
    for (const [id, blocks] of [[ONE, 20] as const, [TWO, 2] as const]) {
      for (let block = 0; block < blocks; block++) {
        const bytes = await fixture.read(level, id, block)
        if (bytes === undefined) continue
        expect(bytes).toEqual(blockBytes(id, block))
        count++
      }
    }
    return count
  }

  test('finds what lay there, whether it was stopped or not', async () => {
    await filled()
    // As after kill -9: packs that were being written have no footer.
    const killed = await fixture.start()
    expect(await found(killed)).toBe(22)
    expect(killed.bytesHeld).toBeGreaterThanOrEqual(fixture.bytesOnDisk())
    await fixture.keep(killed, THREE, 0)
    await killed.stop()
    const stopped = await fixture.start()
    expect(await found(stopped)).toBe(22)
    expect(await fixture.read(stopped, THREE, 0)).toEqual(blockBytes(THREE, 0))
  })

  test('with less room than before it keeps to the new bound', async () => {
    await filled()
    const level = await fixture.start({ bytesMax: 48 * 1024 })
    expect(level.bytesHeld).toBeLessThanOrEqual(48 * 1024)
    expect(fixture.bytesOnDisk()).toBeLessThanOrEqual(48 * 1024)
    await fixture.keep(level, THREE, 0)
    expect(level.bytesHeld).toBeLessThanOrEqual(48 * 1024)
  })

  test('what is torn at any place costs what stood there, nothing else, and no other name is touched', async () => {
    await filled()
    writeFileSync(join(fixture.directory, 'notes.txt'), 'not ours')
    writeFileSync(join(fixture.directory, 'small-000000000077.pack'), Buffer.alloc(5000, 0xff))
    writeFileSync(join(fixture.directory, `main-000000000078-${THREE}.seg`), 'no segment')
    writeFileSync(join(fixture.directory, 'small-000000000079.pack'), '')
    mkdirSync(join(fixture.directory, 'small-000000000080.pack'))
    const pack = fixture.files().find((name) => name.endsWith('01.pack')) ?? ''
    const path = join(fixture.directory, pack)
    const whole = readFileSync(path)
    for (const at of [0, 3, 63, 64, 70, 128, 3000, whole.length - 40, whole.length - 3]) {
      writeFileSync(path, whole)
      truncateSync(path, at)
      const level = await fixture.start()
      expect(await found(level)).toBeGreaterThanOrEqual(2)
      await level.stop()
    }
    expect(readFileSync(join(fixture.directory, 'notes.txt'), 'utf8')).toBe('not ours')
    expect(
      fixture.files().some((name) => name.includes('0077') || name.includes('0078') || name.includes('0079')),
    ).toBe(false)
  })

  test('a pack of a gateway with other blocks is of no use and goes', async () => {
    await filled()
    for (const name of fixture.files().filter((one) => one.endsWith('.pack'))) flip(join(fixture.directory, name), 9)
    expect(await found(await fixture.start())).toBe(2)
    expect(fixture.files().filter((name) => name.endsWith('.pack'))).toEqual([])
  })

  test('keeps what was used in the queue of what is used', async () => {
    const level = await fixture.start({ bytesMax: 512 * 1024 })
    for (let block = 0; block < 4; block++) await fixture.keep(level, ONE, block)
    for (let block = 0; block < 4; block++) await fixture.read(level, ONE, block)
    for (let block = 0; block < 200; block++) await fixture.keep(level, TWO, block)
    await level.stop()
    const again = await fixture.start({ bytesMax: 512 * 1024 })
    for (let block = 200; block < 400; block++) await fixture.keep(again, TWO, block)
    for (let block = 0; block < 4; block++) expect(await fixture.read(again, ONE, block)).toBeDefined()
  })
})

test('after stop everything is a miss and nothing is taken', async () => {
  const level = await fixture.start()
  await fixture.keep(level, ONE, 0)
  await level.stop()
  const bytes = blockBytes(ONE, 1)
  level.keep(ONE, 1, bytes, pageCrcs(bytes))
  expect(await fixture.read(level, ONE, 0)).toBeUndefined()
  expect(level.stats.dropped).toBe(1)
  expect(fixture.reader.openFiles).toBe(0)
})
