/**
 * Large files through the mount, by fio: reads of a file that the server has in memory, writes of a new one.
 *
 * Reads go past the kernel's page cache (direct=1), so that each asks the server; whether they did is looked up in what the server
 * has read and written in the meantime (/proc/PID/io). A local directory has no server: there the page cache is what "cached" means.
 * Writes go as programs send them. The mount has no writeback cache, so each is a request too.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Benchmark, BenchmarkContext, Measurement } from '../benchmark.ts'
import { needFio, runFio, type FioJob, type FioResult } from '../load/fio.ts'
import { rowsAgainst, takeTurnsOf, withMounts, type Mounted, type MountRow, type Mounts } from '../mounts.ts'
import { runProgram } from '../program.ts'

const MIB = 2 ** 20
const FILE_BYTES = 128 * MIB
/** For each second that a measurement should take, on a fast disk. */
const WRITTEN_BYTES_PER_SECOND = 64 * MIB
const BLOCK_BYTES = MIB
const PAGE_BYTES = 4096
/** How much of what was moved the server must have seen; heads of requests make it more. */
const SEEN_MIN = 0.95

interface ReadCase extends MountRow {
  readonly job: Pick<FioJob, 'pattern' | 'blockBytes' | 'jobs'>
  /** Once through the file by way of an empty page cache, with the kernel reading ahead; else past it, for as long as there is. */
  readonly buffered?: boolean
}

const READS: readonly ReadCase[] = [
  {
    name: 'mount-read-4k-1',
    unit: 'reads/s',
    aim: '>= 0.7',
    job: { pattern: 'randread', blockBytes: PAGE_BYTES, jobs: 1 },
  },
  {
    name: 'mount-read-4k-4',
    unit: 'reads/s',
    aim: '>= 0.7',
    job: { pattern: 'randread', blockBytes: PAGE_BYTES, jobs: 4 },
  },
  { name: 'mount-read-1m', unit: 'MiB/s', aim: '>= 0.7', job: { pattern: 'read', blockBytes: BLOCK_BYTES } },
  { name: 'mount-read-1m-ahead', unit: 'MiB/s', job: { pattern: 'read', blockBytes: BLOCK_BYTES }, buffered: true },
]

interface WriteCase extends MountRow {
  readonly sync: boolean
}

const WRITES: readonly WriteCase[] = [
  { name: 'mount-write-1m', unit: 'MiB/s', aim: '>= 0.7', durability: 'none', sync: false },
  { name: 'mount-write-1m-fsync', unit: 'MiB/s', durability: 'journal', othersDurability: 'disk', sync: true },
]

export const mountData: Benchmark = {
  name: 'mount-data',
  rounds: 3,
  run(context) {
    needFio()
    return withMounts(context, {}, async (mounts) => {
      for (const mounted of mounts.all) await writeReadFile(mounted)
      const measurements: Measurement[] = []
      for (const read of READS) measurements.push(...(await measureRead(context, mounts, read)))
      for (const write of WRITES) measurements.push(...(await measureWrite(context, mounts, write)))
      return measurements
    })
  },
}

function readFile({ directory }: Mounted): string {
  return join(directory, 'read')
}

/** And reads it once, so that it is where it is read from. */
async function writeReadFile(mounted: Mounted): Promise<void> {
  const job = { file: readFile(mounted), blockBytes: BLOCK_BYTES, fileBytes: FILE_BYTES }
  await runFio({ ...job, pattern: 'write', sync: true })
  await runFio({ ...job, pattern: 'read', direct: hasServer(mounted) })
}

function hasServer({ name }: Mounted): boolean {
  return name !== 'local'
}

async function measureRead(context: BenchmarkContext, mounts: Mounts, read: ReadCase): Promise<Measurement[]> {
  const taken = await takeTurnsOf(mounts, context.rounds, async (mounted) => {
    const job = { ...read.job, file: readFile(mounted), fileBytes: FILE_BYTES }
    const result =
      read.buffered === true
        ? await checked(mounted, { ...job, invalidate: hasServer(mounted) })
        : await checked(mounted, { ...job, direct: hasServer(mounted), seconds: context.seconds / 2 })
    return read.unit === 'reads/s' ? result.operationsPerSecond : result.bytesPerSecond / MIB
  })
  return rowsAgainst(read, taken)
}

/** A new file each time. */
async function measureWrite(context: BenchmarkContext, mounts: Mounts, write: WriteCase): Promise<Measurement[]> {
  const taken = await takeTurnsOf(mounts, context.rounds, async (mounted) => {
    const file = join(mounted.directory, 'written')
    await runProgram('rm', ['-f', file])
    const fileBytes = Math.ceil(context.seconds * WRITTEN_BYTES_PER_SECOND)
    const job = { file, pattern: 'write', blockBytes: BLOCK_BYTES, fileBytes, sync: write.sync } as const
    return (await checked(mounted, job)).bytesPerSecond / MIB
  })
  return rowsAgainst(write, taken)
}

/** @throws when the kernel answered what the server should have */
async function checked(mounted: Mounted, job: FioJob): Promise<FioResult> {
  const { pid } = mounted
  if (pid === undefined) return runFio(job)
  const field = job.pattern === 'write' ? 'rchar' : 'wchar'
  const before = movedBytes(pid, field)
  const result = await runFio(job)
  const seen = movedBytes(pid, field) - before
  if (seen >= result.bytes * SEEN_MIN) return result
  throw new Error(`the ${mounted.name} server saw ${seen} of ${result.bytes} bytes: the kernel's cache had the rest`)
}

/** Bytes that a process has read or written by system calls, whatever they went to: proc(5). */
function movedBytes(pid: number, field: 'rchar' | 'wchar'): number {
  const match = new RegExp(`^${field}: (\\d+)$`, 'm').exec(readFileSync(`/proc/${pid}/io`, 'utf8'))
  return Number(match?.[1] ?? Number.NaN)
}
