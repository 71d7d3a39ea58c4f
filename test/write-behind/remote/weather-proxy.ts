/**
 * A proxy in front of a remote store, in the test's own process: what lies between a gateway and its store, with weather. Requests are passed
 * on as they are (`Host` too, since clients sign it); what the weather says happens to each of them.
 *
 *   refuse   503 SlowDown, before anything has reached the store
 *   drop     the connection breaks before anything has reached the store
 *   lose     the store does as it is told, and the connection breaks instead of the answer: a lost acknowledgement
 *   delay    so many ms before the request is passed on
 *
 * Cut off, every connection breaks, and new ones do as soon as they are there.
 */
import { once } from 'node:events'
import {
  Agent,
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Random } from '../../model/random.ts'

export interface Weather {
  readonly delayMs: number
  readonly refuseChance: number
  readonly dropChance: number
  readonly loseChance: number
}

export const FAIR: Weather = { delayMs: 0, refuseChance: 0, dropChance: 0, loseChance: 0 }

type Mishap = 'refuse' | 'drop' | 'lose' | undefined

const REFUSAL =
  '<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>'

export class WeatherProxy {
  weather: Weather = FAIR
  /** Called with each request that reaches the proxy. */
  onRequest: ((request: IncomingMessage) => void) | undefined
  readonly counts = { passed: 0, refused: 0, dropped: 0, lost: 0 }
  readonly #target: URL
  readonly #random: Random
  readonly #server: Server
  readonly #agent = new Agent({ keepAlive: true })
  #isCutOff = false

  constructor(target: string, random: Random) {
    this.#target = new URL(target)
    this.#random = random
    const handle = (request: IncomingMessage, response: ServerResponse): void => {
      this.#handle(request, response).catch(() => response.destroy())
    }
    this.#server = createServer({ requestTimeout: 0 }, handle)
    this.#server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      response.writeContinue()
      handle(request, response)
    })
    this.#server.on('connection', (socket) => {
      socket.on('error', () => undefined)
      if (this.#isCutOff) socket.destroy()
    })
  }

  async start(): Promise<void> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
  }

  /** In place of the target's. */
  get endpoint(): string {
    const { port } = this.#server.address() as AddressInfo
    return `http://127.0.0.1:${port}`
  }

  cutOff(): void {
    this.#isCutOff = true
    this.#server.closeAllConnections()
    this.#agent.destroy()
  }

  restore(): void {
    this.#isCutOff = false
  }

  async stop(): Promise<void> {
    this.cutOff()
    this.#server.close()
    await once(this.#server, 'close')
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.on('error', () => undefined)
    response.on('error', () => undefined)
    this.onRequest?.(request)
    const { delayMs } = this.weather
    const mishap = this.#mishap()
    if (delayMs > 0) await sleep(delayMs)
    if (response.destroyed) return
    switch (mishap) {
      case 'drop':
        this.counts.dropped++
        response.destroy()
        return
      case 'refuse':
        this.counts.refused++
        // Read first: who is still sending would take the closed connection for the answer.
        request.resume()
        request.once('end', () => response.writeHead(503, { 'content-type': 'application/xml' }).end(REFUSAL))
        return
      case 'lose':
      case undefined:
        await this.#passOn(request, response, mishap === 'lose')
    }
  }

  #mishap(): Mishap {
    const { refuseChance, dropChance, loseChance } = this.weather
    const roll = this.#random.next()
    if (roll < refuseChance) return 'refuse'
    if (roll < refuseChance + dropChance) return 'drop'
    return roll < refuseChance + dropChance + loseChance ? 'lose' : undefined
  }

  #passOn(request: IncomingMessage, response: ServerResponse, losesAnswer: boolean): Promise<void> {
    const { expect: _, ...headers } = request.headers
    const { hostname, port } = this.#target
    const { method, url: path } = request
    return new Promise((resolve) => {
      const onward = httpRequest({ hostname, port, method, path, headers, agent: this.#agent }, (answer) => {
        if (losesAnswer) {
          this.counts.lost++
          answer.resume()
          answer.once('end', () => response.destroy())
          return resolve()
        }
        this.counts.passed++
        response.writeHead(answer.statusCode ?? 502, answer.rawHeaders)
        answer.on('error', () => response.destroy())
        answer.pipe(response)
        response.once('close', () => {
          answer.destroy()
          resolve()
        })
      })
      onward.on('error', () => {
        response.destroy()
        resolve()
      })
      response.once('close', () => {
        if (!response.writableFinished && !losesAnswer) onward.destroy()
        resolve()
      })
      request.pipe(onward)
    })
  }
}
