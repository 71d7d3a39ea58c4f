/**
 * Looking into a bucket of very many objects that has just been attached, and of which nothing is known yet: the first page of a listing, the first
 * byte of a file two directories down through the mount, and `ls -lR` through it, twice.
 *
 * The first page that a process lists of any bucket is measured too (`cold`): most of its time goes into code that runs for the first time. For
 * the others store, gateway and client are set going alike, by all pages of another bucket.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { GetObjectCommand, ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3'
import { LAYOUTS, OTHER, setGoing, withOutsideBucket, type Distance, type OutsideBucket } from '../attached-bucket.ts'
import { compare, type Benchmark, type BenchmarkContext, type Measurement } from '../benchmark.ts'
import { whenEnding } from '../ending.ts'
import { BUCKET } from '../gateway-probe.ts'
import { unmount } from '../mounts.ts'
import { runProgram } from '../program.ts'
import { sdkClient } from '../../test/support/sdk-client.ts'

/** `ls -lR` asks for each directory in turn: of more than these, only so many of the uppermost ones. */
const LISTED_FILES_MAX = 100_000
const DISTANCES = ['near', 'far'] as const satisfies Distance[]

export const attachLook: Benchmark = {
  name: 'attach-look',
  rounds: 3,
  run: (context) =>
    withOutsideBucket(context, 'tree', async (outside) => {
      const rows: Measurement[] = []
      for (const distance of DISTANCES) rows.push(...(await measureAt(context, outside, distance)))
      return rows
    }),
}

type Taken = Record<
  'cold' | 'coldDirect' | 'page' | 'pageDirect' | 'byte' | 'byteDirect' | 'first' | 'second',
  number[]
>

async function measureAt(
  context: BenchmarkContext,
  outside: OutsideBucket,
  distance: Distance,
): Promise<Measurement[]> {
  const taken: Taken = {
    cold: [],
    coldDirect: [],
    page: [],
    pageDirect: [],
    byte: [],
    byteDirect: [],
    first: [],
    second: [],
  }
  const mountPoint = join(context.directory, `mount-${distance}`)
  mkdirSync(mountPoint)
  const done = whenEnding(() => unmount(mountPoint))
  try {
    for (let round = 0; round < context.rounds; round++) {
      await outside.attached(distance, ['--mount', mountPoint], async (gateway) => {
        const [direct, through] = [outside.client(distance), sdkClient(gateway)]
        // The connection is there, and the SDK's code has run once.
        await direct.send(new ListObjectsV2Command({ Bucket: BUCKET, MaxKeys: 1, Prefix: 'nothing' }))
        await through.send(new ListObjectsV2Command({ Bucket: BUCKET, MaxKeys: 1, Prefix: 'nothing' }))
        taken.coldDirect.push(await pageMs(direct, OTHER))
        taken.cold.push(await pageMs(through, OTHER))
        for (const client of [direct, through]) await setGoing(client)
        taken.pageDirect.push(await pageMs(direct, BUCKET))
        taken.page.push(await pageMs(through, BUCKET))
        const deep = LAYOUTS.tree(outside.objects - 1, outside.objects)
        taken.byteDirect.push(await byteMs(direct, deep))
        taken.byte.push((await runProgram('head', ['-c', '1', join(mountPoint, BUCKET, deep)])).seconds * 1000)
        taken.first.push(await listMs(mountPoint, outside.objects))
        taken.second.push(await listMs(mountPoint, outside.objects))
        direct.destroy()
        through.destroy()
      })
    }
  } finally {
    unmount(mountPoint)
    done()
  }
  const files = Math.min(outside.objects, LISTED_FILES_MAX)
  const common = { unit: 'ms', durability: 'none' } as const
  return [
    { name: `attach-first-page-${distance}`, ...compare(taken.page, taken.pageDirect), aim: '<= 2', ...common },
    { name: `attach-first-page-cold-${distance}`, ...compare(taken.cold, taken.coldDirect), aim: null, ...common },
    { name: `attach-first-byte-${distance}`, ...compare(taken.byte, taken.byteDirect), aim: null, ...common },
    { name: `attach-ls-${files}-${distance}`, ...compare(taken.second, taken.first), aim: '<= 0.1', ...common },
  ]
}

async function pageMs(client: S3Client, bucket: string): Promise<number> {
  const startMs = performance.now()
  const { KeyCount } = await client.send(new ListObjectsV2Command({ Bucket: bucket }))
  if (KeyCount !== 1000) throw new Error(`a page of ${KeyCount} keys`)
  return performance.now() - startMs
}

async function byteMs(client: S3Client, key: string): Promise<number> {
  const startMs = performance.now()
  const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key, Range: 'bytes=0-0' }))
  await Body?.transformToByteArray()
  return performance.now() - startMs
}

async function listMs(mountPoint: string, objects: number): Promise<number> {
  const bucket = join(mountPoint, BUCKET)
  const each = Math.round(Math.cbrt(objects))
  const uppermost = Math.max(1, Math.floor(LISTED_FILES_MAX / each ** 2))
  const places =
    objects <= LISTED_FILES_MAX
      ? [bucket]
      : Array.from({ length: uppermost }, (_, index) => join(bucket, String(index).padStart(4, '0')))
  // Counted on the way: what it says is as long as the tree.
  const { stdout, seconds } = await runProgram('sh', ['-c', 'ls -lR "$@" | grep -c "[.]dat$"', 'ls', ...places])
  const wanted = objects <= LISTED_FILES_MAX ? objects : uppermost * each ** 2
  if (Number(stdout) !== wanted) throw new Error(`ls -lR showed ${stdout.trim()} of ${wanted} files`)
  return seconds * 1000
}
