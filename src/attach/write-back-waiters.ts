/** Who waits for a change to have reached the external bucket, each for a bounded time. */
import type { Clock } from '../common/clock.ts'
import type { Revision } from '../common/ids.ts'

interface Waiter {
  readonly revision: Revision
  /** Counted on with the carry-outs: one that begins later sees the change. */
  readonly sequence: number
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class WriteBackWaiters {
  readonly #clock: Clock
  readonly #byKey = new Map<string, Set<Waiter>>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  has(bucketId: number, key: string): boolean {
    return this.#byKey.has(nameOf(bucketId, key))
  }

  /** Rejects with `tooLate()` after that time. */
  wait(
    at: { readonly bucketId: number; readonly key: string; readonly revision: Revision; readonly sequence: number },
    waitMsMax: number,
    tooLate: () => Error,
  ): Promise<void> {
    const name = nameOf(at.bucketId, at.key)
    const patience = new AbortController()
    const waiting = new Promise<void>((resolve, reject) => {
      const waiter: Waiter = { revision: at.revision, sequence: at.sequence, resolve, reject }
      const waiters = this.#byKey.get(name) ?? new Set()
      waiters.add(waiter)
      this.#byKey.set(name, waiters)
      this.#clock.sleep(waitMsMax, patience.signal).then(
        () => {
          this.#drop(name, waiter)
          reject(tooLate())
        },
        () => undefined,
      )
    })
    return waiting.finally(() => patience.abort(new Error('no longer waited for')))
  }

  /** A carry-out that began then got through, with all changes up to the revision. */
  carried(at: { bucketId: number; key: string }, begun: number, through: Revision | undefined): void {
    const name = nameOf(at.bucketId, at.key)
    for (const waiter of this.#byKey.get(name) ?? []) {
      if (waiter.sequence >= begun && waiter.revision > (through ?? -Infinity)) continue
      this.#drop(name, waiter)
      waiter.resolve()
    }
  }

  refuse(at: { bucketId: number; key: string }, error: Error): void {
    const name = nameOf(at.bucketId, at.key)
    const waiters = this.#byKey.get(name) ?? []
    this.#byKey.delete(name)
    for (const { reject } of waiters) reject(error)
  }

  /** Those whose key `concerns` says so. */
  refuseAll(error: Error, concerns: (bucketId: number, key: string) => boolean = () => true): void {
    for (const name of this.#byKey.keys()) {
      const cut = name.indexOf(' ')
      const at = { bucketId: Number(name.slice(0, cut)), key: name.slice(cut + 1) }
      if (concerns(at.bucketId, at.key)) this.refuse(at, error)
    }
  }

  #drop(name: string, waiter: Waiter): void {
    const waiters = this.#byKey.get(name)
    waiters?.delete(waiter)
    if (waiters?.size === 0) this.#byKey.delete(name)
  }
}

function nameOf(bucketId: number, key: string): string {
  return `${bucketId} ${key}`
}
