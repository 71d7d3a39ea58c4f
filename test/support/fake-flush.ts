/** Write-behind as the admin API sees it, with a backlog that a test sets. */
import type { FlushControl } from '../../src/gateway/admin/flush.ts'

type Status = ReturnType<FlushControl['status']>
type Drain = Awaited<ReturnType<FlushControl['drain']>>

export const FAILING: Status['failing'][number] = {
  segment: '0'.repeat(31) + '7',
  bucket: undefined,
  bytes: 3 * 1024 * 1024,
  ageMs: 3_725_000,
  action: 'persist',
  attempts: 4,
  cause: { code: 'AccessDenied', message: 'the key was revoked' },
  nextTryInMs: 2500,
}

export class FakeFlush implements FlushControl {
  readonly calls: unknown[] = []
  paused = false
  drains: Drain[] = []

  status(): Status {
    return {
      paused: this.paused,
      awayMs: undefined,
      items: 3,
      bytes: 70 * 1024 * 1024,
      oldestAgeMs: 3_725_000,
      uploads: [{ segment: '0'.repeat(31) + '8', bytes: 64 * 1024 * 1024, forMs: 1500 }],
      failingItems: 1,
      failing: [FAILING],
      bytesPerSecond: undefined,
      totals: {
        persistedItems: 5,
        persistedBytes: 500,
        notSentItems: 1,
        notSentBytes: 10,
        failures: new Map([['AccessDenied', 4]]),
      },
      pressure: {
        backlogBytes: 80 * 1024 * 1024,
        backlogBytesMax: 10 * 1024 ** 3,
        fill: 0,
        waiting: 0,
        accepted: 100,
        slowed: 2,
        refused: 1,
        waitedMs: 40_000,
      },
      names: {
        shippedThrough: 41,
        durableRevision: 50,
        stateMs: 1_800_000_000_000,
        behindMs: 65_000,
        heldUpBy: ['0'.repeat(31) + '7'],
        backups: 2,
        lastError: undefined,
      },
    }
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }

  drain(options: { readonly waitMsMax: number; readonly through: number | undefined }): Promise<Drain> {
    this.calls.push(options)
    const done: Drain = { through: 9, paused: this.paused, leftItems: 0, leftBytes: 0, left: [], namesLeft: false }
    return Promise.resolve(this.drains.shift() ?? done)
  }
}
