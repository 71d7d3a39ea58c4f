/**
 * The other end of device.test.ts, in a process of its own, so that it can be stopped and killed. It says once what it lends; after that it answers
 * questions, each with one message.
 */
import { openFabricDevice } from '../../../../src/rdma/fabric/device.ts'
import type { Channel, FabricProvider, Region } from '../../../../src/rdma/fabric/ports.ts'

/** Bytes travel as hex, keys and addresses as decimal digits. */
export interface PeerRegion {
  readonly key: string
  readonly address: string
}

export interface PeerFacts {
  readonly name: string
  readonly readable: PeerRegion
  readonly writable: PeerRegion
  readonly closed: PeerRegion
}

export type PeerQuestion =
  /** A channel of its own for somebody: its name. */
  | { readonly ask: 'open' }
  /** What lies in memory that others may write, or only read. */
  | { readonly ask: 'look'; readonly where: 'readable' | 'writable'; readonly offset: number; readonly bytes: number }

export const PEER_BYTES: number = 8 * 1024 * 1024

export const peerByte = (at: number): number => (Math.imul(at + 1, 2654435761) >>> 16) & 0xff

function facts(region: Region): PeerRegion {
  return { key: String(region.key), address: String(region.address) }
}

async function run(provider: FabricProvider, address: string): Promise<void> {
  const { device, reason } = await openFabricDevice({ provider, address })
  if (device === undefined) throw new Error(reason)
  const readable = device.register(
    Uint8Array.from({ length: PEER_BYTES }, (_, at) => peerByte(at)),
    'read',
  )
  const writable = device.register(new Uint8Array(PEER_BYTES), 'read and write')
  const closed = device.register(new Uint8Array(4_096), 'read')
  const factsOfClosed = facts(closed)
  closed.close()
  const channels: Channel[] = []
  const open = (): string => {
    const channel = device.open()
    channels.push(channel)
    return Buffer.from(channel.name).toString('hex')
  }
  process.on('message', (question: PeerQuestion) => {
    if (question.ask === 'open') {
      process.send?.(open())
      return
    }
    const { memory } = question.where === 'readable' ? readable : writable
    process.send?.(Buffer.from(memory.subarray(question.offset, question.offset + question.bytes)).toString('hex'))
  })
  process.once('disconnect', () => process.exit(0))
  process.send?.({
    name: open(),
    readable: facts(readable),
    writable: facts(writable),
    closed: factsOfClosed,
  } satisfies PeerFacts)
}

if (import.meta.main) await run(process.argv[2] === 'verbs' ? 'verbs' : 'tcp', process.argv[3] ?? '127.0.0.1')
