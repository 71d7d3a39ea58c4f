/**
 * S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023), weighted by bytes.
 *
 * New entries go to the small queue. One that was used again by the time it reaches the small queue's end moves to the
 * main queue; one that was not is evicted and remembered in the ghost. A key that comes back while the ghost knows it
 * goes straight to main. Main is a FIFO with second chances (up to 3 uses). A one-pass scan thus leaves by the small
 * queue and does not disturb what is used again.
 *
 * Pure state: no I/O, no clock. Entries that are in use are passed over by `evict`.
 */
interface Entry<K> {
  readonly key: K
  weight: number
  uses: number
  queue: 'small' | 'main'
}

const USES_MAX = 3
const SMALL_SHARE = 0.1

export class S3Fifo<K> {
  readonly #entries = new Map<K, Entry<K>>()
  /** Maps keep insertion order: the first key is the head of the queue. */
  readonly #small = new Map<K, Entry<K>>()
  readonly #main = new Map<K, Entry<K>>()
  readonly #ghost = new Set<K>()
  #smallWeight = 0
  #mainWeight = 0

  get size(): number {
    return this.#entries.size
  }

  get weight(): number {
    return this.#smallWeight + this.#mainWeight
  }

  has(key: K): boolean {
    return this.#entries.has(key)
  }

  /** The entry was used. */
  touch(key: K): void {
    const entry = this.#entries.get(key)
    if (entry && entry.uses < USES_MAX) entry.uses++
  }

  insert(key: K, weight: number): void {
    if (this.#entries.has(key)) return this.touch(key)
    const entry: Entry<K> = { key, weight, uses: 0, queue: this.#ghost.delete(key) ? 'main' : 'small' }
    this.#entries.set(key, entry)
    this.#enqueue(entry)
  }

  remove(key: K): void {
    const entry = this.#entries.get(key)
    if (!entry) return
    this.#entries.delete(key)
    this.#dequeue(entry)
  }

  /** Takes out the entry that should go next, or undefined when all are in use. */
  evict(inUse: (key: K) => boolean): K | undefined {
    // Entries in use that were passed over one after another, by queue: a queue of nothing else has nothing to give. Every
    // other look takes a use from an entry, moves it to main or evicts it, so this ends.
    const passed = { small: 0, main: 0 }
    for (;;) {
      const preferred = this.#smallWeight > this.weight * SMALL_SHARE ? 'small' : 'main'
      const queue = this.#candidates(preferred, passed)
      const entry = queue && head(queue === 'small' ? this.#small : this.#main)
      if (!queue || !entry) return undefined
      this.#dequeue(entry)
      if (inUse(entry.key)) {
        passed[queue]++
        this.#enqueue(entry)
        continue
      }
      passed[queue] = 0
      if (entry.uses > 0) {
        if (entry.queue === 'main') entry.uses--
        else entry.uses = 0
        entry.queue = 'main'
        this.#enqueue(entry)
      } else {
        this.#entries.delete(entry.key)
        if (entry.queue === 'small') this.#remember(entry.key)
        return entry.key
      }
    }
  }

  #candidates(preferred: 'small' | 'main', passed: { small: number; main: number }): 'small' | 'main' | undefined {
    const left = { small: passed.small < this.#small.size, main: passed.main < this.#main.size }
    const other = preferred === 'small' ? 'main' : 'small'
    return left[preferred] ? preferred : left[other] ? other : undefined
  }

  #remember(key: K): void {
    this.#ghost.add(key)
    // As many ghosts as there are entries, as in the paper (by count: ghosts weigh nothing).
    while (this.#ghost.size > Math.max(1, this.#entries.size)) {
      this.#ghost.delete(this.#ghost.values().next().value as K)
    }
  }

  #enqueue(entry: Entry<K>): void {
    if (entry.queue === 'small') {
      this.#small.set(entry.key, entry)
      this.#smallWeight += entry.weight
    } else {
      this.#main.set(entry.key, entry)
      this.#mainWeight += entry.weight
    }
  }

  #dequeue(entry: Entry<K>): void {
    if (entry.queue === 'small') {
      if (this.#small.delete(entry.key)) this.#smallWeight -= entry.weight
    } else if (this.#main.delete(entry.key)) {
      this.#mainWeight -= entry.weight
    }
  }
}

function head<K>(queue: Map<K, Entry<K>>): Entry<K> | undefined {
  return queue.values().next().value
}
