/** Batches of 100 gets in the binary framing and in JSON, against single gets over as many connections. Keys a second. */
import { compare, takeTurns, type Benchmark, type Measurement } from '../benchmark.ts'
import { basicOf, BUCKET_PATH, fillBucket, kvClient, kvGateway, numbered } from '../kv-probe.ts'
import type { LoadRequest } from '../load/job.ts'
import { BATCH_CODES, BATCH_CONTENT_TYPE, encodeBatchFrame, encodeBatchHead } from '../../src/common/batch-framing.ts'

const KEYS = 10_000
const VALUE_BYTES = 100
const BATCH_KEYS = 100
const CONNECTIONS = [1, 64] as const

/** Spread over all keys there are. */
const KEYS_ASKED = Array.from({ length: BATCH_KEYS }, (_, index) => numbered((index * KEYS) / BATCH_KEYS))

const SINGLE: LoadRequest = { method: 'GET', path: `${BUCKET_PATH}/#` }
const BINARY: LoadRequest = {
  method: 'POST',
  path: `${BUCKET_PATH}:batch`,
  headers: { 'content-type': BATCH_CONTENT_TYPE },
  body: Buffer.concat([
    encodeBatchHead('request', BATCH_KEYS),
    ...KEYS_ASKED.map((key) => encodeBatchFrame({ code: BATCH_CODES.get, key, fields: {}, valueBytes: 0 })),
  ]),
}
const JSON_TEXT: LoadRequest = {
  method: 'POST',
  path: `${BUCKET_PATH}:batch`,
  headers: { 'content-type': 'application/json' },
  body: Buffer.from(JSON.stringify({ operations: KEYS_ASKED.map((key) => ({ op: 'get', key })) })),
}

export const kvBatch: Benchmark = {
  name: 'kv-batch',
  rounds: 3,
  async run(context) {
    const gateway = await kvGateway(context)
    const client = kvClient(gateway)
    await fillBucket(client, { count: KEYS, bytes: VALUE_BYTES, key: numbered })
    client.close()
    const keysPerSecond = async (request: LoadRequest, connections: number): Promise<number> => {
      const { requests, seconds } = await context.load.run({
        origin: gateway.http,
        credentials: gateway.root,
        request: { ...request, authorization: basicOf(gateway.root) },
        keys: request === SINGLE ? KEYS : 1,
        connections,
        end: { warmupSeconds: 0.5, seconds: context.seconds },
      })
      return (requests * (request === SINGLE ? 1 : BATCH_KEYS)) / seconds
    }
    const measurements: Measurement[] = []
    for (const connections of CONNECTIONS) {
      const taken = await takeTurns(context.rounds, {
        single: () => keysPerSecond(SINGLE, connections),
        binary: () => keysPerSecond(BINARY, connections),
        json: () => keysPerSecond(JSON_TEXT, connections),
      })
      const row = { unit: 'keys/s', aim: '>= 10', durability: 'none' } as const
      measurements.push(
        { ...row, ...compare(taken.binary, taken.single), name: `kv-batch-binary-${connections}` },
        { ...row, ...compare(taken.json, taken.single), name: `kv-batch-json-${connections}`, aim: null },
      )
    }
    return measurements
  },
}
