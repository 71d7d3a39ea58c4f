/**
 * Listings of 1,000 keys out of a million, against the same listing in a bucket of 1,000. Here the measure is time, so the
 * ratio is value / ceiling and less is better. Three buckets:
 *
 *     small   flat/0000000 ... a thousand objects, and narrow/0000000/x ... a thousand directories of one child each
 *     large   flat/0000000 ... a million objects in one directory
 *     narrow  0000000/x ...    a million directories of one child each
 */
import { join } from 'node:path'
import { median, type Benchmark, type BenchmarkContext, type Measurement } from '../benchmark.ts'
import { publishObjects } from '../publish-objects.ts'
import { makeBucket } from '../gateway-probe.ts'
import type { GatewayProcess } from '../../test/support/gateway-process.ts'

const PAGE = 1000
const LISTS_A_ROUND = 20

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
    const gateway = await loadedGateway(context)
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

async function loadedGateway(context: BenchmarkContext): Promise<GatewayProcess> {
  const data = join(context.directory, 'data')
  const empty = await context.gateway(data)
  for (const bucket of ['small', 'large', 'narrow']) await makeBucket(context, empty, bucket)
  await empty.stop()
  const number = (value: number): string => String(value).padStart(7, '0')
  const startMs = performance.now()
  await publishObjects(data, [
    { bucket: 'small', key: (index) => `flat/${number(index)}`, count: PAGE },
    { bucket: 'small', key: (index) => `narrow/${number(index)}/x`, count: PAGE },
    { bucket: 'large', key: (index) => `flat/${number(index)}`, count: context.objects },
    { bucket: 'narrow', key: (index) => `${number(index)}/x`, count: context.objects },
  ])
  const seconds = (performance.now() - startMs) / 1000
  context.note(`published ${2 * (context.objects + PAGE)} objects in ${seconds.toFixed(0)} s`)
  return context.gateway(data)
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
