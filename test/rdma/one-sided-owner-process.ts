/**
 * The owner of one-sided.test.ts, in a process of its own, so that it can be stopped: node 2, whose blocks lie in lent memory. It is told where node 1 is
 * called, and says where it is called itself.
 */
import { openFabricDevice } from '../../src/rdma/fabric/device.ts'
import { FabricNodes, testFabric } from '../support/fabric-nodes.ts'

export const OWNER = 2
export const READER = 1
export const BLOCK_BYTES: number = 1024 * 1024

/** Nothing is slow here but a guest whose processor is emulated. */
export const PATIENT = { lineBytes: 1, agreeMs: 60_000, transferMs: 30_000, leaseMs: 120_000 } as const

/** No two blocks have a run of bytes in common. */
export function fillBlock(block: number, memory: Uint8Array): void {
  for (let at = 0; at < memory.length; at++) memory[at] = Math.imul(at + block * BLOCK_BYTES + 1, 2654435761) >>> 16
}

async function run(readerAddress: string): Promise<void> {
  const { device, reason } = await openFabricDevice(testFabric)
  if (device === undefined) throw new Error(reason)
  const nodes = new FabricNodes()
  const transport = nodes.make(OWNER, device, { fabric: PATIENT })
  transport.serve('block', async ({ head }) => {
    const memory = nodes.memory(OWNER, BLOCK_BYTES)
    fillBlock(head[0] ?? 0, memory)
    return { head, pieces: [memory] }
  })
  await transport.start()
  nodes.tcp.tell(READER, readerAddress)
  process.once('disconnect', () => process.exit(0))
  process.send?.(transport.address)
}

if (import.meta.main) await run(process.argv[2] ?? '')
