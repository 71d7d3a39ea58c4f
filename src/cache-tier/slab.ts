/**
 * The slab: shared memory cut into slots of one block. Everything that the engine holds of objects' bytes lies here, so
 * worker threads hash, write and serve it without a copy. The system gives it pages only as they are touched.
 */
import { assert } from '../common/assert.ts'

export class Slab {
  readonly buffer: SharedArrayBuffer
  readonly slotBytes: number
  readonly slots: number
  /** Freed slots, used again last in first out: their pages are warm. */
  readonly #free: number[] = []
  /** Slots from here on have never been used, so that the process grows only with need. */
  #fresh = 0
  readonly #views: (Buffer | undefined)[] = []
  /** 1 for a slot that is taken. */
  readonly #taken: Uint8Array
  readonly #poison: boolean

  constructor(options: { bytes: number; slotBytes: number; poison?: boolean }) {
    this.slotBytes = options.slotBytes
    this.slots = Math.floor(options.bytes / options.slotBytes)
    assert(this.slots > 0, `a slab of ${options.bytes} bytes holds a slot`)
    this.buffer = new SharedArrayBuffer(this.slots * this.slotBytes)
    this.#taken = new Uint8Array(this.slots)
    this.#poison = options.poison ?? false
  }

  get freeSlots(): number {
    return this.#free.length + this.slots - this.#fresh
  }

  /** Offset of a free slot, or undefined. */
  take(): number | undefined {
    const slot = this.#free.pop() ?? (this.#fresh < this.slots ? this.#fresh++ : undefined)
    if (slot === undefined) return undefined
    this.#taken[slot] = 1
    return slot * this.slotBytes
  }

  give(slabOffset: number): void {
    const slot = slabOffset / this.slotBytes
    assert(this.#taken[slot] === 1, `slot at ${slabOffset} is given back once`)
    this.#taken[slot] = 0
    // Tests scribble over what is given back, so that a late reader is caught.
    if (this.#poison) this.view(slabOffset, this.slotBytes).fill(0xa5)
    this.#free.push(slot)
  }

  /** The bytes at an offset; never across a slot. */
  view(slabOffset: number, length: number): Buffer {
    const slot = Math.floor(slabOffset / this.slotBytes)
    const within = slabOffset - slot * this.slotBytes
    assert(slot < this.slots && within + length <= this.slotBytes, `slice ${slabOffset}+${length} lies in one slot`)
    const view = (this.#views[slot] ??= Buffer.from(this.buffer, slot * this.slotBytes, this.slotBytes))
    return view.subarray(within, within + length)
  }
}
