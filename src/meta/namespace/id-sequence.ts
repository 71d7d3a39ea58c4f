/**
 * Ids that are never reused, given out of a block in memory. A counter row says where the next block begins; the block
 * is taken in a transaction of its own that is durable before any id of it is used, so no power cut brings an id back. What a
 * stopped process had left of its block is lost, which costs nothing.
 */
import { assert } from '../../common/assert.ts'
import type { OrderedStore } from '../ports.ts'
import { sequenceKey } from './keys.ts'
import { decodeInteger, encodeInteger } from './records-contents.ts'

const BLOCK = 65_536

export class IdSequence {
  readonly #store: OrderedStore
  readonly #name: string
  #next = 0
  #end = 0
  #reserving: Promise<void> | undefined

  constructor(store: OrderedStore, name: string) {
    this.#store = store
    this.#name = name
  }

  /** The first of `count` consecutive ids, at once if the block still has them. */
  tryTake(count: number): number | undefined {
    if (this.#end - this.#next < count) return undefined
    const first = this.#next
    this.#next += count
    return first
  }

  async take(count: number): Promise<number> {
    assert(count > 0 && count <= BLOCK / 4, 'ids are taken in small numbers')
    for (;;) {
      const first = this.tryTake(count)
      if (first !== undefined) return first
      this.#reserving ??= this.#reserve().finally(() => {
        this.#reserving = undefined
      })
      await this.#reserving
    }
  }

  async #reserve(): Promise<void> {
    const key = sequenceKey(this.#name)
    const committed = await this.#store.transact(async (tx) => {
      const row = await tx.get(key)
      const next = row ? decodeInteger(row) : 1
      tx.put(key, encodeInteger(next + BLOCK))
      return next
    })
    await committed.durable
    this.#next = committed.value
    this.#end = committed.value + BLOCK
  }
}
