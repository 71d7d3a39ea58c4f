/**
 * Records for writes that are acknowledged as `persisted`: all that wait share one object, and who comes while it is on its way shares
 * the next. What a record cannot tell waits for the next delta, which is asked for at once.
 *
 * Nobody is told before a look at the marker of the remote store, begun after the object had arrived, has found it ours: a restore
 * takes the store over first and looks for names then, so what had arrived while it was ours is what the restore finds.
 *
 * One transaction is told as a whole: records of what it published lie in one object, and when one of them cannot be told, all of
 * them wait for the delta.
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
import { encodeRecords, encodedRecordBytesMax } from './record-format.ts'

export interface RecordsParts {
  readonly source: Pick<NamesSource, 'describe'>
  readonly put: (object: EncodedObject) => Promise<unknown>
  /** Nothing is put before it resolves; never rejects. */
  readonly ready: Promise<void>
  /** Resolves when a look at the remote store that began after the call has found it ours. */
  readonly held: () => Promise<void>
  readonly clock: Clock
  readonly lineage: Lineage
  readonly newRandom: () => string
  readonly waitMsMax: number
  /** Some wait for a delta now. */
  readonly wantDelta: () => void
  readonly onFailure: (cause: unknown) => void
}

interface Waiter {
  readonly revision: Revision
  /** Undefined: it waits for all that there is up to the revision. */
  readonly published: PublishedName | undefined
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

const WAITERS_MAX = 65_536
const RECORDS_AT_ONCE = 512
/** Of one object; more than that only when one transaction has published it. */
const OBJECT_BYTES_MAX = 512 * 1024
/** What has published more than this in one transaction waits for the delta. */
const TRANSACTION_BYTES_MAX = 8 * 1024 * 1024
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
  #refused: string | undefined
  readonly #stopping = new AbortController()

  constructor(parts: RecordsParts) {
    this.#parts = parts
  }

  get waiting(): number {
    return this.#fresh.size + this.#left.size
  }

  /** @throws Unavailable after `waitMsMax`, when it stops, or when very many wait */
  named(published: PublishedName): Promise<void> {
    return this.#wait({ revision: published.revision, published })
  }

  /** Resolves when everything up to that revision is there. @throws as `named` */
  covering(revision: Revision): Promise<void> {
    return this.#wait({ revision, published: undefined })
  }

  async #wait(wanted: Omit<Waiter, 'resolve' | 'reject'>): Promise<void> {
    const { clock, waitMsMax, wantDelta } = this.#parts
    if (this.#stopping.signal.aborted) throw notNamed('the gateway stops')
    if (this.#refused) throw notNamed(this.#refused)
    if (this.waiting >= WAITERS_MAX) throw notNamed(`${this.waiting} writes wait for that`)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const waiter: Waiter = { ...wanted, resolve, reject }
    if (waiter.published) {
      this.#fresh.add(waiter)
      this.#running ??= this.#run()
    } else {
      this.#left.add(waiter)
      wantDelta()
    }
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

  /** Nothing is named any more, for good: who waits, and who comes, hears why. */
  refuse(reason: string): void {
    this.#refused = reason
    this.#rejectAll(reason)
  }

  #rejectAll(reason: string): void {
    for (const waiters of [this.#fresh, this.#left]) {
      for (const waiter of waiters) waiter.reject(notNamed(reason))
      waiters.clear()
    }
  }

  /** The remote store names everything up to this revision. */
  covered(through: Revision): void {
    for (const waiters of [this.#fresh, this.#left]) {
      for (const waiter of waiters) if (waiter.revision <= through) waiter.resolve()
    }
  }

  async #run(): Promise<void> {
    const { clock, onFailure, ready } = this.#parts
    const { signal } = this.#stopping
    try {
      await ready
      // Those that come in the same turn share the first object too.
      await clock.sleep(0).catch(() => undefined)
      while (this.#fresh.size > 0 && !signal.aborted) {
        try {
          await this.#ship(this.#nextBatch())
          this.#failures = 0
        } catch (cause) {
          onFailure(cause)
          const pauseMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(this.#failures++, 16))
          await clock.sleep(pauseMs, signal).catch(() => undefined)
        }
      }
    } finally {
      // In the turn in which nobody waited: who comes in the next finds that nobody runs.
      this.#running = undefined
    }
  }

  /** The first that came, whole transactions of them. */
  #nextBatch(): Waiter[] {
    const batch: Waiter[] = []
    for (const waiter of this.#fresh) {
      if (batch.length >= RECORDS_AT_ONCE && waiter.revision !== batch.at(-1)?.revision) break
      batch.push(waiter)
    }
    return batch
  }

  async #ship(batch: readonly Waiter[]): Promise<void> {
    const { source, put, held, wantDelta } = this.#parts
    const described = await source.describe(batch.flatMap(({ published }) => published ?? []))
    const told = tellable(batch, described)
    const objects = inObjects(
      batch.flatMap(({ revision }, index) => {
        const record = told.has(revision) ? described[index] : undefined
        return record ? [{ record, revision }] : []
      }),
    )
    for (const records of objects) await put(await this.#encoded(records))
    if (objects.length > 0) await held()
    for (const waiter of batch) {
      const stillWaits = this.#fresh.delete(waiter)
      if (told.has(waiter.revision)) waiter.resolve()
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
    this.#rejectAll('the gateway stops')
    await this.#running
  }
}

interface DescribedOf {
  readonly record: NameRecord
  /** Of the commit that published it. */
  readonly revision: Revision
}

/** Revisions all of whose names can be told by records. */
function tellable(batch: readonly Waiter[], described: readonly (NameRecord | undefined)[]): Set<Revision> {
  const bytes = new Map<Revision, number>()
  for (const [index, { revision }] of batch.entries()) {
    const record = described[index]
    bytes.set(revision, (bytes.get(revision) ?? 0) + (record ? encodedRecordBytesMax(record) : Infinity))
  }
  return new Set([...bytes].flatMap(([revision, sum]) => (sum <= TRANSACTION_BYTES_MAX ? [revision] : [])))
}

/** Each record once; cut where one transaction ends. */
function inObjects(described: readonly DescribedOf[]): NameRecord[][] {
  const objects: Map<string, NameRecord>[] = []
  let bytes = 0
  let last: Revision | undefined
  for (const { record, revision } of described) {
    const recordBytes = encodedRecordBytesMax(record)
    if (objects.length === 0 || (revision !== last && bytes + recordBytes > OBJECT_BYTES_MAX)) {
      objects.push(new Map())
      bytes = 0
    }
    objects.at(-1)?.set(`${record.inode}-${record.revision}`, record)
    bytes += recordBytes
    last = revision
  }
  return objects.map((records) => [...records.values()])
}

function notNamed(reason: string): TidegateError {
  return new TidegateError('Unavailable', `the write is published, and not named in the remote store yet: ${reason}`, {
    details: { published: true },
  })
}
