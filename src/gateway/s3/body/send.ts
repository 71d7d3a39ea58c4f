/**
 * Content from the store to the socket, without copying: each slice is a view of the slab, lent until the socket's write
 * of it is done or the connection is gone (C13). At most `SLICES_IN_FLIGHT_MAX` slices are pinned by one answer; a client
 * that reads slowly, or not at all, pins no more than that.
 */
import type { ServerResponse } from 'node:http'
import type { Reading } from '../../../store/doors.ts'
import type { ReaderId } from '../../../store/types.ts'

const SLICES_IN_FLIGHT_MAX = 4
/** A client that takes nothing for this long is cut off, so that it does not pin memory for ever. */
const SEND_IDLE_MS_MAX = 120_000

export interface ContentRange {
  readonly reader: ReaderId
  readonly offset: number
  readonly length: number
}

/**
 * Writes a range of an opened object's content. `head` is called once, when the first bytes are there: until then a failure
 * can still be answered as one. Resolves with the bytes handed over when all of them are, or when the client has gone;
 * every lease has been, or will be, given back.
 * @throws what `reading.read` throws; after `head` the answer is then cut short
 */
export async function sendContent(
  response: ServerResponse,
  reading: Reading,
  { head, ...range }: ContentRange & { head: () => void },
): Promise<number> {
  const flight = new Flight(response, reading)
  let sent = 0
  try {
    while (sent < range.length) {
      if (flight.full) await flight.room()
      if (flight.gone) return sent
      const slice = await reading.read(range.reader, range.offset + sent, range.length - sent)
      if (sent === 0) beginAnswer(head, () => reading.release(slice.lease))
      sent += slice.length
      if (!flight.write(slice.lease, reading.view(slice))) return sent - slice.length
    }
    return sent
  } finally {
    flight.end()
  }
}

/** A head that cannot be written must not keep the slice that was read for it. */
function beginAnswer(head: () => void, release: () => void): void {
  try {
    head()
  } catch (error) {
    release()
    throw error
  }
}

/** The slices that the socket holds. */
class Flight {
  readonly #response: ServerResponse
  readonly #reading: Reading
  readonly #leases = new Set<number>()
  readonly #timer: NodeJS.Timeout
  #wake: (() => void) | undefined
  #ended = false
  gone = false

  constructor(response: ServerResponse, reading: Reading) {
    this.#response = response
    this.#reading = reading
    this.gone = response.destroyed
    this.#timer = setTimeout(() => response.destroy(), SEND_IDLE_MS_MAX)
    this.#timer.unref()
    response.on('close', this.#onClose)
    response.on('error', this.#onClose)
  }

  get full(): boolean {
    return this.#leases.size >= SLICES_IN_FLIGHT_MAX
  }

  /** False when the client has gone: the lease is given back at once. */
  write(lease: number, bytes: Uint8Array): boolean {
    if (this.gone) {
      this.#reading.release(lease)
      return false
    }
    this.#leases.add(lease)
    // Its result, whether to wait for 'drain', is not needed: the number of leases is the bound.
    this.#response.write(bytes, () => this.#release(lease))
    return true
  }

  /** Resolves when another slice may be written, or never will. */
  room(): Promise<void> {
    if (!this.full || this.gone) return Promise.resolve()
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }

  /** Nothing more will be written; leases still in flight come back by themselves. */
  end(): void {
    this.#ended = true
    this.#detachWhenDone()
  }

  #release(lease: number): void {
    if (!this.#leases.delete(lease)) return
    this.#reading.release(lease)
    this.#timer.refresh()
    this.#detachWhenDone()
    this.#notify()
  }

  #detachWhenDone(): void {
    if (!this.#ended || this.#leases.size > 0) return
    clearTimeout(this.#timer)
    this.#response.off('close', this.#onClose)
  }

  /** The connection is closed, and with it every write: the socket no longer looks at the bytes. */
  readonly #onClose = (): void => {
    this.gone = true
    clearTimeout(this.#timer)
    for (const lease of this.#leases) this.#reading.release(lease)
    this.#leases.clear()
    this.#notify()
  }

  #notify(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }
}
