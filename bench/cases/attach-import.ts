/**
 * Importing a bucket that exists already, against listing all of it in pages of 1,000, one after the other, as every tool does that
 * knows nothing of it: by the AWS SDK, which does nothing else, and by `aws s3 ls --recursive`.
 */
import { readFileSync } from 'node:fs'
import { ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3'
import { importAll, LAYOUTS, withOutsideBucket, type Distance, type OutsideBucket } from '../attached-bucket.ts'
import { compare, type Benchmark, type BenchmarkContext, type Measurement } from '../benchmark.ts'
import { BUCKET } from '../gateway-probe.ts'
import { isInstalled, runProgram } from '../program.ts'

const DISTANCES = ['near', 'far'] as const satisfies Distance[]
/** Of `/proc/PID/stat`, on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100

export const attachImport: Benchmark = {
  name: 'attach-import',
  rounds: 1,
  async run(context) {
    const measurements: Measurement[] = []
    for (const layout of Object.keys(LAYOUTS) as (keyof typeof LAYOUTS)[]) {
      const rows = await withOutsideBucket(context, layout, (outside) => measureLayout(context, layout, outside))
      measurements.push(...rows)
    }
    return measurements
  },
}

async function measureLayout(
  context: BenchmarkContext,
  layout: string,
  outside: OutsideBucket,
): Promise<Measurement[]> {
  const rows: Measurement[] = []
  const hasTool = isInstalled('aws')
  if (!hasTool) context.note('there is no aws on this machine')
  const common = { unit: 'keys/s', aim: '>= 3', durability: 'journal' } as const
  for (const distance of DISTANCES) {
    const taken: Record<'imports' | 'lists' | 'tool' | 'cpu', number[]> = { imports: [], lists: [], tool: [], cpu: [] }
    for (let round = 0; round < context.rounds; round++) {
      const client = outside.client(distance)
      taken.lists.push(outside.objects / (await listAll(client, outside.objects)))
      client.destroy()
      if (hasTool) taken.tool.push(outside.objects / (await toolSeconds(outside, distance)))
      await outside.attached(distance, [], async (gateway) => {
        const before = cpuSeconds(gateway.pid)
        const { seconds, keys } = await importAll(gateway)
        if (keys !== outside.objects) throw new Error(`${keys} of ${outside.objects} objects were imported`)
        taken.imports.push(outside.objects / seconds)
        taken.cpu.push(((cpuSeconds(gateway.pid) - before) * 1e6) / keys)
      })
    }
    rows.push({ name: `attach-import-${layout}-${distance}`, ...compare(taken.imports, taken.lists), ...common })
    const cpu = compare(taken.cpu, taken.cpu).value
    context.note(
      `${layout}, ${distance}: the import cost ${cpu.toFixed(1)} ms of the gateway's CPU time per 1,000 objects`,
    )
    if (hasTool) {
      rows.push({ name: `attach-import-${layout}-${distance}-aws`, ...compare(taken.imports, taken.tool), ...common })
    }
  }
  return rows
}

/** @returns seconds */
async function listAll(client: S3Client, objects: number): Promise<number> {
  const startMs = performance.now()
  let found = 0
  for (let token: string | undefined; ;) {
    const page = await client.send(new ListObjectsV2Command({ Bucket: BUCKET, ContinuationToken: token }))
    found += page.Contents?.length ?? 0
    token = page.NextContinuationToken
    if (token === undefined) break
  }
  if (found !== objects) throw new Error(`${found} of ${objects} objects were listed`)
  return (performance.now() - startMs) / 1000
}

/** Its start counts for little against so many objects. */
async function toolSeconds({ server, objects, origins }: OutsideBucket, distance: Distance): Promise<number> {
  const { accessKey, secretKey } = server.root
  const settings = [`AWS_ACCESS_KEY_ID=${accessKey}`, `AWS_SECRET_ACCESS_KEY=${secretKey}`, 'AWS_REGION=us-east-1']
  const words = ['--endpoint-url', origins[distance], 's3', 'ls', '--recursive', `s3://${BUCKET}`]
  // Counted on the way: what it says is as long as the bucket.
  const counted = ['sh', '-c', '"$@" | wc -l', 'aws', 'aws', ...words]
  const { stdout, seconds } = await runProgram('env', ['-u', 'AWS_CA_BUNDLE', ...settings, ...counted])
  if (Number(stdout) !== objects) throw new Error(`aws listed ${stdout.trim()} of ${objects} objects`)
  return seconds
}

/** User's and system's, of all its threads. */
function cpuSeconds(pid: number): number {
  const [user, system] = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
    .slice(11, 13)
  return (Number(user) + Number(system)) / TICKS_PER_SECOND
}
