/** Nodes of a test that call each other over TCP and reach each other's memory by a fabric, within one process. */
import { randomFillSync } from 'node:crypto'
import { must } from '../../src/common/assert.ts'
import { systemClock, type Clock } from '../../src/common/clock.ts'
import { FabricTransport } from '../../src/rdma/fabric/fabric-transport.ts'
import type { FabricLimits } from '../../src/rdma/fabric/limits.ts'
import type { PathEvent } from '../../src/rdma/fabric/pair.ts'
import type { FabricDevice, FabricDeviceOptions } from '../../src/rdma/fabric/ports.ts'
import { TcpNodes, type TcpNodeOptions } from './tcp-nodes.ts'

const MIB = 1024 * 1024
const SLAB_BYTES = 96 * MIB

/** The real one, as the environment says: in a guest with RDMA it is `verbs`. */
export const testFabric: FabricDeviceOptions = {
  provider: process.env['TIDEGATE_TEST_FABRIC'] === 'verbs' ? 'verbs' : 'tcp',
  address: process.env['TIDEGATE_TEST_FABRIC_ADDRESS'] ?? '127.0.0.1',
}

export interface FabricNodeOptions extends TcpNodeOptions {
  readonly fabric?: Partial<FabricLimits>
  /** Of the fabric alone. */
  readonly clock?: Clock
  readonly onChange?: (node: number, event: PathEvent) => void
}

export class FabricNodes {
  readonly tcp = new TcpNodes()
  readonly #slabs = new Map<number, { readonly memory: SharedArrayBuffer; used: number }>()
  readonly #made: FabricTransport[] = []
  readonly #devices: FabricDevice[] = []

  /** The device is closed by `stop`. */
  make(node: number, device: FabricDevice, options: FabricNodeOptions = {}): FabricTransport {
    const { fabric, clock = systemClock, onChange, ...rest } = options
    const transport = new FabricTransport({
      inner: this.tcp.make(node, rest),
      device,
      member: (number) => this.tcp.members.get(number),
      clock,
      random: Math.random,
      fillRandom: (bytes) => void randomFillSync(bytes),
      onChange,
      limits: fabric,
    })
    const slab = { memory: new SharedArrayBuffer(SLAB_BYTES), used: 0 }
    transport.lend(slab.memory)
    this.#slabs.set(node, slab)
    this.tcp.watching.add(() => transport.viewChanged())
    this.#made.push(transport)
    this.#devices.push(device)
    return transport
  }

  /** Memory of a node's that it has lent; never used twice. */
  memory(node: number, bytes: number): Uint8Array {
    const slab = must(this.#slabs.get(node), 'the slab of a node')
    const at = slab.used
    slab.used += Math.ceil(bytes / 64) * 64
    return new Uint8Array(slab.memory, at, bytes)
  }

  /** Each reaches the other's memory. */
  async ready(): Promise<void> {
    for (const one of this.#made)
      for (const node of this.tcp.members.keys())
        if (node !== this.tcp.numberOf(one.address) && !(await one.prepare(node)))
          throw new Error(
            `no fabric to node ${node}: ${one.figures.peers.map((peer) => peer.fabric?.lastFailure).join()}`,
          )
  }

  async stop(): Promise<void> {
    await Promise.all(this.#made.map((transport) => transport.stop()))
    await this.tcp.stop()
    await Promise.all(this.#devices.map((device) => device.close()))
  }
}
