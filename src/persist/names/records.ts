/**
 * Records for writes that are acknowledged as `persisted`: all that wait share one object, and who comes while it is on its way shares
 * the next. What a record cannot tell waits for the next delta, which is asked for at once.
 *
 * A record and its bytes: metadata describes only objects whose segments are all in the remote store, so what a record names is there; and no
 * such segment is removed before a delta has arrived that is newer than the record (NamesStream.mayRemove).
 */
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { Revision } from '../../common/ids.ts'
import type { EncodedObject } from './encode-parts.ts'
import { encodeNamesObject } from './format.ts'
import { namesObjectName, type Lineage } from './object-names.ts'
import type { NameRecord, NamesSource, PublishedName } from './ports.ts'
import { encodeRecords } from './record-format.ts'

export interface RecordsParts {
  readonly source: Pick<NamesSource, 'describe'>
  readonly put: (object: EncodedObject) => Promise<unknown>
  readonly clock: Clock
  readonly lineage: Lineage
  readonly newRandom: () => string
  readonly waitMsMax: number
  /** Some wait for a delta now. */
  readonly wantDelta: () => void
  readonly onFailure: (cause: unknown) => void
}

interface Waiter {
  readonly published: PublishedName
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

const WAITERS_MAX = 65_536
const RECORDS_AT_ONCE = 512
const RETRY_MS_MIN = 100
const RETRY_MS_MAX = 5000

export class RecordShipper {
  readonly #parts: RecordsParts
  /** Not looked at yet. */
  #fresh = new Set<Waiter>()
  /** Only a delta tells them. */
  readonly #left = new Set<Waiter>()
  #running: Promise<void> | undefined
  #failures = 0
  readonly #stopping = new AbortController()

  constructor(parts: RecordsParts) {
    this.#parts = parts
  }

  get waiting(): number {
    return this.#fresh.size + this.#left.size
  }

  /** @throws Unavailable after `waitMsMax`, or when it stops; SlowDown when very many wait */
  async named(published: PublishedName): Promise<void> {
    const { clock, waitMsMax } = this.#parts
    if (this.#stopping.signal.aborted) throw notNamed('the gateway stops')
    if (this.waiting >= WAITERS_MAX) throw new TidegateError('SlowDown', `${this.waiting} writes wait for their names`)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const waiter: Waiter = { published, resolve, reject }
    this.#fresh.add(waiter)
    this.#running ??= this.#run().finally(() => (this.#running = undefined))
    const patience = new AbortController()
    clock.sleep(waitMsMax, patience.signal).then(
      () => reject(notNamed(`waited ${waitMsMax} ms`)),
      () => undefined,
    )
    try {
      await promise
    } finally {
      patience.abort(new Error('no longer waited for'))
      this.#fresh.delete(waiter)
      this.#left.delete(waiter)
    }
  }

  /** The remote store names everything up to this revision. */
  covered(through: Revision): void {
    for (const waiters of [this.#fresh, this.#left]) {
      for (const waiter of waiters) if (waiter.published.revision <= through) waiter.resolve()
    }
  }

  async #run(): Promise<void> {
    const { clock, onFailure } = this.#parts
    const { signal } = this.#stopping
    // Those that come in the same turn share the first object too.
    await clock.sleep(0).catch(() => undefined)
    while (this.#fresh.size > 0 && !signal.aborted) {
      const batch = [...this.#fresh].slice(0, RECORDS_AT_ONCE)
      try {
        await this.#ship(batch)
        this.#failures = 0
      } catch (cause) {
        onFailure(cause)
        const pauseMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(this.#failures++, 16))
        await clock.sleep(pauseMs, signal).catch(() => undefined)
      }
    }
  }

  async #ship(batch: readonly Waiter[]): Promise<void> {
    const { source, put, wantDelta } = this.#parts
    const described = await source.describe(batch.map(({ published }) => published))
    const records = new Map(
      described.flatMap((record) => (record ? [[`${record.inode}-${record.revision}`, record]] : [])),
    )
    if (records.size > 0) await put(await this.#encoded([...records.values()]))
    for (const [index, waiter] of batch.entries()) {
      const stillWaits = this.#fresh.delete(waiter)
      if (described[index]) waiter.resolve()
      else if (stillWaits) this.#left.add(waiter)
    }
    if (this.#left.size > 0) wantDelta()
  }

  async #encoded(records: readonly NameRecord[]): Promise<EncodedObject> {
    const { lineage, newRandom, clock } = this.#parts
    const revisions = records.map(({ revision }) => revision)
    const [from, through] = [Math.min(...revisions), Math.max(...revisions)]
    const random = newRandom()
    const counts = { part: 0, parts: 0, rows: records.length }
    const head = { kind: 'records', lineage, from, through, capturedMs: clock.nowMs(), ...counts, random } as const
    const bytes = await encodeNamesObject(head, encodeRecords(records))
    return { name: namesObjectName(lineage, { kind: 'records', from, through, random }), bytes }
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('names stop'))
    for (const waiters of [this.#fresh, this.#left]) {
      for (const waiter of waiters) waiter.reject(notNamed('the gateway stops'))
    }
    await this.#running
  }
}

function notNamed(reason: string): TidegateError {
  return new TidegateError('Unavailable', `the write is published, and not named in the remote store yet: ${reason}`, {
    details: { published: true },
  })
}
