/**
 * The node that holds the blocks, for `neighbours-hit`: `node holder-process.ts SECRET` (hex). Memory level, block server and transport as the gateway has them, and beside
 * them the least that a socket can do. Tells its parent where it is reached, and ends with it.
 */
import { randomFillSync } from 'node:crypto'
import { MemoryLevel } from '../../src/cache-tier/memory-level.ts'
import { BlockServer } from '../../src/cache-tier/neighbours/block-server.ts'
import { Slab } from '../../src/cache-tier/slab.ts'
import { systemClock } from '../../src/common/clock.ts'
import { prepareCrc32 } from '../../src/common/crc32.ts'
import { DEFAULT_LIMITS } from '../../src/common/limits.ts'
import { createHashWorkers } from '../../src/persist/hashing/hash-workers.ts'
import { TcpTransport } from '../../src/rdma/tcp/tcp-transport.ts'
import { HOLDER, INCARNATION, LARGE, MIB, SLAB_BYTES, SMALL_BYTES, type HolderReady } from './place.ts'
import { serveRaw } from './raw-link.ts'

const secret = Buffer.from(process.argv[2] ?? '', 'hex')
const limits = DEFAULT_LIMITS

await prepareCrc32()
const slab = new Slab({ bytes: SLAB_BYTES, slotBytes: limits.blockBytes })
const memory = new MemoryLevel({ slab, limits, clock: systemClock })
const hashing = createHashWorkers({ slab: slab.buffer, workers: 1, queueSlicesMax: 64 })
await hashing.start()
const server = new BlockServer({
  memory,
  level: { mayBeAsking: () => Promise.resolve(false) },
  // Once for each block: from then on it is in memory.
  read: ({ segment, slabOffset }) => {
    const length = segment === LARGE ? limits.blockBytes : SMALL_BYTES
    randomFillSync(slab.view(slabOffset, length))
    return Promise.resolve(length)
  },
  hashing,
  limits,
  slabView: (slabOffset, length) => slab.view(slabOffset, length),
})
const transport = new TcpTransport({
  self: { node: HOLDER, incarnation: INCARNATION, secret: () => secret, fillRandom: (bytes) => randomFillSync(bytes) },
  listen: { host: '127.0.0.1', port: 0 },
  member: () => undefined,
  clock: systemClock,
  random: Math.random,
  onBug: (error) => {
    throw error
  },
})
transport.serve('block', server.handler)
await transport.start()
const rawPort = await serveRaw(Buffer.alloc(MIB, 0x61))
process.on('disconnect', () => process.exit(0))
process.send?.({ address: transport.address, rawPort } satisfies HolderReady)
