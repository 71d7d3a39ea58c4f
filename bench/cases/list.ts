/**
 * Listings of 1,000 keys out of a million, against the same listing in a bucket of 1,000. Here the measure is time, so the
 * ratio is value / ceiling and less is better. Three buckets:
 *
 *     small   flat/0000000 ... a thousand objects, and narrow/0000000/x ... a thousand directories of one child each
 *     large   flat/0000000 ... a million objects in one directory
 *     narrow  0000000/x ...    a million directories of one child each
 */
import { median, type Benchmark, type BenchmarkContext, type Measurement } from '../benchmark.ts'
import { makeBucket, sendOnce } from '../gateway-probe.ts'
import type { GatewayProcess } from '../../test/support/gateway-process.ts'

const PAGE = 1000
const LISTS_A_ROUND = 20
const LOAD_CONNECTIONS = 64

interface Listing {
  readonly bucket: string
  readonly query: Readonly<Record<string, string>>
}

interface ListCase {
  readonly name: string
  readonly listing: Listing
  readonly against: Listing
  readonly aim: string
}

export const listBenchmark: Benchmark = {
  name: 'list',
  async run(context) {
    const gateway = await context.gateway()
    await loadBuckets(context, gateway)
    const measurements: Measurement[] = []
    for (const list of casesFor(context.objects)) measurements.push(await measureList(context, gateway, list))
    return measurements
  },
}

function casesFor(objects: number): ListCase[] {
  const number = (value: number): string => String(value).padStart(7, '0')
  const middle = number(Math.floor(objects / 2))
  const end = number(objects - PAGE - 1)
  const flat: Listing = { bucket: 'small', query: { prefix: 'flat/' } }
  const page = (bucket: string, after: string, further: Record<string, string> = {}): Listing => ({
    bucket,
    query: { prefix: 'flat/', ...(after === '' ? {} : { 'start-after': `flat/${after}` }), ...further },
  })
  const slash = { delimiter: '/' }
  const small = page('small', '', slash)
  return [
    { name: 'list-start', listing: page('large', ''), against: flat, aim: '<= 1.5' },
    { name: 'list-middle', listing: page('large', middle), against: flat, aim: '<= 1.5' },
    { name: 'list-end', listing: page('large', end), against: flat, aim: '<= 1.5' },
    { name: 'list-delimiter', listing: page('large', '', slash), against: small, aim: '<= 1.5' },
    { name: 'list-delimiter-end', listing: page('large', end, slash), against: small, aim: '<= 1.5' },
    {
      name: 'list-collapsed',
      listing: { bucket: 'large', query: slash },
      against: { bucket: 'small', query: slash },
      aim: '<= 1.5',
    },
    { name: 'list-narrow', listing: { bucket: 'narrow', query: {} }, against: flat, aim: '<= 5' },
    {
      name: 'list-narrow-middle',
      listing: { bucket: 'narrow', query: { 'start-after': `${middle}/x` } },
      against: flat,
      aim: '<= 5',
    },
    {
      name: 'list-narrow-delimiter',
      listing: { bucket: 'narrow', query: slash },
      against: { bucket: 'small', query: { prefix: 'narrow/', delimiter: '/' } },
      aim: '<= 1.5',
    },
  ]
}

async function loadBuckets(context: BenchmarkContext, gateway: GatewayProcess): Promise<void> {
  const fill = async (bucket: string, key: string, keys: number): Promise<void> => {
    const startMs = performance.now()
    // How the objects came there does not matter here, so they are written at the level that is quickest to load.
    const headers = { 'x-tidegate-ack': 'memory' }
    const request = { method: 'PUT', path: `/${bucket}/${key}`, bodyBytes: 16, headers } as const
    await sendOnce(context, gateway, request, { keys, connections: LOAD_CONNECTIONS })
    const seconds = (performance.now() - startMs) / 1000
    if (keys > PAGE) context.note(`loaded ${keys} objects into ${bucket} in ${seconds.toFixed(0)} s`)
  }
  for (const bucket of ['small', 'large', 'narrow']) await makeBucket(context, gateway, bucket)
  await fill('small', 'flat/#', PAGE)
  await fill('small', 'narrow/#/x', PAGE)
  await fill('large', 'flat/#', context.objects)
  await fill('narrow', '#/x', context.objects)
}

async function measureList(context: BenchmarkContext, gateway: GatewayProcess, list: ListCase): Promise<Measurement> {
  const medianMs = async ({ bucket, query }: Listing): Promise<number> => {
    const result = await context.load.run({
      origin: gateway.s3,
      credentials: gateway.root,
      request: { method: 'GET', path: `/${bucket}`, query: { 'list-type': '2', 'max-keys': String(PAGE), ...query } },
      keys: 1,
      connections: 1,
      end: { requests: LISTS_A_ROUND },
    })
    return result.latencyMs.median
  }
  const values: number[] = []
  const ceilings: number[] = []
  for (let round = 0; round < context.rounds; round++) {
    ceilings.push(await medianMs(list.against))
    values.push(await medianMs(list.listing))
  }
  const ratio = median(values.map((value, round) => value / (ceilings[round] ?? Number.NaN)))
  const [value, ceiling] = [median(values), median(ceilings)]
  return { name: list.name, value, unit: 'ms', ceiling, ratio, aim: list.aim, durability: 'none' }
}
