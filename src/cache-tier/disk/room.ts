/** How much of the disk the level may have, and has. What is taken here is taken before it is written, and given back once it is gone. */
import { assert } from '../../common/assert.ts'
import type { Clock } from '../../common/clock.ts'
import type { CacheFileSystem } from '../ports.ts'

export interface RoomOptions {
  readonly fileSystem: CacheFileSystem
  readonly directory: string
  readonly clock: Clock
  readonly bytesMax: number
  /** The level shrinks when the disk has less than this free: others need it more. */
  readonly freeBytesMin: number
}

const LOOK_EVERY_MS = 1000

export class Room {
  readonly #options: RoomOptions
  #held = 0
  #lookedMs = -Infinity
  /** What it may hold so that enough stays free. */
  #allowedBytes = Infinity

  constructor(options: RoomOptions) {
    this.#options = options
  }

  get bytesHeld(): number {
    return this.#held
  }

  /** As far as was known at the last look. */
  get bytesMax(): number {
    return Math.min(this.#options.bytesMax, this.#allowedBytes)
  }

  has(bytes: number): boolean {
    return this.#held + bytes <= this.bytesMax
  }

  take(bytes: number): void {
    this.#held += bytes
    assert(this.#held <= this.#options.bytesMax, 'the disk level keeps to its bytes')
  }

  /** What was there before us may be more than is allowed now. */
  found(bytes: number): void {
    this.#held += bytes
  }

  give(bytes: number): void {
    this.#held -= bytes
    assert(this.#held >= 0, 'bytes are given back once')
  }

  /** Looks at what the disk has free, now and then. */
  async look(): Promise<void> {
    const { fileSystem, directory, clock, freeBytesMin } = this.#options
    const nowMs = clock.monotonicMs()
    if (nowMs - this.#lookedMs < LOOK_EVERY_MS) return
    this.#lookedMs = nowMs
    const { freeBytes } = await fileSystem.space(directory)
    this.#allowedBytes = Math.max(0, this.#held + freeBytes - freeBytesMin)
  }
}
