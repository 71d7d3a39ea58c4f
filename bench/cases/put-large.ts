/**
 * PUT of 64 MiB, one at a time, acknowledged at `journal`. The ceiling is the lesser of what MD5 of one body on a worker
 * thread allows and what the disk takes (written in blocks of 1 MiB, then one fdatasync). Sent with UNSIGNED-PAYLOAD, as
 * clients do over https, so that no payload hash is asked for.
 */
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createHashWorkers } from '../../src/persist/hashing/hash-workers.ts'
import { interleave, median, type Benchmark } from '../benchmark.ts'
import { BUCKET, makeBucket } from '../gateway-probe.ts'

const BODY_BYTES = 64 * 2 ** 20
const BLOCK_BYTES = 2 ** 20
const PUTS_A_ROUND = 4

export const putLarge: Benchmark = {
  name: 'put-64m',
  async run(context) {
    const gateway = await context.gateway()
    await makeBucket(context, gateway)
    const putRate = async (): Promise<number> => {
      const result = await context.load.run({
        origin: gateway.s3,
        credentials: gateway.root,
        request: { method: 'PUT', path: `/${BUCKET}/large-#`, bodyBytes: BODY_BYTES, unsignedPayload: true },
        keys: 2,
        connections: 1,
        end: { requests: PUTS_A_ROUND },
      })
      return result.bytes / 2 ** 20 / result.seconds
    }
    const hashRates: number[] = []
    const diskRates: number[] = []
    const ceilingRate = async (): Promise<number> => {
      const hashRate = await measureHashing()
      const diskRate = await measureDisk(context.directory)
      hashRates.push(hashRate)
      diskRates.push(diskRate)
      return Math.min(hashRate, diskRate)
    }
    await putRate() // starts the gateway's hash workers and warms them up
    const { value, ceiling, ratio } = await interleave(context.rounds, putRate, ceilingRate)
    context.note(`MD5 on a worker ${median(hashRates).toFixed(0)} MiB/s, disk ${median(diskRates).toFixed(0)} MiB/s`)
    return [{ name: 'put-64m', value, unit: 'MiB/s', ceiling, ratio, aim: '>= 0.8', durability: 'journal' }]
  },
}

async function measureHashing(): Promise<number> {
  const slab = new SharedArrayBuffer(BLOCK_BYTES * 4)
  const hashing = createHashWorkers({ slab, workers: 1, queueSlicesMax: 4 })
  await hashing.start()
  const hashBody = async (): Promise<void> => {
    const stream = hashing.open({ md5: true, sha256: false, algorithms: [] })
    let previous: Promise<void> = Promise.resolve()
    for (let block = 0; block < BODY_BYTES / BLOCK_BYTES; block++) {
      const update = stream.update({ slabOffset: (block % 4) * BLOCK_BYTES, length: BLOCK_BYTES })
      await previous
      previous = update
    }
    await stream.finish()
  }
  await hashBody()
  const startMs = performance.now()
  for (let put = 0; put < PUTS_A_ROUND; put++) await hashBody()
  const seconds = (performance.now() - startMs) / 1000
  await hashing.stop()
  return (BODY_BYTES * PUTS_A_ROUND) / 2 ** 20 / seconds
}

async function measureDisk(directory: string): Promise<number> {
  const block = Buffer.alloc(BLOCK_BYTES, 0x61)
  const path = join(directory, 'disk-ceiling')
  const startMs = performance.now()
  for (let put = 0; put < PUTS_A_ROUND; put++) {
    const file = await open(path, 'w')
    for (let at = 0; at < BODY_BYTES; at += BLOCK_BYTES) await file.write(block, 0, BLOCK_BYTES, at)
    await file.datasync()
    await file.close()
  }
  const seconds = (performance.now() - startMs) / 1000
  await rm(path)
  return (BODY_BYTES * PUTS_A_ROUND) / 2 ** 20 / seconds
}
