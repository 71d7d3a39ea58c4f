/** PUT of 4 KiB with 64 in flight, acknowledged at `journal`, against a bare server that throws the bytes away. */
import { interleave, type Benchmark } from '../benchmark.ts'
import { BUCKET, makeBucket, syncsSoFar } from '../gateway-probe.ts'
import type { LoadJob } from '../load/job.ts'

const IN_FLIGHT = 64
const BODY_BYTES = 4096
const KEYS = 20_000

export const putSmall: Benchmark = {
  name: 'put-4k',
  async run(context) {
    const gateway = await context.gateway()
    await makeBucket(context, gateway)
    let syncs = 0
    let puts = 0
    const rate = async (origin: string): Promise<number> => {
      const job: LoadJob = {
        origin,
        credentials: gateway.root,
        request: { method: 'PUT', path: `/${BUCKET}/#`, bodyBytes: BODY_BYTES },
        keys: KEYS,
        connections: IN_FLIGHT,
        end: { warmupSeconds: 0.5, seconds: context.seconds },
      }
      const result = await context.load.run(job)
      return result.requests / result.seconds
    }
    const gatewayRate = async (): Promise<number> => {
      const before = await counts(gateway.http)
      const syncsBefore = await syncsSoFar(gateway)
      const measured = await rate(gateway.s3)
      syncs += (await syncsSoFar(gateway)) - syncsBefore
      puts += (await counts(gateway.http)) - before
      return measured
    }
    const { value, ceiling, ratio } = await interleave(context.rounds, gatewayRate, () => rate(context.bare.origin))
    const durability = 'journal'
    return [
      { name: 'put-4k', value, unit: 'requests/s', ceiling, ratio, aim: '>= 0.25', durability },
      {
        name: 'put-4k-syncs',
        value: syncs / puts,
        unit: 'syncs/put',
        ceiling: null,
        ratio: null,
        aim: null,
        durability,
      },
    ]
  },
}

/** Requests that the gateway has answered so far, warm-up included, to set the syncs against. */
async function counts(http: string): Promise<number> {
  const text = await (await fetch(`${http}/metrics`)).text()
  let sum = 0
  for (const match of text.matchAll(/^tidegate_requests_total\{[^}]*operation="PutObject"[^}]*\} (\S+)/gm)) {
    sum += Number(match[1])
  }
  return sum
}
