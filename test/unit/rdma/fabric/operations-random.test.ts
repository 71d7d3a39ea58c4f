/**
 * Random transfers over a device that fails in every way it can: what a caller is given back is never touched again, neither here nor at the other end, and what ended well is there. Memory is its
 * caller's from when a transfer settles: it is filled with one byte at once, and has to look like that still when it is used next.
 *
 * TIDEGATE_TEST_SEED is the first seed (default 1), TIDEGATE_TEST_SEEDS how many.
 */
import { expect, test } from 'vitest'
import { Operations } from '../../../../src/rdma/fabric/operations.ts'
import { FabricFailure } from '../../../../src/rdma/fabric/ports.ts'
import type { Channel, FailureKind, Region } from '../../../../src/rdma/fabric/ports.ts'
import { HandClock, turn } from '../../../conformance/hand-clock.ts'
import { Random } from '../../../model/random.ts'
import { FakeFabricNetwork } from '../../../support/fake-fabric.ts'
import type { FakeDevice } from '../../../support/fake-fabric.ts'

const FIRST_SEED = Number(process.env['TIDEGATE_TEST_SEED'] ?? 1)
const SEEDS = Number(process.env['TIDEGATE_TEST_SEEDS'] ?? 30)
const STEPS = 600

/** Memory is given out by the cell. */
const CELLS = 48
const CELL_BYTES = 512
const OPERATION_BYTES_MAX = 128
const LIMITS = { operationsMax: 6, bytesMax: 600 }
const TRANSFER_MS_MAX = 60
/** How much later than its deadline a transfer may settle: a tick, and what the test takes to close the channel. */
const LATE_MS_MAX = 60
/** In a cell that is nobody's, here and at the other end. */
const FREE = 0xfe

interface Open {
  readonly channel: Channel
  readonly other: Channel
  readonly operations: Operations
}

class Run {
  readonly random: Random
  readonly clock = new HandClock()
  readonly one: FakeDevice
  readonly two: FakeDevice
  readonly mine: Region
  /** Of each cell the first half is read, the second written. */
  readonly theirs: Region
  readonly #free = Array.from({ length: CELLS }, (_, cell) => cell)
  readonly #deadlines = new Map<number, number>()
  readonly outcomes: Record<string, number> = {}
  /** Undefined: it is being closed. */
  #open: Open | undefined
  #filling = 0

  constructor(seed: number) {
    this.random = new Random(seed)
    const network = new FakeFabricNetwork({ clock: this.clock, seed })
    this.one = network.device({ operationBytesMax: OPERATION_BYTES_MAX })
    this.two = network.device()
    this.mine = this.one.register(new Uint8Array(CELLS * CELL_BYTES).fill(FREE), 'none')
    this.theirs = this.two.register(new Uint8Array(CELLS * CELL_BYTES * 2), 'read and write')
    for (let cell = 0; cell < CELLS; cell++) {
      const [readable, writable] = this.#there(cell)
      for (let at = 0; at < CELL_BYTES; at++) readable[at] = this.random.below(256)
      writable.fill(FREE)
    }
    this.#open = this.#opened()
  }

