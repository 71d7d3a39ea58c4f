/**
 * The far end of a thin line, in front of a server on this machine: `node link-process.ts PORT BYTES_PER_SECOND DELAY_MS`. Tells its parent
 * the port that it listens on.
 *
 * All connections share the line, one chunk behind the other as they came; each way has the rate and the delay. A connection has at most
 * `HELD_BYTES_MAX` on the line: more waits in the sockets before it, as it does before a real one. That is far more than rate times
 * delay, so a single connection can fill the line.
 */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

const HELD_BYTES_MAX = 4 * 1024 * 1024

const [targetPort, bytesPerSecond, delayMs] = process.argv.slice(2).map(Number) as [number, number, number]

interface Sent {
  readonly arrivesMs: number
  readonly arrive: () => void
}

/** One way. What is sent arrives in the order in which it was sent. */
class Line {
  readonly #sent: Sent[] = []
  #freeMs = 0
  #timer: NodeJS.Timeout | undefined

  send(bytes: number, arrive: () => void): void {
    this.#freeMs = Math.max(performance.now(), this.#freeMs) + (bytes / bytesPerSecond) * 1000
    this.#sent.push({ arrivesMs: this.#freeMs + delayMs, arrive })
    if (this.#timer === undefined) this.#timer = this.#wait()
  }

  #wait(): NodeJS.Timeout | undefined {
    const next = this.#sent[0]
    return next && setTimeout(() => this.#deliver(), Math.max(0, next.arrivesMs - performance.now()))
  }

  #deliver(): void {
    const nowMs = performance.now()
    while (this.#sent[0] !== undefined && this.#sent[0].arrivesMs <= nowMs) this.#sent.shift()?.arrive()
    this.#timer = this.#wait()
  }
}

function carry(line: Line, from: Socket, to: Socket): void {
  let heldBytes = 0
  from.on('data', (chunk) => {
    heldBytes += chunk.length
    if (heldBytes > HELD_BYTES_MAX) from.pause()
    line.send(chunk.length, () => {
      heldBytes -= chunk.length
      if (heldBytes <= HELD_BYTES_MAX / 2) from.resume()
      if (!to.destroyed) to.write(chunk)
    })
  })
  from.on('end', () => line.send(0, () => to.end()))
  from.on('error', () => line.send(0, () => to.destroy()))
  from.on('close', () => line.send(0, () => to.destroySoon()))
}

const up = new Line()
const down = new Line()
const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
  const target = connect({ port: targetPort, host: '127.0.0.1', noDelay: true, allowHalfOpen: true })
  carry(up, client, target)
  carry(down, target, client)
})
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }))
process.on('disconnect', () => process.exit())
