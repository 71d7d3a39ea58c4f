/**
 * Small files and names through the mount: loops of system calls in C (load/file-loop.c), the same for all, and `ls -l`. What they
 * cost by themselves shows in the rows against a local directory.
 *
 * `cold` is after the kernel has forgotten the names, so that each is asked of the server. Reads are opened past the page cache
 * where there is a server to ask; those of a local directory come from there.
 */
import { join } from 'node:path'
import type { Benchmark, BenchmarkContext, Measurement } from '../benchmark.ts'
import { fillBucket, kvClient, numbered } from '../kv-probe.ts'
import { buildFileLoop, rateOf, type FileLoop } from '../load/file-loop.ts'
import {
  forgetNames,
  makeLevelBucket,
  rowsAgainst,
  takeTurnsOf,
  withMounts,
  type Mounted,
  type Mounts,
  type Taken,
} from '../mounts.ts'
import { runProgram } from '../program.ts'

const FILES = 10_000
const FILE_BYTES = 4096
/** Names that are asked for again and again, few enough to have been asked for once before it counts. */
const WARM_FILES = 1000
const CREATES_MAX = 100_000

/** The bucket that all is measured in acknowledges at `journal`; there is one more for each other level. */
const LEVELS = ['memory', 'journal', 'persisted'] as const
type Level = (typeof LEVELS)[number]

interface Bench {
  readonly context: BenchmarkContext
  readonly mounts: Mounts
  readonly loop: FileLoop
}

export const mountFiles: Benchmark = {
  name: 'mount-files',
  rounds: 3,
  run(context) {
    const loop = buildFileLoop(context.directory)
    return withMounts(context, {}, async (mounts) => {
      const bench: Bench = { context, mounts, loop }
      await fill(bench)
      return [...(await measureNames(bench)), ...(await measureCreates(bench))]
    })
  },
}

function manyIn({ directory }: Mounted): string {
  return join(directory, 'many')
}

/** 10,000 files of 4 KiB each; those of the gateway by batches of its KV API, which is quicker. */
async function fill({ mounts, loop }: Bench): Promise<void> {
  for (const mounted of mounts.all) {
    if (mounted.name === 'gateway') continue
    await runProgram('mkdir', [manyIn(mounted)])
    await loop('fill', manyIn(mounted), FILES, FILE_BYTES)
  }
  const client = kvClient(mounts.gateway)
  await fillBucket(client, { count: FILES, bytes: FILE_BYTES, key: (index) => `many/${numbered(index)}` })
  client.close()
}

async function measureNames(bench: Bench): Promise<Measurement[]> {
  const { context, mounts, loop } = bench
  const turns = (measure: (mounted: Mounted) => Promise<number>): Promise<Taken> =>
    takeTurnsOf(mounts, context.rounds, measure)
  const seconds = context.seconds / 2
  const read = await turns(async (mounted) =>
    rateOf(await loop('read', manyIn(mounted), FILES, mounted.name === 'local' ? 0 : 1, seconds)),
  )
  const warm = await turns(async (mounted) => {
    await loop('pass', manyIn(mounted), WARM_FILES, seconds)
    return rateOf(await loop('stat', manyIn(mounted), WARM_FILES, seconds))
  })
  const list = async (mounted: Mounted): Promise<number> =>
    (await runProgram('ls', ['-l', manyIn(mounted)])).seconds * 1000
  const listed = await turns(list)
  const rows = [
    ...rowsAgainst({ name: 'mount-read-file-4k', unit: 'files/s' }, read),
    ...rowsAgainst({ name: 'mount-stat-warm', unit: 'stats/s' }, warm),
    ...rowsAgainst({ name: `mount-ls-${FILES}`, unit: 'ms' }, listed),
  ]
  if (!(await forgetNames())) {
    context.note('only root may make the kernel forget names: no rows with cold caches')
    return rows
  }
  const cold = await turns(async (mounted) => {
    await forgetNames()
    return rateOf(await loop('pass', manyIn(mounted), FILES, seconds))
  })
  const listedCold = await turns(async (mounted) => {
    await forgetNames()
    return list(mounted)
  })
  return [
    ...rows,
    ...rowsAgainst({ name: 'mount-stat-cold', unit: 'stats/s' }, cold),
    ...rowsAgainst({ name: `mount-ls-${FILES}-cold`, unit: 'ms' }, listedCold),
  ]
}

/** create, write 4 KiB, close, in a bucket of each level, without and with an fsync before the close; and taking them away. */
async function measureCreates(bench: Bench): Promise<Measurement[]> {
  const { context, mounts } = bench
  const measurements: Measurement[] = []
  for (const level of LEVELS) {
    const all = level === 'journal' ? mounts.all : await ofLevel(bench, level)
    const at = { ...bench, mounts: { ...mounts, all } }
    for (const mounted of all) await runProgram('mkdir', ['-p', join(mounted.directory, 'made')])
    const plain = await measureCreate(at, false)
    const synced = await measureCreate(at, true)
    measurements.push(
      ...rowsAgainst({ name: `mount-create-4k-${level}`, unit: 'files/s' }, plain.created),
      ...rowsAgainst(
        { name: `mount-create-4k-${level}-fsync`, unit: 'files/s', durability: level, othersDurability: 'disk' },
        synced.created,
      ),
    )
    if (level === 'journal') measurements.push(...rowsAgainst({ name: 'mount-unlink', unit: 'files/s' }, plain.removed))
  }
  context.note('what has been closed and not synced is in no mount sure to survive a crash, whatever its bucket says')
  return measurements
}

/** The gateway's bucket of that level, and what is compared with it: not what has no levels, which would be the same again. */
async function ofLevel({ context, mounts }: Bench, level: Level): Promise<Mounted[]> {
  await makeLevelBucket(context, mounts.gateway, { bucket: level, level })
  return mounts.all.flatMap((mounted) => {
    if (mounted.name === 'gateway') return [{ ...mounted, directory: join(mounts.gatewayRoot, level) }]
    return mounted.name === 'null' ? [mounted] : []
  })
}

async function measureCreate(
  { context, mounts, loop }: Bench,
  isSynced: boolean,
): Promise<{ created: Taken; removed: Taken }> {
  const removed: Taken = {}
  const created = await takeTurnsOf(mounts, context.rounds, async ({ name, directory }) => {
    const words = [join(directory, 'made'), CREATES_MAX, FILE_BYTES, isSynced ? 1 : 0, context.seconds / 2]
    const [create, unlink] = await loop('create', ...words)
    if (create === undefined || unlink === undefined) throw new Error('a loop said nothing')
    ;(removed[name] ??= []).push(rateOf([unlink]))
    return rateOf([create])
  })
  return { created, removed }
}
