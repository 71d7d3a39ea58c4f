/** Nodes of a test that call each other over TCP within one process: who they are to each other is a map that the test may change. */
import { randomFillSync } from 'node:crypto'
import { must } from '../../src/common/assert.ts'
import { systemClock } from '../../src/common/clock.ts'
import type { NodeMember } from '../../src/common/node-view.ts'
import type { TcpLimits } from '../../src/rdma/tcp/limits.ts'
import type { TransportTls } from '../../src/rdma/tcp/secured.ts'
import { TcpTransport } from '../../src/rdma/tcp/tcp-transport.ts'

export const SECRET: Uint8Array = Buffer.alloc(32, 's')

export interface TcpNodeOptions {
  readonly incarnation?: string
  readonly secret?: () => Uint8Array
  readonly tls?: TransportTls | undefined
  readonly limits?: Partial<TcpLimits>
  readonly onBug?: (error: unknown) => void
}

export class TcpNodes {
  readonly members = new Map<number, NodeMember>()
  /** Told when members have changed, beside the transports. */
  readonly watching = new Set<() => void>()
  readonly #made: TcpTransport[] = []
  readonly #latest = new Map<number, TcpTransport>()

  /** Started, it is told to the others. */
  make(
    node: number,
    { incarnation = incarnationOf(node), secret = () => SECRET, ...rest }: TcpNodeOptions = {},
  ): TcpTransport {
    const transport = new TcpTransport({
      self: { node, incarnation, secret, fillRandom: (bytes) => void randomFillSync(bytes) },
      listen: { host: '127.0.0.1', port: 0 },
      member: (number) => this.members.get(number),
      clock: systemClock,
      random: Math.random,
      onBug: () => undefined,
      ...rest,
    })
    const start = transport.start.bind(transport)
    transport.start = async () => {
      await start()
      this.tell(node, transport.address, incarnation)
    }
    this.#made.push(transport)
    this.#latest.set(node, transport)
    return transport
  }

  /** The one that was made last for that node. */
  transport(node: number): TcpTransport {
    return must(this.#latest.get(node), 'a transport of the node')
  }

  tell(node: number, address: string, incarnation = incarnationOf(node)): void {
    const said = { name: `n${node}`, weight: 100, labels: {}, state: 'serving', version: '0' } as const
    this.members.set(node, { ...said, number: node, address, incarnation })
    for (const transport of this.#made) transport.viewChanged()
    for (const changed of this.watching) changed()
  }

  numberOf(address: string): number | undefined {
    return [...this.members.values()].find((member) => member.address === address)?.number
  }

  async stop(): Promise<void> {
    await Promise.all(this.#made.map((transport) => transport.stop()))
  }
}

export function incarnationOf(node: number, life = 0): string {
  return `${String(life).padStart(8, '0')}${String(node).padStart(8, '0')}`
}
