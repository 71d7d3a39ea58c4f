/**
 * An ordered map in memory, for tests and the crash simulation. What a machine would find on its disk after losing power
 * is in a `MemoryDisk`, which outlives the backend: a new backend on the same disk is a restart.
 *
 * A batch goes to the disk whole, when its sync ends. If the power fails during the sync the batch is on the disk wholly
 * or not at all; `crash` lets the caller choose.
 */
import { assert } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString } from '../../common/ids.ts'
import type { KeyRange, Row } from '../ports.ts'
import type { Backend, RowChanges } from '../stage/ports.ts'
import { lowerBound, RowLayer } from '../stage/row-layer.ts'

/** Same as LMDB's, so that tests in memory meet the same bound. */
const KEY_BYTES_MAX = 1978

/** Rows that survive; deleted ones stay as null until they are the most, so that the order need not be mended each time. */
export class MemoryDisk {
  rows = new RowLayer()
  #deleted = 0

  write(parts: readonly RowChanges[]): void {
    for (const part of parts) {
      for (const [key, value] of part) {
        const previous = this.rows.get(key)
        if (value === null && previous === undefined) continue
        if (value === null && previous !== null) this.#deleted++
        if (value !== null && previous === null) this.#deleted--
        this.rows.set(key, value)
      }
    }
    if (this.#deleted > 1024 && this.#deleted * 2 > this.rows.size) this.#forgetDeleted()
  }

  #forgetDeleted(): void {
    const kept = new RowLayer()
    for (const [key, value] of this.rows.rows) if (value !== null) kept.set(key, value)
    this.rows = kept
    this.#deleted = 0
  }
}

export interface MemoryBackendOptions {
  /** Default: an empty one. */
  readonly disk?: MemoryDisk
  /** Stands for the sync of a batch; default: over in a microtask. What it rejects with, the commit rejects with. */
  readonly sync?: () => Promise<void>
}

export class MemoryBackend implements Backend {
  readonly keyBytesMax: number = KEY_BYTES_MAX
  readonly #disk: MemoryDisk
  readonly #sync: () => Promise<void>
  #inFlight: readonly RowChanges[] | undefined
  #commitError: (() => Error) | undefined
  #state: 'new' | 'open' | 'closed' | 'crashed' = 'new'

  constructor(options: MemoryBackendOptions = {}) {
    this.#disk = options.disk ?? new MemoryDisk()
    this.#sync = options.sync ?? ((): Promise<void> => Promise.resolve())
  }

  async open(): Promise<void> {
    assert(this.#state === 'new', 'a backend is opened once')
    this.#state = 'open'
  }

  get(key: ByteString): Uint8Array | undefined {
    return this.#disk.rows.get(key) ?? undefined
  }

  scan(range: KeyRange, limit: number, reverse: boolean): Row[] {
    const rows: Row[] = []
    const keys = this.#disk.rows.sortedKeys()
    const first = lowerBound(keys, range.start)
    const end = lowerBound(keys, range.end)
    const step = reverse ? -1 : 1
    for (let i = reverse ? end - 1 : first; i >= first && i < end && rows.length < limit; i += step) {
      const key = keys[i]!
      const value = this.#disk.rows.get(key)
      if (value) rows.push({ key, value })
    }
    return rows
  }

  keys(range: KeyRange, limit: number): ByteString[] {
    return this.scan(range, limit, false).map((row) => row.key)
  }

  async commit(parts: readonly RowChanges[]): Promise<void> {
    assert(this.#state === 'open' && this.#inFlight === undefined, 'one commit at a time on an open backend')
    this.#inFlight = parts
    try {
      await this.#sync()
      if (this.#commitError !== undefined) throw this.#commitError()
      // After a crash the power is off: nothing more is said to anybody.
      if (this.#crashed()) await new Promise<never>(() => {})
      this.#disk.write(parts)
    } finally {
      this.#inFlight = undefined
    }
  }

  async close(): Promise<void> {
    if (!this.#crashed()) this.#state = 'closed'
  }

  /** From now on every commit fails with what `makeError` gives; without it commits succeed again. */
  failCommits(makeError?: () => Error): void {
    this.#commitError = makeError
  }

  fillUp(): void {
    this.failCommits(() => new TidegateError('StorageFull', 'the disk in memory is full'))
  }

  /**
   * The power fails. `survives` says whether the batch in flight is on the disk; without one it is not asked. Start a new
   * backend on the returned disk; no commit of this one settles any more.
   */
  crash(survives: () => boolean): MemoryDisk {
    assert(this.#state === 'open', 'only what is open can crash')
    this.#state = 'crashed'
    if (this.#inFlight !== undefined && survives()) this.#disk.write(this.#inFlight)
    return this.#disk
  }

  #crashed(): boolean {
    return this.#state === 'crashed'
  }
}
