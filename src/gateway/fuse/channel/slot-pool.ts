/**
 * The memory that requests are read into, and who holds which slot of it. Shared by both twins; the layout of the control
 * block is what native/fuse/channel.c reads.
 *
 * A slot is free, or in the batch that is being delivered, or kept. Only `kept` is recorded: the batch ends with the call.
 */
import { assert, must } from '../../../common/assert.ts'
import { type ChannelOptions, REQUEST_OVERHEAD_BYTES, type RequestSlot } from './ports.ts'

/** The kernel refuses reads into less than this (FUSE_MIN_READ_BUFFER), and writes are whole pages. */
const WRITE_BYTES_MIN = 8192 - REQUEST_OVERHEAD_BYTES
const SLOTS_MAX = 1024

const PAUSED = 0
const FIRST_KEPT = 1

export class SlotPool {
  readonly slots: readonly RequestSlot[]
  readonly slotBytes: number
  /** All slots, one after another. */
  readonly memory: Uint8Array
  readonly control: Int32Array

  constructor(options: Pick<ChannelOptions, 'writeBytesMax' | 'slotCount'>) {
    const { writeBytesMax, slotCount } = options
    assert(writeBytesMax >= WRITE_BYTES_MIN && writeBytesMax % 4096 === 0, `largest write of ${writeBytesMax} bytes`)
    assert(slotCount > 0 && slotCount <= SLOTS_MAX, `${slotCount} slots`)
    const slotBytes = writeBytesMax + REQUEST_OVERHEAD_BYTES
    const shared = new SharedArrayBuffer(slotBytes * slotCount)
    this.slotBytes = slotBytes
    this.memory = new Uint8Array(shared)
    this.control = new Int32Array(new SharedArrayBuffer(4 * (1 + 3 * slotCount)))
    this.slots = Array.from({ length: slotCount }, (_, index) => ({
      index,
      bytes: Buffer.from(shared, index * slotBytes, slotBytes),
      words: new Uint32Array(shared, index * slotBytes, slotBytes / 4),
      length: 0,
    }))
  }

  /** The first `count` requests of the batch that the addon has put into the control block, in `into`. */
  takeBatch(count: number, into: RequestSlot[]): void {
    let at = FIRST_KEPT + this.slots.length
    into.length = count
    for (let index = 0; index < count; index += 1) {
      const slot = must(this.slots[this.control[at] ?? -1], 'slot of a batch')
      slot.length = this.control[at + 1] ?? 0
      into[index] = slot
      at += 2
    }
  }

  keep(slot: RequestSlot): void {
    assert(this.control[FIRST_KEPT + slot.index] === 0, `slot ${slot.index} is kept already`)
    this.control[FIRST_KEPT + slot.index] = 1
  }

  isKept(slot: RequestSlot): boolean {
    return this.control[FIRST_KEPT + slot.index] === 1
  }

  /** Whether reading had stopped for want of a slot. */
  release(slot: RequestSlot): boolean {
    assert(this.isKept(slot), `slot ${slot.index} is not kept`)
    this.control[FIRST_KEPT + slot.index] = 0
    return this.control[PAUSED] === 1
  }
}
