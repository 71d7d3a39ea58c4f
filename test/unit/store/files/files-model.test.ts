/**
 * Random operations on one file against a plain buffer: writes, appends, cuts, holes, reads, closes and syncs, some under way at
 * once, over a journal and metadata that pause and fail at random. The memory is tiny, so that every write presses.
 */
import { expect, test } from 'vitest'
import { isTidegateError, TidegateError } from '../../../../src/common/errors.ts'
import { checkFileLimits } from '../../../../src/store/files/limits.ts'
import { createFixture, type Fixture } from './files-fixture.ts'

const SIZE_MAX = 60_000
const OPERATIONS = 400
const LIMITS = checkFileLimits({
  dirtyBytesMax: 64 * 1024,
  fileDirtyBytesMax: 32 * 1024,
  writeBytesMax: 8 * 1024,
  publishAgeMsMax: 1,
  editsMax: 16,
  readAheadBytesMax: 8 * 1024,
  fileBytesMax: 2 ** 40,
})

type Random = (below: number) => number

function seeded(seed: number): Random {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

class Run {
  model = Buffer.alloc(0)
  failing = false
  readonly fixture: Fixture
  readonly underWay = new Set<Promise<unknown>>()
  readonly random: Random
  handles: number[] = []
  inode = 0

  constructor(seed: number) {
    this.random = seeded(seed)
    this.fixture = createFixture(LIMITS, 512)
    const hook = async (what: string): Promise<void> => {
      for (let turns = this.random(3); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve))
      const mayFail = this.failing && what !== 'fileExtents' && what !== 'fileNode' && what !== 'published'
      if (mayFail && this.random(3) === 0) throw new TidegateError('Unavailable', `${what} fails`)
    }
    this.fixture.metadata.hook = hook
    this.fixture.journal.hook = hook
  }

  async start(): Promise<void> {
    this.inode = await this.fixture.make('a')
    for (let count = 0; count < 3; count++) this.handles.push(await this.fixture.open(this.inode))
  }

  #cover(end: number): void {
    if (end > this.model.length) this.model = Buffer.concat([this.model, Buffer.alloc(end - this.model.length)])
  }

  async step(): Promise<void> {
    const { random, fixture } = this
    const { files } = fixture
    const handle = this.handles[random(3)] as number
    const offset = random(random(4) === 0 ? SIZE_MAX : 4_000)
    const length = 1 + random(random(3) === 0 ? 8_000 : 300)
    switch (random(14)) {
      case 0:
      case 1:
      case 2:
      case 3: {
        const bytes = Buffer.alloc(length, 1 + random(255))
        await files.write(handle, offset, bytes, false)
        this.#cover(offset + length)
        bytes.copy(this.model, offset)
        bytes.fill(0xee)
        return
      }
      case 4: {
        const bytes = Buffer.alloc(length, 1 + random(255))
        await files.write(handle, 0, bytes, true)
        this.model = Buffer.concat([this.model, bytes])
        return
      }
      case 5: {
        await files.change(this.inode, { size: offset })
        this.#cover(offset)
        this.model = this.model.subarray(0, offset)
        return
      }
      case 6: {
        await files.allocate(handle, { offset, length }, { kind: 'punch', keepSize: true })
        this.model = Buffer.from(this.model)
        this.model.fill(0, Math.min(offset, this.model.length), Math.min(offset + length, this.model.length))
        return
      }
      case 7: {
        await files.allocate(handle, { offset, length }, { kind: 'zero', keepSize: false })
        this.#cover(offset + length)
        this.model.fill(0, offset, offset + length)
        return
      }
      case 8:
        return this.#start(files.sync(handle))
      case 9:
        return this.#start(files.flush(handle))
      case 10:
        await fixture.clock.advance(10)
        return this.#start(files.publishAged())
      case 11: {
        const index = this.handles.indexOf(handle)
        await files.release(handle)
        this.handles[index] = await fixture.open(this.inode)
        return
      }
      case 12:
        this.failing = !this.failing
        return
      default:
        return await this.#check(handle, offset, length)
    }
  }

  #start(work: Promise<unknown>): void {
    const tracked: Promise<unknown> = work.catch(() => undefined).finally(() => this.underWay.delete(tracked))
    this.underWay.add(tracked)
  }

  async #check(handle: number, offset: number, length: number): Promise<void> {
    const read = await this.fixture.contentOf(handle, offset, length)
    expect(read.equals(this.model.subarray(offset, offset + length))).toBe(true)
  }

  /** Everything is read back, then synced, then what other doors see and every resource is looked at. */
  async end(): Promise<void> {
    const { fixture, inode } = this
    const { files, journal, slab, readers } = fixture
    const [handle] = this.handles as [number]
    expect((await fixture.contentOf(handle)).equals(this.model)).toBe(true)
    expect((await files.node(inode)).size).toBe(this.model.length)
    this.failing = false
    while (this.underWay.size > 0) {
      await fixture.clock.advance(1_000)
    }
    await files.sync(handle)
    expect((await fixture.contentOf(handle)).equals(this.model)).toBe(true)
    expect((await fixture.publishedContent(inode)).equals(this.model)).toBe(true)
    for (const open of this.handles) await files.release(open)
    expect(files.activity).toEqual({ files: 0, handles: 0, dirtyBytes: 0 })
    // Nothing went wrong but what was made to: a body that changes while it is journaled, say.
    expect(fixture.failures.filter(({ cause }) => !isTidegateError(cause, 'Unavailable'))).toEqual([])
    expect([journal.pending, slab.leases.size, readers.count]).toEqual([0, 0, 0])
  }
}

const FIRST_SEED = Number(process.env['TIDEGATE_TEST_SEED'] ?? 1)
const SEEDS = Number(process.env['TIDEGATE_TEST_SEEDS'] ?? 20)

test.each(Array.from({ length: SEEDS }, (_, index) => FIRST_SEED + index))(
  'C20: any order of operations and failures reads like a buffer and is published whole (seed %i)',
  async (seed) => {
    const run = new Run(seed)
    await run.start()
    // Time goes on by itself, so that waits for a retry end.
    const ticking = setInterval(() => void run.fixture.clock.advance(50), 5)
    try {
      for (let operation = 0; operation < OPERATIONS; operation++) await run.step()
      await run.end()
    } finally {
      clearInterval(ticking)
    }
  },
)
