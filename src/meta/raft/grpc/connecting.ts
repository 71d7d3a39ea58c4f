/**
 * Connections that the library has begun and that nobody answers yet. It sets no limit to them, and does not end them when its channel is closed: what swallows packets (a
 * container or a machine that has just gone) holds one for two minutes, until the kernel gives up. So long the process could not end, and a member that is back would
 * not be reached. So they are given up here after a while, and at once when the channel is closed.
 *
 * The library opens its sockets itself. Node tells of every socket that is opened, and which work it was opened for is known from the context that this runs in.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import type { Clock } from '../../../common/clock.ts'

/** Long enough for the kernel to try three times. */
export const CONNECT_MS_MAX = 5_000

const opening = new AsyncLocalStorage<Connecting>()

subscribe('net.client.socket', (message) => opening.getStore()?.add((message as { socket: Socket }).socket))

export class Connecting {
  readonly #clock: Clock
  readonly #sockets = new Map<Socket, AbortController>()
  #ended = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Sockets that are opened in there, and in what follows from it, are looked after. */
  during<T>(work: () => T): T {
    return opening.run(this, work)
  }

  add(socket: Socket): void {
    // It is told of before it connects, which would revive it.
    if (this.#ended) return process.nextTick(() => socket.destroy())
    const over = new AbortController()
    this.#sockets.set(socket, over)
    socket.once('close', () => {
      this.#sockets.delete(socket)
      over.abort()
    })
    socket.once('connect', () => over.abort())
    // Only what is not connected: of a handshake of TLS that is broken off the library would not hear, and would wait for it for ever.
    void this.#clock.sleep(CONNECT_MS_MAX, over.signal).then(
      () => socket.connecting && socket.destroy(),
      () => undefined,
    )
  }

  /** The channel is closed. What was answered is the library's to close, and keeps no process from ending. */
  end(): void {
    this.#ended = true
    for (const [socket, over] of this.#sockets) {
      over.abort()
      if (socket.connecting || socket.bytesRead === 0) socket.destroy()
      else socket.unref()
    }
    this.#sockets.clear()
  }
}
