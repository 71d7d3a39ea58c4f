/**
 * Keeps a reserve of free space, so that deletes (which need some) still work on a full disk (C19). Looks at the file
 * system now and then and counts what was accepted in between.
 */
import { TidegateError } from '../common/errors.ts'
import type { Clock } from '../common/clock.ts'
import type { FileSystem } from './ports.ts'

export interface DiskSpaceOptions {
  readonly fileSystem: FileSystem
  readonly path: string
  readonly clock: Clock
  /** Bytes to keep free; undefined: a twentieth of the file system, at most 1 GiB. */
  readonly reserveBytes: number | undefined
}

const LOOK_EVERY_MS = 500
const DEFAULT_RESERVE_BYTES_MAX = 1024 ** 3
const DEFAULT_RESERVE_SHARE = 0.05

export class DiskSpace {
  readonly #options: DiskSpaceOptions
  #totalBytes = Infinity
  #freeBytes = Infinity
  #reserveBytes = 0
  #acceptedBytes = 0
  #lookedMs = -Infinity
  #looking: Promise<void> | undefined

  constructor(options: DiskSpaceOptions) {
    this.#options = options
  }

  /** Infinity until it was looked at. */
  get totalBytes(): number {
    return this.#totalBytes
  }

  get freeBytes(): number {
    return Math.max(0, this.#freeBytes - this.#acceptedBytes)
  }

  /** What writes may take. */
  get availableBytes(): number {
    return Math.max(0, this.freeBytes - this.#reserveBytes)
  }

  async look(): Promise<void> {
    const { freeBytes, totalBytes } = await this.#options.fileSystem.space(this.#options.path)
    this.#totalBytes = totalBytes
    this.#freeBytes = freeBytes
    this.#acceptedBytes = 0
    this.#lookedMs = this.#options.clock.monotonicMs()
    this.#reserveBytes =
      this.#options.reserveBytes ?? Math.min(DEFAULT_RESERVE_BYTES_MAX, totalBytes * DEFAULT_RESERVE_SHARE)
  }

  /** Accepts them if that is known to be all right; false: ask with `accept`. */
  acceptNow(bytes: number): boolean {
    const due = this.#options.clock.monotonicMs() - this.#lookedMs > LOOK_EVERY_MS
    if (due || !this.#fits(bytes)) return false
    this.#acceptedBytes += bytes
    return true
  }

  /** @throws StorageFull when accepting these bytes would eat into the reserve */
  async accept(bytes: number): Promise<void> {
    if (this.acceptNow(bytes)) return
    await this.#lookOnce()
    if (!this.#fits(bytes)) {
      throw new TidegateError('StorageFull', `no room for ${bytes} bytes: ${this.freeBytes} bytes are free`, {
        details: { freeBytes: this.freeBytes, reserveBytes: Math.round(this.#reserveBytes) },
      })
    }
    this.#acceptedBytes += bytes
  }

  #fits(bytes: number): boolean {
    return this.#freeBytes - this.#acceptedBytes - bytes >= this.#reserveBytes
  }

  #lookOnce(): Promise<void> {
    this.#looking ??= this.look().finally(() => (this.#looking = undefined))
    return this.#looking
  }
}
