/**
 * An answer that is written piece by piece as it comes to be, with what the client takes as the pace: `write` resolves when
 * another piece may follow. A client that takes nothing for two minutes is cut off.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ServerResponse } from 'node:http'
import type { DoorExchange } from '../http/exchange.ts'

const SEND_IDLE_MS_MAX = 120_000

export class RawAnswer {
  readonly response: ServerResponse
  readonly #exchange: DoorExchange

  /** Sends the head. Fastify has nothing more to do with the reply from here on. */
  constructor(request: FastifyRequest, reply: FastifyReply, contentType: string) {
    const headers = reply.getHeaders()
    reply.hijack()
    this.response = reply.raw
    this.#exchange = request.exchange
    for (const [name, value] of Object.entries(headers)) if (value !== undefined) this.response.setHeader(name, value)
    this.response.setHeader('content-type', contentType)
    this.response.writeHead(200)
  }

  get gone(): boolean {
    return this.response.destroyed
  }

  /** False when the client has gone. */
  async write(bytes: Uint8Array): Promise<boolean> {
    if (this.gone) return false
    this.counted(bytes.length)
    if (!this.response.write(bytes)) await this.#drained()
    return !this.gone
  }

  /** Small ones, without waiting for the client to take them. */
  writeNow(bytes: Uint8Array): void {
    this.counted(bytes.length)
    this.response.write(bytes)
  }

  /** Bytes that somebody else has written. */
  counted(bytes: number): void {
    this.#exchange.bytesOut += bytes
  }

  end(): void {
    this.response.end()
  }

  #drained(): Promise<void> {
    const { response } = this
    return new Promise((resolve) => {
      const timer = setTimeout(() => response.destroy(), SEND_IDLE_MS_MAX)
      const settle = (): void => {
        clearTimeout(timer)
        response.off('drain', settle)
        response.off('close', settle)
        resolve()
      }
      response.on('drain', settle)
      response.on('close', settle)
      if (response.destroyed) settle()
    })
  }
}
