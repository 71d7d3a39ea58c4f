/**
 * The memory for what was written to files and not journaled yet: a bound on all of it, a bound on each file's, and a line of
 * writers that wait for some (C19). Buffers come in powers of two and are used again, because a fresh one costs page faults.
 *
 * A writer reserves before it copies. Once granted, the copy is synchronous: it gives the reservation back and takes the buffers
 * in one go, so that no one comes in between.
 */
import { assert } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'

/** What one file holds. */
export interface MemoryAccount {
  bytes: number
}

interface Waiter {
  readonly account: MemoryAccount
  readonly bytes: number
  readonly grant: () => void
  readonly refuse: (reason: unknown) => void
}

export interface DirtyMemoryOptions {
  readonly bytesMax: number
  readonly accountBytesMax: number
  readonly waitMsMax: number
  readonly clock: Clock
}

/** Sizes of buffers; longer ranges are made of several. */
const BUFFER_BYTES_MIN = 4 * 1024
export const BUFFER_BYTES_MAX: number = 1024 * 1024
/** Buffers kept for use again. */
const SPARE_BYTES_MAX = 16 * 1024 * 1024

export class DirtyMemory {
  readonly #options: DirtyMemoryOptions
  readonly #line: Waiter[] = []
  readonly #spare = new Map<number, Uint8Array[]>()
  #spareBytes = 0
  #used = 0

  constructor(options: DirtyMemoryOptions) {
    this.#options = options
  }

  get used(): number {
    return this.#used
  }

  get waiting(): number {
    return this.#line.length
  }

  waits(account: MemoryAccount): boolean {
    return this.#line.some((waiter) => waiter.account === account)
  }

  /** Bytes that a write of this length may need at most. */
  static neededBytes(length: number): number {
    return bufferBytes(length)
  }

  /** False: wait with `reserve`. */
  tryReserve(account: MemoryAccount, bytes: number): boolean {
    if (!this.#fits(account, bytes) || this.waits(account)) return false
    // Those in line wait for memory of all files or for their own file's; only the former go first.
    if (this.#line.some((waiter) => this.#fitsAccount(waiter.account, waiter.bytes))) return false
    this.#add(account, bytes)
    return true
  }

  /** @throws SlowDown after the admission time, or what `refuseAll` was given */
  reserve(account: MemoryAccount, bytes: number): Promise<void> {
    const { clock, waitMsMax } = this.#options
    return new Promise((resolve, reject) => {
      const timeout = new AbortController()
      const waiter: Waiter = {
        account,
        bytes,
        grant: () => {
          timeout.abort()
          resolve()
        },
        refuse: (reason) => {
          timeout.abort()
          reject(reason)
        },
      }
      this.#line.push(waiter)
      clock.sleep(waitMsMax, timeout.signal).then(
        () => {
          const at = this.#line.indexOf(waiter)
          if (at < 0) return
          this.#line.splice(at, 1)
          reject(new TidegateError('SlowDown', `the journal made no room for the write within ${waitMsMax} ms`))
          this.serve()
        },
        () => undefined,
      )
    })
  }

  /** What the line waits for will not come. */
  refuseAll(reason: unknown): void {
    for (const waiter of this.#line.splice(0)) waiter.refuse(reason)
  }

  /** Right before the buffers are taken, in the same turn; `serve` follows. */
  unreserve(account: MemoryAccount, bytes: number): void {
    this.#subtract(account, bytes)
  }

  /** At least `bytes` long, or up to `wanted` while there is plenty of memory. */
  take(account: MemoryAccount, bytes: number, wanted: number): Uint8Array {
    const generous = bufferBytes(Math.max(bytes, Math.min(wanted, BUFFER_BYTES_MAX)))
    const { bytesMax, accountBytesMax } = this.#options
    const plenty = this.#used + generous <= bytesMax / 2 && account.bytes + generous <= accountBytesMax / 2
    const size = plenty && this.#line.length === 0 ? generous : bufferBytes(bytes)
    this.#add(account, size)
    const spare = this.#spare.get(size)?.pop()
    if (spare) this.#spareBytes -= size
    return spare ?? Buffer.allocUnsafeSlow(size)
  }

  give(account: MemoryAccount, buffer: Uint8Array): void {
    const size = buffer.length
    this.#subtract(account, size)
    if (this.#spareBytes + size <= SPARE_BYTES_MAX) {
      const spares = this.#spare.get(size)
      if (spares) spares.push(buffer)
      else this.#spare.set(size, [buffer])
      this.#spareBytes += size
    }
    this.serve()
  }

  #add(account: MemoryAccount, bytes: number): void {
    this.#used += bytes
    account.bytes += bytes
  }

  #subtract(account: MemoryAccount, bytes: number): void {
    this.#used -= bytes
    account.bytes -= bytes
    assert(this.#used >= 0 && account.bytes >= 0, 'memory is given back once')
  }

  #fits(account: MemoryAccount, bytes: number): boolean {
    return this.#used + bytes <= this.#options.bytesMax && this.#fitsAccount(account, bytes)
  }

  #fitsAccount(account: MemoryAccount, bytes: number): boolean {
    return account.bytes + bytes <= this.#options.accountBytesMax
  }

  /** Grants in order, but who waits for his own file's memory keeps nobody else waiting. */
  serve(): void {
    for (let at = 0; at < this.#line.length;) {
      const waiter = this.#line[at] as Waiter
      if (!this.#fitsAccount(waiter.account, waiter.bytes)) at++
      else if (this.#used + waiter.bytes > this.#options.bytesMax) return
      else {
        this.#line.splice(at, 1)
        this.#add(waiter.account, waiter.bytes)
        waiter.grant()
      }
    }
  }
}

function bufferBytes(bytes: number): number {
  let size = BUFFER_BYTES_MIN
  while (size < bytes && size < BUFFER_BYTES_MAX) size *= 2
  return size
}
