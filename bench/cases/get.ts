/** GET of one hot object, signed, against a bare server that sends as many bytes. The same load process sends both. */
import { interleave, type Benchmark, type BenchmarkContext, type Measurement } from '../benchmark.ts'
import { BUCKET, makeBucket, sendOnce } from '../gateway-probe.ts'
import type { LoadJob } from '../load/job.ts'

interface GetCase {
  readonly name: string
  readonly bytes: number
  readonly connections: number
  readonly unit: 'requests/s' | 'MiB/s'
  readonly aim: string
}

async function measureGet(context: BenchmarkContext, get: GetCase): Promise<Measurement[]> {
  const gateway = await context.gateway()
  await makeBucket(context, gateway)
  // The name ends in the length, which is what the bare server goes by.
  const path = `/${BUCKET}/${get.bytes}`
  await sendOnce(context, gateway, { method: 'PUT', path, bodyBytes: get.bytes })
  const rate = async (origin: string): Promise<number> => {
    const job: LoadJob = {
      origin,
      credentials: gateway.root,
      request: { method: 'GET', path },
      keys: 1,
      connections: get.connections,
      end: { warmupSeconds: 0.5, seconds: context.seconds },
    }
    const result = await context.load.run(job)
    return get.unit === 'MiB/s' ? result.bytes / 2 ** 20 / result.seconds : result.requests / result.seconds
  }
  const { value, ceiling, ratio } = await interleave(
    context.rounds,
    () => rate(gateway.s3),
    () => rate(context.bare.origin),
  )
  return [{ name: get.name, value, unit: get.unit, ceiling, ratio, aim: get.aim, durability: 'none' }]
}

const CASES: readonly GetCase[] = [
  { name: 'get-4k', bytes: 4096, connections: 32, unit: 'requests/s', aim: '>= 0.5' },
  { name: 'get-1m', bytes: 2 ** 20, connections: 8, unit: 'MiB/s', aim: '>= 0.8' },
]

export const getBenchmarks: Benchmark[] = CASES.map((get) => ({
  name: get.name,
  run: (context) => measureGet(context, get),
}))
