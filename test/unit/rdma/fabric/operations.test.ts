import { beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import type { Clock } from '../../../../src/common/clock.ts'
import { Operations } from '../../../../src/rdma/fabric/operations.ts'
import type { TransferWanted } from '../../../../src/rdma/fabric/operations.ts'
import { FabricFailure } from '../../../../src/rdma/fabric/ports.ts'
import type { Channel, FailureKind, Operation, Region } from '../../../../src/rdma/fabric/ports.ts'
import { HandClock, turn } from '../../../conformance/hand-clock.ts'

/** Ends nothing by itself. */
class HandChannel implements Channel {
  readonly name = new Uint8Array(0)
  isClosed = false
  readonly started: Operation[] = []
  /** How often `start` was asked. */
  asked = 0
  isFull = false
  /** What `start` throws. */
  refusal: Error | undefined
  readonly hurried: boolean[] = []
  readonly #open = new Set<Operation>()

  get underWay(): number {
    return this.#open.size
  }

  resolve(): Promise<void> {
    throw new Error('is connected')
  }

  connect(): void {
    throw new Error('is connected')
  }

  start(operation: Operation): 'started' | 'later' {
    this.asked++
    if (this.isClosed) throw new Error('operations are not started on a channel that is closed')
    if (this.refusal) throw this.refusal
    if (this.isFull) return 'later'
    this.started.push(operation)
    this.#open.add(operation)
    return 'started'
  }

  hurry(isHeldBack: boolean): void {
    if (this.isClosed) throw new Error('a channel that is closed is not hurried')
    this.hurried.push(isHeldBack)
  }

  end(index: number, kind?: FailureKind): void {
    const operation = this.started[index]
    if (operation === undefined || !this.#open.delete(operation)) throw new Error(`${index} is not under way`)
    operation.ended(kind && new FabricFailure(kind, 'by hand'))
  }

  async close(): Promise<void> {
    this.isClosed = true
    await turn()
    this.endAll('cut off')
  }

  endAll(kind?: FailureKind): void {
    for (const [index, operation] of this.started.entries()) if (this.#open.has(operation)) this.end(index, kind)
  }
}

/** Counts who sleeps. */
class CountingClock extends HandClock {
  sleeping = 0
  readonly slept: number[] = []

  override async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.sleeping++
    this.slept.push(ms)
    await super.sleep(ms, signal)
    this.sleeping--
  }
}

const KEY = 0xffff_ffff_ffff_fff0n
const region: Region = {
  memory: new Uint8Array(1000),
  key: 1n,
  address: 0n,
  isClosed: false,
  close() {
    throw new Error('is not closed')
  },
}

let clock: CountingClock
let channel: HandChannel
let stuck: number
let operations: Operations
let onStuck: () => void

beforeEach(() => {
  clock = new CountingClock()
  channel = new HandChannel()
  stuck = 0
  onStuck = () => undefined
  operations = make({ operationsMax: 4, bytesMax: 100 })
})

function make(limits: { operationsMax: number; bytesMax: number }, by: Clock = clock): Operations {
  return new Operations({
    channel,
    operationBytesMax: 10,
    clock: by,
    limits,
    onStuck: () => {
      stuck++
      onStuck()
    },
  })
}

interface Outcome {
  /** Undefined: it has not settled. */
  state: 'well' | FailureKind | undefined
  message?: string
}

function transfer(wanted: Partial<TransferWanted> = {}): Outcome {
  const outcome: Outcome = { state: undefined }
  operations
    .transfer({
      kind: 'read',
      region,
      offset: 0,
      bytes: 10,
      remote: { key: KEY, address: 0n },
      deadlineMs: 100,
      ...wanted,
    })
    .then(
      () => {
        outcome.state = 'well'
      },
      (error: unknown) => {
        outcome.state = error instanceof FabricFailure ? error.kind : undefined
        outcome.message = String(error)
      },
    )
  return outcome
}

const offsets = (): number[] => channel.started.map(({ offset }) => offset)

/** Until nothing is left that sleeps; bounded. */
async function expectNoSleeper(): Promise<void> {
  for (let left = 4; left > 0 && clock.sleeping > 0; left--) await clock.advance(20)
  expect(clock.sleeping).toBe(0)
}

describe('a transfer', () => {
  it('is split at what the device moves at once, and has ended when all parts have', async () => {
    const outcome = transfer({ kind: 'write', offset: 100, bytes: 25, remote: { key: KEY, address: 2n ** 63n - 1n } })
    expect(channel.started).toMatchObject([
      { kind: 'write', region, offset: 100, bytes: 10, remote: { key: KEY, address: 2n ** 63n - 1n } },
      { kind: 'write', region, offset: 110, bytes: 10, remote: { key: KEY, address: 2n ** 63n + 9n } },
      { kind: 'write', region, offset: 120, bytes: 5, remote: { key: KEY, address: 2n ** 63n + 19n } },
    ])
    expect(operations.bytesUnderWay).toBe(25)
    channel.end(2)
    channel.end(0)
    await turn()
    expect([outcome.state, operations.bytesUnderWay]).toEqual([undefined, 10])
    channel.end(1)
    await turn()
    expect([outcome.state, operations.bytesUnderWay]).toEqual(['well', 0])
  })

  it('is not split further than its bytes', () => {
    transfer({ bytes: 20 })
    expect(channel.started.map(({ bytes }) => bytes)).toEqual([10, 10])
  })

  it('must be within its region', async () => {
    expect(() => operations.transfer({ ...wantedBase(), offset: 991 })).toThrow('within its region')
    expect(() => operations.transfer({ ...wantedBase(), bytes: 0 })).toThrow('within its region')
    await expectNoSleeper()
  })
})

function wantedBase(): TransferWanted {
  return { kind: 'read', region, offset: 0, bytes: 10, remote: { key: KEY, address: 0n }, deadlineMs: 100 }
}

describe('credit', () => {
  it('bounds how many operations are under way; the rest is started in order', async () => {
    const outcomes = [0, 100, 200].map((offset) => transfer({ offset, bytes: 20 }))
    expect(offsets()).toEqual([0, 10, 100, 110])
    channel.end(3)
    expect(offsets()).toEqual([0, 10, 100, 110, 200])
    channel.end(0)
    expect(offsets()).toEqual([0, 10, 100, 110, 200, 210])
    channel.endAll()
    await turn()
    expect(outcomes.map(({ state }) => state)).toEqual(['well', 'well', 'well'])
  })

  it('bounds how many bytes are under way, and what is small does not overtake', () => {
    operations = make({ operationsMax: 100, bytesMax: 15 })
    transfer({ offset: 0, bytes: 10 })
    transfer({ offset: 100, bytes: 10 })
    transfer({ offset: 200, bytes: 1 })
    expect(offsets()).toEqual([0])
    channel.end(0)
    expect([offsets(), operations.bytesUnderWay]).toEqual([[0, 100, 200], 11])
  })

  it('splits at what may be under way, where that is less', () => {
    operations = make({ operationsMax: 100, bytesMax: 7 })
    transfer({ bytes: 10 })
    channel.end(0)
    expect(channel.started.map(({ bytes }) => bytes)).toEqual([7, 3])
  })
})

describe('what the provider takes later', () => {
  it('is tried again each millisecond, hurried, in order', async () => {
    channel.isFull = true
    transfer({ offset: 0 })
    transfer({ offset: 100 })
    expect([channel.asked, channel.hurried]).toEqual([1, [true]])
    await clock.advance(1)
    await clock.advance(1)
    expect(channel.asked).toBe(3)
    channel.isFull = false
    await clock.advance(1)
    expect(offsets()).toEqual([0, 100])
    expect(channel.hurried).toEqual([true, false])
  })

  it('is tried again when an operation ends', async () => {
    transfer({ offset: 0 })
    transfer({ offset: 100 })
    channel.isFull = true
    transfer({ offset: 200 })
    channel.end(0)
    expect([offsets(), channel.asked]).toEqual([[0, 100], 4])
    channel.isFull = false
    channel.end(1)
    expect(offsets()).toEqual([0, 100, 200])
    await clock.advance(1)
    expect(channel.hurried).toEqual([true, false])
  })

  it('is withdrawn at the deadline, and nothing is stuck', async () => {
    channel.isFull = true
    const first = transfer({ offset: 0, deadlineMs: 100 })
    const second = transfer({ offset: 100, deadlineMs: 1_000 })
    await clock.advance(99)
    expect(first.state).toBeUndefined()
    await clock.advance(1)
    await clock.advance(20)
    expect([first.state, second.state, stuck]).toEqual(['failed', undefined, 0])
    channel.isFull = false
    await clock.advance(1)
    expect(offsets()).toEqual([100])
    channel.end(0)
    await expectNoSleeper()
    expect([second.state, channel.hurried]).toEqual(['well', [true, false]])
  })

  it('is hurried anew when it is held back anew', async () => {
    for (const offset of [0, 100]) {
      channel.isFull = true
      transfer({ offset })
      channel.isFull = false
      await clock.advance(1)
    }
    expect(offsets()).toEqual([0, 100])
    expect(channel.hurried).toEqual([true, false, true, false])
  })

  it('is tried by one wait, however many are held back', async () => {
    channel.isFull = true
    for (let left = 50; left > 0; left--) transfer()
    await clock.advance(1)
    await clock.advance(1)
    expect(clock.sleeping).toBe(2)
    expect(channel.asked).toBe(3)
  })
})

describe('past its deadline a transfer', () => {
  it('that has not been started is withdrawn, while others go on', async () => {
    operations = make({ operationsMax: 1, bytesMax: 100 })
    const [first, second, third] = [
      transfer({ offset: 0, bytes: 20, deadlineMs: 1_000 }),
      transfer({ offset: 100, deadlineMs: 50 }),
      transfer({ offset: 200, deadlineMs: 1_000 }),
    ]
    await clock.advance(60)
    expect([first?.state, second?.state, third?.state, stuck]).toEqual([undefined, 'late', undefined, 0])
    channel.end(0)
    channel.end(1)
    expect(offsets()).toEqual([0, 10, 200])
  })

  it('and before it is begun is not started', async () => {
    await clock.advance(100)
    const outcome = transfer()
    await turn()
    expect([outcome.state, channel.asked, clock.sleeping]).toEqual(['late', 0, 0])
  })

  it('with an operation under way is stuck, once, and its memory stays the device’s until that has ended', async () => {
    operations = make({ operationsMax: 2, bytesMax: 100 })
    const first = transfer({ offset: 0, bytes: 30 })
    const second = transfer({ offset: 100, deadlineMs: 200 })
    await clock.advance(100)
    expect([first.state, stuck]).toEqual([undefined, 1])
    // Nothing is to be started on a channel that is as good as closed.
    expect([second.state, offsets()]).toEqual(['cut off', [0, 10]])
    await clock.advance(500)
    channel.end(1)
    await turn()
    expect([first.state, stuck, offsets()]).toEqual([undefined, 1, [0, 10]])
    await channel.close()
    await turn()
    expect([first.state, first.message]).toEqual(['failed', 'FabricFailure: it was not moved in time'])
    const after = transfer({ deadlineMs: 10_000 })
    await turn()
    expect([after.state, channel.asked]).toEqual(['cut off', 2])
    await expectNoSleeper()
  })

  it('is stuck too when it has failed before', async () => {
    const outcome = transfer({ bytes: 20 })
    channel.end(0, 'refused')
    await clock.advance(100)
    expect([outcome.state, stuck]).toEqual([undefined, 1])
    channel.end(1)
    await turn()
    expect(outcome.state).toBe('refused')
  })

  it('may close the channel from within onStuck', async () => {
    onStuck = () => void channel.close()
    const outcomes = [transfer({ bytes: 20 }), transfer({ offset: 100, bytes: 20 }), transfer({ offset: 200 })]
    await clock.advance(100)
    await turn()
    expect(outcomes.map(({ state }) => state)).toEqual(['failed', 'failed', 'late'])
    expect(stuck).toBe(1)
    await expectNoSleeper()
  })
})

describe('a failure', () => {
  it('of one operation keeps the rest from being started, and waits for those under way', async () => {
    operations = make({ operationsMax: 2, bytesMax: 100 })
    const failing = transfer({ offset: 0, bytes: 50 })
    const next = transfer({ offset: 100 })
    channel.end(1, 'gone')
    await turn()
    expect([failing.state, offsets()]).toEqual([undefined, [0, 10, 100]])
    channel.end(0, 'failed')
    channel.end(2)
    await turn()
    expect([failing.state, next.state]).toEqual(['gone', 'well'])
    expect(offsets()).toEqual([0, 10, 100])
  })

  it('to start fails that transfer alone', async () => {
    channel.refusal = new FabricFailure('unfit', 'no')
    const refused = transfer({ offset: 0, bytes: 30 })
    channel.refusal = undefined
    const next = transfer({ offset: 100 })
    channel.end(0)
    await turn()
    expect([refused.state, next.state, offsets()]).toEqual(['unfit', 'well', [100]])
  })

  it('to start the second part waits for the first', async () => {
    operations = make({ operationsMax: 1, bytesMax: 100 })
    const outcome = transfer({ bytes: 20 })
    channel.isFull = true
    channel.end(0)
    channel.isFull = false
    channel.refusal = new FabricFailure('unfit', 'no')
    await clock.advance(1)
    expect([outcome.state, operations.bytesUnderWay]).toEqual(['unfit', 0])
  })
})

describe('when the channel is closed', () => {
  it('all that is under way or waits is cut off', async () => {
    operations = make({ operationsMax: 1, bytesMax: 100 })
    const outcomes = [transfer({ bytes: 20 }), transfer()]
    await channel.close()
    await turn()
    expect(outcomes.map(({ state }) => state)).toEqual(['cut off', 'cut off'])
    expect([channel.asked, stuck, operations.bytesUnderWay]).toEqual([1, 0, 0])
    await expectNoSleeper()
  })

  it('what is held back is cut off', async () => {
    channel.isFull = true
    const outcome = transfer()
    await channel.close()
    await clock.advance(1)
    expect([outcome.state, channel.asked]).toEqual(['cut off', 1])
    await expectNoSleeper()
  })
})

describe('timers', () => {
  it('are one for all deadlines, and none when all has ended', async () => {
    operations = make({ operationsMax: 1_000, bytesMax: 1_000_000 })
    for (let left = 500; left > 0; left--) transfer()
    expect(clock.sleeping).toBe(1)
    channel.endAll()
    await expectNoSleeper()
    for (let left = 500; left > 0; left--) transfer()
    expect(clock.sleeping).toBe(1)
    channel.endAll()
    await expectNoSleeper()
    expect(clock.slept.length).toBe(2)
  })

  it('are not reached for by each transfer of a series', async () => {
    const sleeps: number[] = []
    const counting: Clock = {
      nowMs: () => systemClock.nowMs(),
      monotonicMs: () => systemClock.monotonicMs(),
      sleep: (ms) => {
        sleeps.push(ms)
        return systemClock.sleep(ms)
      },
    }
    operations = make({ operationsMax: 16, bytesMax: 1_000 }, counting)
    const beganMs = systemClock.monotonicMs()
    for (let index = 0; index < 2_000; index++) {
      const moved = operations.transfer({ ...wantedBase(), deadlineMs: beganMs + 60_000 })
      channel.end(index)
      await moved
    }
    // One in 20 ms and the first.
    expect(sleeps.length).toBeLessThanOrEqual((systemClock.monotonicMs() - beganMs) / 20 + 1)
  })
})
