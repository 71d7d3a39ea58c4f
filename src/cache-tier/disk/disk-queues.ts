/**
 * S3-FIFO (see ../s3-fifo.ts) for blocks that lie in files, where what is freed is a file. The paper proposes it for flash: both queues
 * are FIFOs, so each is a row of files, written in order and removed in order, and nothing is ever overwritten in place.
 *
 *   small   what is new: packs of blocks that were fetched, and whole segments that were persisted
 *   main    packs of blocks that were used, and files that were used so much that copying would not pay
 *   ghost   blocks that left small without having been used: one that comes back goes to main at once
 *
 * When room is wanted, the oldest file of small goes if small is over its share, else that of main. Blocks in it that were used since it
 * came there *survive*: the caller copies them to main (as far as there is room for them) before the file is removed. If they make up
 * half of the file, the file itself goes to the end of main instead. What comes from main has used up one of its uses. So a
 * scan leaves by the small queue; and since a file that stays takes at least one use (at most 3) off all its blocks, a look for a victim ends.
 *
 * Pure state: no I/O, no clock.
 */
import { crc32 } from 'node:zlib'
import { must } from '../../common/assert.ts'
import type { BlockFile } from './block-files.ts'

export type QueueName = 'small' | 'main'

export interface Victim {
  readonly file: BlockFile
  /** Ordinals of blocks that were used, the most used first. */
  readonly survivors: readonly number[]
}

const USES_MAX = 3
const SMALL_SHARE = 0.1
/** Of a file's bytes: from here on it stays as it is. */
const USED_SHARE_STAYS = 0.5

export class DiskQueues {
  /** Sets keep insertion order: the first is the oldest. */
  readonly #queues: Record<QueueName, Set<BlockFile>> = { small: new Set(), main: new Set() }
  /** Fingerprints; two blocks that share one are merely taken for each other's return. */
  readonly #ghost = new Set<number>()

  push(file: BlockFile, queue: QueueName): void {
    this.#queues[queue].add(file)
  }

  remove(file: BlockFile): void {
    this.#queues.small.delete(file)
    this.#queues.main.delete(file)
  }

  /** The block at this ordinal was used. */
  touch(file: BlockFile, ordinal: number): void {
    const uses = file.uses[ordinal] ?? 0
    if (uses < USES_MAX) file.uses[ordinal] = uses + 1
  }

  /** Where a new block belongs. */
  queueFor(segment: string, block: number): QueueName {
    return this.#ghost.delete(fingerprint(segment, block)) ? 'main' : 'small'
  }

  /**
   * Takes out the file that should go next. What is left of its blocks' uses stays in it, for their copies.
   * @param blocks how many there are in all: as many ghosts are kept
   */
  victim(blocks: number): Victim | undefined {
    for (;;) {
      const queue = this.#turn()
      const file = queue && first(this.#queues[queue])
      if (!queue || !file) return undefined
      this.#queues[queue].delete(file)
      const used = [...file.ordinals()].filter((ordinal) => (file.uses[ordinal] ?? 0) > 0)
      const usedBytes = used.reduce((sum, ordinal) => sum + file.at(ordinal).length, 0)
      if (queue === 'small' && usedBytes < file.bytes * USED_SHARE_STAYS) this.#remember(file, blocks)
      const survivors = used.toSorted((a, b) => (file.uses[b] ?? 0) - (file.uses[a] ?? 0))
      for (const ordinal of used) file.uses[ordinal] = queue === 'small' ? 0 : must(file.uses[ordinal], 'uses') - 1
      if (usedBytes < file.bytes * USED_SHARE_STAYS) return { file, survivors }
      this.#queues.main.add(file)
    }
  }

  #turn(): QueueName | undefined {
    const { small, main } = this.#queues
    if (small.size === 0 && main.size === 0) return undefined
    const smallBytes = bytesOf(small)
    const preferred = smallBytes > (smallBytes + bytesOf(main)) * SMALL_SHARE ? 'small' : 'main'
    const other = preferred === 'small' ? 'main' : 'small'
    return this.#queues[preferred].size > 0 ? preferred : other
  }

  #remember(file: BlockFile, blocks: number): void {
    for (const ordinal of file.ordinals()) {
      if ((file.uses[ordinal] ?? 0) > 0) continue
      const { segment, block } = file.at(ordinal)
      this.#ghost.add(fingerprint(segment, block))
    }
    // As many ghosts as there are blocks, as in the paper.
    while (this.#ghost.size > Math.max(1, blocks)) this.#ghost.delete(must(first(this.#ghost), 'ghost'))
  }
}

function fingerprint(segment: string, block: number): number {
  return crc32(`${segment}/${block}`)
}

function bytesOf(files: Iterable<BlockFile>): number {
  let sum = 0
  for (const file of files) sum += file.bytes
  return sum
}

function first<T>(set: ReadonlySet<T>): T | undefined {
  return set.values().next().value
}
