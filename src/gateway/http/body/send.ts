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

/** A range of an opened object's content. */
export interface ContentPiece {
  readonly offset: number
  readonly length: number
  /**
   * Called once, when the first bytes of the piece are there, to write what comes before them: the head of the answer, the
   * headers of a part. Until the first call a failure can still be answered as one.
   */
  readonly begin: () => void
}

/** `sendPieces` of one. */
export function sendContent(
  response: ServerResponse,
  reading: Reading,
  piece: ContentPiece & { readonly reader: ReaderId },
): Promise<number> {
  return sendPieces(response, reading, { reader: piece.reader, pieces: [piece] })
}

/**
 * Writes ranges of an opened object's content. Resolves with the bytes of content handed over when all of them are, or when
 * the client has gone; every lease has been, or will be, given back.
 * @throws what `reading.read` throws; once something was begun the answer is then cut short
 */
export async function sendPieces(
  response: ServerResponse,
  reading: Reading,
  { reader, pieces }: { readonly reader: ReaderId; readonly pieces: readonly ContentPiece[] },
): Promise<number> {
  const flight = new Flight(response, reading)
  let sent = 0
  try {
    for (const { offset, length, begin } of pieces) {
      for (let done = 0; done < length;) {
        if (flight.full) await flight.room()
        if (flight.gone) return sent
        const slice = await reading.read(reader, offset + done, length - done)
        if (done === 0) beginPiece(begin, () => reading.release(slice.lease))
        if (!flight.write(slice.lease, reading.view(slice))) return sent
        done += slice.length
        sent += slice.length
      }
    }
    return sent
  } finally {
    flight.end()
  }
}

/** What cannot be written must not keep the slice that was read for it. */
function beginPiece(begin: () => void, release: () => void): void {
  try {
    begin()
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
    // Both: a batch sends a thousand values on one response, each with a flight of its own.
    this.#response.off('close', this.#onClose)
    this.#response.off('error', this.#onClose)
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
