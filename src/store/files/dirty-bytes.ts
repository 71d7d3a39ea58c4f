/**
 * Bytes that were written to a file and are not published: first in memory, then in the journal. The overlay's entries show parts
 * of such a source; the last of them that goes gives its memory, or its hold on the journal, back.
 *
 *   in memory, growing and overwritten in place --freeze--> being journaled --journaledAt--> in a body of the journal
 *                                                                \--thaw (it failed)--> in memory
 */
import { assert, must } from '../../common/assert.ts'
import type { JournaledBody } from '../byte-ports.ts'
import type { DirtyMemory, MemoryAccount } from './dirty-memory.ts'

/** A body in the journal that no commit names yet; its segment is kept while somebody holds it. */
export class UnpublishedBody {
  readonly journaled: JournaledBody
  #holds = 0

  constructor(journaled: JournaledBody) {
    this.journaled = journaled
  }

  hold(): void {
    this.#holds++
  }

  letGo(): void {
    this.#holds--
    assert(this.#holds >= 0, 'a body is let go once for each hold')
    if (this.#holds === 0) this.journaled.settled()
  }
}

export interface JournalPlace {
  readonly body: UnpublishedBody
  /** Of this source's first byte. */
  readonly offset: number
}

export class DirtySource {
  readonly #memory: DirtyMemory
  readonly #account: MemoryAccount
  #buffer: Uint8Array | undefined
  #place: JournalPlace | undefined
  #frozen = false
  /** Bytes filled; they lie at the start. */
  #used = 0
  /** Bytes that entries show. */
  #shown = 0

  constructor(memory: DirtyMemory, account: MemoryAccount, request: { bytes: number; wanted: number }) {
    this.#memory = memory
    this.#account = account
    this.#buffer = memory.take(account, request.bytes, request.wanted)
  }

  get used(): number {
    return this.#used
  }

  /** Whether bytes may be added and overwritten. */
  get mutable(): boolean {
    return this.#buffer !== undefined && !this.#frozen
  }

  get inMemory(): boolean {
    return this.#buffer !== undefined
  }

  get frozen(): boolean {
    return this.#frozen
  }

  get place(): JournalPlace | undefined {
    return this.#place
  }

  get capacity(): number {
    return this.#buffer?.length ?? 0
  }

  /** The bytes in memory; valid until the next await. */
  bytes(offset: number, length: number): Uint8Array {
    return must(this.#buffer, 'bytes in memory').subarray(offset, offset + length)
  }

  write(offset: number, bytes: Uint8Array): void {
    assert(this.mutable && offset <= this.#used, 'only what is in memory is written, without gaps')
    must(this.#buffer, 'buffer').set(bytes, offset)
    this.#used = Math.max(this.#used, offset + bytes.length)
  }

  show(bytes: number): void {
    this.#shown += bytes
  }

  hide(bytes: number): void {
    this.#shown -= bytes
    assert(this.#shown >= 0, 'only what is shown is hidden')
    if (this.#shown === 0 && !this.#frozen) this.#end()
  }

  /** Nothing changes the bytes until `journaledAt` or `thaw`. */
  freeze(): void {
    assert(this.mutable, 'what is frozen is in memory')
    this.#frozen = true
  }

  thaw(): void {
    this.#frozen = false
    if (this.#shown === 0) this.#end()
  }

  journaledAt(place: JournalPlace): void {
    assert(this.#frozen, 'only what is frozen is journaled')
    this.#frozen = false
    place.body.hold()
    this.#place = place
    this.#giveBuffer()
    if (this.#shown === 0) this.#end()
  }

  #giveBuffer(): void {
    const buffer = this.#buffer
    this.#buffer = undefined
    if (buffer) this.#memory.give(this.#account, buffer)
  }

  #end(): void {
    this.#giveBuffer()
    this.#place?.body.letGo()
    this.#place = undefined
  }
}
