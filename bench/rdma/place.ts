/** What the two processes of `rdma` agree on, and how a node is made. */
import { randomFillSync } from 'node:crypto'
import { systemClock } from '../../src/common/clock.ts'
import type { NodeMember } from '../../src/common/node-view.ts'
import { openFabricDevice } from '../../src/rdma/fabric/device.ts'
import { FabricTransport } from '../../src/rdma/fabric/fabric-transport.ts'
import type { FabricDevice } from '../../src/rdma/fabric/ports.ts'
import type { Transport } from '../../src/rdma/ports.ts'
import { TcpTransport } from '../../src/rdma/tcp/tcp-transport.ts'

export const MIB: number = 2 ** 20
export const SLOTS = 32
export const SLAB_BYTES: number = SLOTS * MIB
export const READER = 1
export const OWNER = 2
export const INCARNATION: string = '0'.repeat(16)

/** `device`: only the addon. `connection` and `fabric`: calls between nodes. */
export type Way = 'device' | 'connection' | 'fabric'

/** What the owner tells its parent; keys and addresses in hexadecimal digits. */
export interface OwnerReady {
  readonly address?: string
  readonly name?: string
  readonly key?: string
  readonly base?: string
}

export type ToOwner =
  | { readonly kind: 'cpu' }
  | { readonly kind: 'reader'; readonly name?: string; readonly address?: string }

export function memberAt(number: number, address: string): NodeMember {
  const rest = { incarnation: INCARNATION, weight: 1, labels: {}, version: '' } as const
  return { ...rest, number, name: `n${number}`, address, state: 'serving' }
}

export async function openDevice(): Promise<FabricDevice> {
  const { device, reason } = await openFabricDevice({ provider: 'tcp', address: '127.0.0.1' })
  if (device === undefined) throw new Error(reason)
  return device
}

/** Not started yet. The fabric takes bodies of every size that is measured. */
export async function makeNode(
  node: number,
  way: Exclude<Way, 'device'>,
  parts: {
    readonly members: ReadonlyMap<number, NodeMember>
    readonly secret: Uint8Array
    readonly slab: SharedArrayBuffer
  },
): Promise<{ transport: Transport; fabric: FabricTransport | undefined }> {
  const fillRandom = (bytes: Uint8Array): void => void randomFillSync(bytes)
  const member = (number: number): NodeMember | undefined => parts.members.get(number)
  const clock = systemClock
  const inner = new TcpTransport({
    self: { node, incarnation: INCARNATION, secret: () => parts.secret, fillRandom },
    listen: { host: '127.0.0.1', port: 0 },
    member,
    clock,
    random: Math.random,
    onBug: (error) => {
      throw error
    },
  })
  if (way === 'connection') return { transport: inner, fabric: undefined }
  const device = await openDevice()
  const limits = { lineBytes: 1 }
  const fabric = new FabricTransport({ inner, device, member, clock, random: Math.random, fillRandom, limits })
  fabric.lend(parts.slab)
  return { transport: fabric, fabric }
}

export function cpuSeconds(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}
