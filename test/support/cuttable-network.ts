/**
 * A network that a test can cut, of TCP connections on the loopback address: whoever is to be cut off is reached through a *wire*, a port that passes on to where
 * the other really listens. A cut holds one direction between two parties, for all connections of both; a partition is two of them. What is held is kept, and
 * passed on when the cut is healed, as TCP would have sent it again, unless one of the ends has given the connection up by then.
 *
 * Members of etcd have one address for all others. Who opened a connection to it is told by its first request: rafthttp sends the header `X-Server-From`
 * (etcd server/etcdserver/api/rafthttp/util.go), the id of the member in hex.
 */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'

const SENDER = /x-server-from: ([0-9a-f]+)/i

/** One direction of a connection. */
interface Flow {
  readonly from: () => string | undefined
  readonly to: () => string | undefined
  readonly input: Socket
  readonly output: Socket
}

export class CuttableNetwork {
  readonly #servers: Server[] = []
  readonly #flows = new Set<Flow>()
  /** `from > to`. */
  readonly #cuts = new Set<string>()
  /** Names of members by their ids in hex. */
  readonly #names = new Map<string, string>()

  /** The address where `to`, which listens at `url`, is reached: by `from`, or by members who say who they are. */
  async wire(to: string, url: string, from?: string): Promise<string> {
    const { hostname, port } = new URL(url)
    const server = createServer((client) => this.#join(client, { to, from, host: hostname, port: Number(port) }))
    this.#servers.push(server)
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  }

  nameMember(idHex: string, name: string): void {
    this.#names.set(idHex, name)
  }

  nameOf(idHex: string): string | undefined {
    return this.#names.get(idHex)
  }

  /** Nothing gets from the one to the other any more. */
  cut(from: string, to: string): void {
    this.#cuts.add(cutName(from, to))
    this.#look()
  }

  heal(): void {
    this.#cuts.clear()
    this.#look()
  }

  close(): void {
    for (const server of this.#servers) server.close()
    for (const { input, output } of this.#flows) {
      input.destroy()
      output.destroy()
    }
  }

  #join(
    client: Socket,
    { to, from, host, port }: { to: string; from: string | undefined; host: string; port: number },
  ): void {
    const server = connect({ host, port, noDelay: true })
    client.setNoDelay(true)
    let sender = from
    const party = (): string | undefined => (sender === undefined ? undefined : (this.#names.get(sender) ?? sender))
    const there: Flow = { from: party, to: () => to, input: client, output: server }
    const back: Flow = { from: () => to, to: party, input: server, output: client }
    if (from === undefined)
      client.once('data', (first: Buffer) => (sender = SENDER.exec(first.toString('latin1'))?.[1]?.toLowerCase()))
    for (const flow of [there, back]) this.#carry(flow)
  }

  #carry(flow: Flow): void {
    const { input, output } = flow
    this.#flows.add(flow)
    input.on('data', (chunk: Buffer) => {
      if (this.#isCut(flow)) {
        input.pause()
        input.unshift(chunk)
      } else if (!output.write(chunk)) input.pause()
    })
    output.on('drain', () => this.#lookAt(flow))
    input.on('error', () => output.destroy())
    input.on('end', () => output.end())
    input.on('close', () => {
      this.#flows.delete(flow)
      output.destroySoon()
    })
    this.#lookAt(flow)
  }

  #look(): void {
    for (const flow of this.#flows) this.#lookAt(flow)
  }

  #lookAt({ input, output, ...flow }: Flow): void {
    if (this.#isCut(flow)) input.pause()
    else if (!output.writableNeedDrain) input.resume()
  }

  #isCut({ from, to }: Pick<Flow, 'from' | 'to'>): boolean {
    const [source, target] = [from(), to()]
    return source !== undefined && target !== undefined && this.#cuts.has(cutName(source, target))
  }
}

function cutName(from: string, to: string): string {
  return `${from} > ${to}`
}