  #there(cell: number): readonly [readable: Uint8Array, writable: Uint8Array] {
    const { memory } = this.theirs
    const at = cell * CELL_BYTES * 2
    return [memory.subarray(at, at + CELL_BYTES), memory.subarray(at + CELL_BYTES, at + 2 * CELL_BYTES)]
  }

  #opened(): Open {
    const [channel, other] = [this.one.open(), this.two.open()]
    channel.connect(other.name)
    const { operationBytesMax } = this.one
    const onStuck = (): void => {
      this.#count('stuck')
      this.#anew()
    }
    const { clock } = this
    return {
      channel,
      other,
      operations: new Operations({ channel, operationBytesMax, clock, limits: LIMITS, onStuck }),
    }
  }

  /** As after any failure that may have broken the path: both ends are closed, and others take their place. */
  #anew(): void {
    const closing = this.#open
    if (closing === undefined) return
    this.#open = undefined
    const { channel, other } = closing
    const ends = this.random.chance(0.5) ? [channel, other] : [other, channel]
    void Promise.all(ends.map((end) => end.close())).then(() => {
      expect([channel.underWay, closing.operations.bytesUnderWay]).toEqual([0, 0])
      this.#open = this.#opened()
    })
  }

  #count(what: string): void {
    this.outcomes[what] = (this.outcomes[what] ?? 0) + 1
  }

  /** One or several cells in a row would do as well: a transfer has one, and parts of it. */
  async #transfer(): Promise<void> {
    const at = this.random.below(this.#free.length)
    const [cell] = this.#free.splice(at, 1)
    const open = this.#open
    if (cell === undefined || open === undefined) return
    const kind = this.random.chance(0.5) ? 'read' : 'write'
    const bytes = 1 + this.random.below(CELL_BYTES)
    const skipped = this.random.below(CELL_BYTES - bytes + 1)
    const here = this.mine.memory.subarray(cell * CELL_BYTES, (cell + 1) * CELL_BYTES)
    const [readable, writable] = this.#there(cell)
    this.#expectFree(here, writable)
    const filling = this.#filling++ % FREE
    if (kind === 'write') here.fill(filling)
    const deadlineMs = this.clock.monotonicMs() + this.random.below(TRANSFER_MS_MAX)
    this.#deadlines.set(cell, deadlineMs)
    const from = cell * CELL_BYTES * 2 + (kind === 'read' ? 0 : CELL_BYTES) + skipped
    const failure = await open.operations
      .transfer({
        kind,
        region: this.mine,
        offset: cell * CELL_BYTES + skipped,
        bytes,
        remote: { key: this.theirs.key, address: this.theirs.address + BigInt(from) },
        deadlineMs,
      })
      .then(() => undefined, asFailure)
    this.#count(failure?.kind ?? 'well')
    if (failure === undefined) {
      const [moved, wanted] = kind === 'read' ? [here, readable] : [writable, here]
      expect(equal(moved.subarray(skipped, skipped + bytes), wanted.subarray(skipped, skipped + bytes))).toBe(true)
    }
    // What a transfer was not of is as it was.
    const touched = kind === 'read' ? here : writable
    expect(isFilled(touched.subarray(0, skipped), FREE) && isFilled(touched.subarray(skipped + bytes), FREE)).toBe(true)
    if (kind === 'write') expect(isFilled(here, filling)).toBe(true)
    here.fill(FREE)
    writable.fill(FREE)
    this.#deadlines.delete(cell)
    this.#free.push(cell)
    if (failure?.kind === 'refused') this.#anew()
  }

  #expectFree(...memory: Uint8Array[]): void {
    for (const each of memory) expect(isFilled(each, FREE)).toBe(true)
  }

  #fault(): void {
    const { two, one, random } = this
    const kinds: FailureKind[] = ['refused', 'gone', 'failed', 'unfit']
    const faults: (() => void)[] = [
      () => two.stall(),
      () => two.die(),
      () => two.release(),
      () => {
        two.failing = { every: 1 + random.below(60), kind: random.pick(kinds) }
      },
      () => {
        two.slowMs = random.below(30)
      },
      () => {
        two.laterChance = random.next()
      },
      () => {
        one.operationsMax = 1 + random.below(8)
      },
      () => this.#anew(),
      () => this.#heal(),
    ]
    random.pick(faults)()
  }

  #heal(): void {
    this.two.release()
    this.two.failing = undefined
    this.two.slowMs = 0
    this.two.laterChance = 0
    this.one.operationsMax = Number.POSITIVE_INFINITY
  }

  async step(running: Promise<void>[]): Promise<void> {
    for (let left = this.random.below(6); left > 0; left--) {
      if (this.#free.length > 0 && this.#open !== undefined) running.push(this.#transfer())
    }
    if (this.random.chance(0.1)) this.#fault()
    if (this.random.chance(0.5)) await this.clock.advance(this.random.below(6))
    else await turn()
    this.#look()
  }

  #look(): void {
    const { channel, operations } = this.#open ?? {}
    expect(channel?.underWay ?? 0).toBeLessThanOrEqual(LIMITS.operationsMax)
    expect(operations?.bytesUnderWay ?? 0).toBeLessThanOrEqual(LIMITS.bytesMax)
    for (const deadlineMs of this.#deadlines.values()) {
      expect(this.clock.monotonicMs() - deadlineMs).toBeLessThanOrEqual(LATE_MS_MAX)
    }
  }

  async end(running: Promise<void>[]): Promise<void> {
    for (let left = TRANSFER_MS_MAX + LATE_MS_MAX; left > 0; left--) {
      await this.clock.advance(1)
      this.#look()
    }
    expect(this.#deadlines.size).toBe(0)
    await Promise.all(running)
    // What was stalled gets to go on, and must find nothing.
    this.#heal()
    for (let left = 50; left > 0; left--) await this.clock.advance(10)
    expect(isFilled(this.mine.memory, FREE)).toBe(true)
    for (let cell = 0; cell < CELLS; cell++) this.#expectFree(this.#there(cell)[1])
    await Promise.all([this.one.close(), this.two.close()])
    expect([this.one.channelsOpen, this.two.channelsOpen, this.one.regionsRegistered]).toEqual([0, 0, 0])
  }
}

function asFailure(error: unknown): FabricFailure {
  if (error instanceof FabricFailure) return error
  throw error
}

function equal(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0
}

function isFilled(memory: Uint8Array, byte: number): boolean {
  return memory.every((each) => each === byte)
}

const seen: Record<string, number> = {}

test.each(Array.from({ length: SEEDS }, (_, index) => FIRST_SEED + index))(
  'memory is its caller’s again only when nothing touches it any more (TIDEGATE_TEST_SEED=%i)',
  async (seed) => {
    const run = new Run(seed)
    const running: Promise<void>[] = []
    for (let step = 0; step < STEPS; step++) await run.step(running)
    await run.end(running)
    for (const [outcome, times] of Object.entries(run.outcomes)) seen[outcome] = (seen[outcome] ?? 0) + times
  },
)

// Fewer runs may not meet everything: `refused`, the rarest, is met about once in a run.
test.skipIf(SEEDS < 15)('everything that can become of a transfer has been seen', () => {
  const all = ['well', 'refused', 'gone', 'failed', 'unfit', 'cut off', 'stuck']
  expect(all.filter((outcome) => seen[outcome] === undefined)).toEqual([])
  expect(seen['well']).toBeGreaterThan(SEEDS * 50)
  console.log(seen)
})
