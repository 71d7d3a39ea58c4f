/** A flusher over a remote store that does as it is told, and a clock that is moved by hand. */
import type { SegmentId } from '../../../../src/common/ids.ts'
import { TidegateError, type ErrorCode } from '../../../../src/common/errors.ts'
import { Flusher, type FlusherOptions } from '../../../../src/persist/flusher.ts'
import { HandClock, turn } from '../../../conformance/hand-clock.ts'
import { FakeIndex, segmentNumber } from '../fixtures.ts'

export const SEGMENT_BYTES = 1000

export interface Remote {
  /** In the order in which uploads began. */
  readonly begun: number[]
  readonly arrived: number[]
  readonly aborted: number[]
  /** What an upload of that number answers; by default it arrives at once. */
  answer: (number: number) => Promise<void>
  /** Uploads that wait to be let go, when `hold` is set. */
  hold: boolean
  readonly letGo: (number: number) => Promise<void>
}

export interface FlusherFixture {
  readonly flusher: Flusher
  readonly index: FakeIndex
  readonly clock: HandClock
  readonly remote: Remote
  readonly failures: { number: number; action: string; attempt: number }[]
  readonly dead: number[]
  /** Seals segments of these numbers and adds them. */
  readonly add: (numbers: readonly number[], options?: { bucket?: string; ageMs?: number; bytes?: number }) => void
}

export const numberOf = (segment: SegmentId): number => Number.parseInt(segment, 16)

export const unavailable = (code: ErrorCode = 'Unavailable'): Promise<never> =>
  Promise.reject(new TidegateError(code, 'the remote store does not answer'))

export function newFlusher(options: Partial<FlusherOptions> = {}): FlusherFixture {
  const index = new FakeIndex()
  const clock = new HandClock()
  const held = new Map<number, () => void>()
  const remote: Remote = {
    begun: [],
    arrived: [],
    aborted: [],
    answer: () => Promise.resolve(),
    hold: false,
    async letGo(number) {
      held.get(number)?.()
      held.delete(number)
      await turn()
    },
  }
  const persist = async (segment: SegmentId, signal: AbortSignal): Promise<void> => {
    const number = numberOf(segment)
    remote.begun.push(number)
    await remote.answer(number)
    signal.throwIfAborted()
    if (remote.hold) {
      await new Promise<void>((resolve, reject) => {
        held.set(number, resolve)
        signal.addEventListener('abort', () => {
          remote.aborted.push(number)
          reject(signal.reason as Error)
        })
      })
    }
    remote.arrived.push(number)
  }
  const failures: FlusherFixture['failures'] = []
  const dead: number[] = []
  const flusher = new Flusher({
    index,
    clock,
    random: () => 1,
    persist,
    onPersisted: () => Promise.resolve(),
    mend: () => Promise.resolve(SEGMENT_BYTES),
    onDead: (segment) => dead.push(numberOf(segment)),
    holds: () => false,
    onFailure: ({ segment, action, attempt }) => failures.push({ number: numberOf(segment), action, attempt }),
    concurrency: 1,
    ageMsMax: 300_000,
    waitMsMax: 120_000,
    ...options,
  })
  return {
    flusher,
    index,
    clock,
    remote,
    failures,
    dead,
    add(numbers, { bytes = SEGMENT_BYTES, ...rest } = {}) {
      for (const number of numbers) {
        const segment = segmentNumber(number)
        if (!index.rows.has(segment)) index.set(segment, { state: 'sealed', bytes, liveBytes: bytes })
        flusher.add({ segment, bytes, ...rest })
      }
    },
  }
}

export async function turns(count = 20): Promise<void> {
  for (let done = 0; done < count; done++) await turn()
}
