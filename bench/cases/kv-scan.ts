/**
 * Scan of 100,000 keys in one request, against a bare server that streams the same answer from memory. The ceiling has nothing to
 * look up and nothing to encode, so it says how much of the time is not HTTP.
 */
import { compare, takeTurns, type Benchmark, type Measurement } from '../benchmark.ts'
import { basicOf, BUCKET_PATH, fillBucket, kvClient, kvGateway, numbered } from '../kv-probe.ts'

const KEYS = 100_000
const VALUE_BYTES = 100
const SCANS_A_ROUND = 3

const FORMS = [
  { name: 'kv-scan-keys', query: { keys: 'true' } },
  { name: 'kv-scan-entries', query: {} },
  { name: 'kv-scan-values', query: { values: 'true' } },
] as const satisfies readonly { name: string; query: Readonly<Record<string, string>> }[]

export const kvScan: Benchmark = {
  name: 'kv-scan',
  rounds: 3,
  async run(context) {
    const gateway = await kvGateway(context)
    const authorization = basicOf(gateway.root)
    const client = kvClient(gateway)
    await fillBucket(client, { count: KEYS, bytes: VALUE_BYTES, key: (index) => `some/where/${numbered(index)}` })
    client.close()
    const keysPerSecond = async (origin: string, path: string, query: Record<string, string>): Promise<number> => {
      const { seconds } = await context.load.run({
        origin,
        credentials: gateway.root,
        request: { method: 'GET', path, query, authorization },
        keys: 1,
        connections: 1,
        end: { requests: SCANS_A_ROUND },
      })
      return (KEYS * SCANS_A_ROUND) / seconds
    }
    const measurements: Measurement[] = []
    for (const { name, query } of FORMS) {
      const asked = { ...query, limit: String(KEYS) }
      const answer = await fetch(`${gateway.http}${BUCKET_PATH}?${new URLSearchParams(asked).toString()}`, {
        headers: { authorization },
      })
      const text = await answer.text()
      expectWhole(text)
      const kept = `/kept/${name}`
      await fetch(`${context.bare.origin}${kept}`, { method: 'PUT', body: text })
      const taken = await takeTurns(context.rounds, {
        bare: () => keysPerSecond(context.bare.origin, kept, {}),
        gateway: () => keysPerSecond(gateway.http, BUCKET_PATH, asked),
      })
      const row = { name, unit: 'keys/s', aim: null, durability: 'none' } as const
      measurements.push({ ...row, ...compare(taken.gateway, taken.bare) })
    }
    return measurements
  },
}

function expectWhole(text: string): void {
  const keys = text.match(/^\{"key":/gm)?.length ?? 0
  if (keys !== KEYS) throw new Error(`a scan of ${KEYS} keys answered ${keys}, and at its end ${text.slice(-300)}`)
}
