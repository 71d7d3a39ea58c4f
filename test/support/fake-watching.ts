/** Watching of the store in memory (see fake-store.ts): every change is kept until a test says `forget`. */
import { TidegateError } from '../../src/common/errors.ts'
import type { Watching } from '../../src/store/doors.ts'
import type { WatchBatch, WatchEvent, WatcherId, WatchRequest } from '../../src/store/kv-types.ts'

interface Watcher {
  readonly request: WatchRequest
  next: number
  wake: () => void
}

export class FakeWatching implements Watching {
  readonly #changes: { bucket: string; event: WatchEvent }[] = []
  readonly #watchers = new Map<WatcherId, Watcher>()
  readonly #checkBucket: (name: string) => void
  #nextId = 1
  #revision = 0
  #keptFrom = 0

  constructor(checkBucket: (name: string) => void) {
    this.#checkBucket = checkBucket
  }

  get watchers(): number {
    return this.#watchers.size
  }

  revision(): number {
    return this.#revision
  }

  tell(bucket: string, event: WatchEvent): void {
    this.#revision = event.revision
    this.#changes.push({ bucket, event })
    for (const watcher of this.#watchers.values()) watcher.wake()
  }

  /** Changes before this revision are kept no longer. */
  forget(before: number): void {
    this.#keptFrom = before
    for (const watcher of this.#watchers.values()) watcher.wake()
  }

  async open(request: WatchRequest): Promise<WatcherId> {
    this.#checkBucket(request.bucket)
    const next = request.from ?? this.#revision + 1
    this.#checkKept(next)
    const id = this.#nextId++
    this.#watchers.set(id, { request, next, wake: () => undefined })
    return id
  }

  #checkKept(revision: number): void {
    if (revision < this.#keptFrom) throw new TidegateError('RevisionGone', `changes before ${this.#keptFrom} are gone`)
  }

  async next(id: WatcherId, { waitMs, limit }: { waitMs: number; limit: number }): Promise<WatchBatch> {
    const watcher = this.#watchers.get(id)
    if (!watcher) throw new TidegateError('InvalidRequest', `there is no watcher ${id}`)
    let batch = this.#take(watcher, limit)
    if (batch.events.length === 0 && waitMs > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, waitMs)
        watcher.wake = () => {
          clearTimeout(timer)
          // A turn later, so that all changes of one revision are there.
          setImmediate(resolve)
        }
      })
      watcher.wake = () => undefined
      if (this.#watchers.has(id)) batch = this.#take(watcher, limit)
    }
    return batch
  }

  #take(watcher: Watcher, limit: number): WatchBatch {
    this.#checkKept(watcher.next)
    const { bucket, prefix } = watcher.request
    const events: WatchEvent[] = []
    for (const change of this.#changes) {
      const { event } = change
      if (event.revision < watcher.next || change.bucket !== bucket) continue
      const names = event.kind === 'renamed' ? [event.from, event.to] : [event.key]
      if (!names.some((name) => name.startsWith(prefix))) continue
      if (events.length >= limit && event.revision !== events.at(-1)?.revision) {
        watcher.next = (events.at(-1) as WatchEvent).revision + 1
        return { events, next: watcher.next }
      }
      events.push(event)
    }
    watcher.next = Math.max(watcher.next, this.#revision + 1)
    return { events, next: watcher.next }
  }

  close(id: WatcherId): void {
    const watcher = this.#watchers.get(id)
    this.#watchers.delete(id)
    watcher?.wake()
  }
}
