/** Reads and writes of large files by fio: synchronous calls, one in flight in each of its jobs. */
import { isInstalled, runProgram } from '../program.ts'

export interface FioJob {
  readonly file: string
  readonly pattern: 'read' | 'write' | 'randread'
  readonly blockBytes: number
  readonly fileBytes: number
  /** Threads that do the same to the same file; 1 unless told. */
  readonly jobs?: number
  /** Past the kernel's page cache. */
  readonly direct?: boolean
  /** What the page cache holds of the file is dropped first. */
  readonly invalidate?: boolean
  /** An fsync after the last write, within the time that counts. */
  readonly sync?: boolean
  /** For how long, over and over; once through the file if it is left out. */
  readonly seconds?: number
}

export interface FioResult {
  readonly operationsPerSecond: number
  readonly bytesPerSecond: number
  readonly bytes: number
}

interface FioSide {
  readonly io_bytes: number
  readonly bw_bytes: number
  readonly iops: number
}

/** @throws when there is no fio */
export function needFio(): void {
  if (!isInstalled('fio')) throw new Error('reads and writes are measured by fio, which is not here (apt install fio)')
}

export async function runFio(job: FioJob): Promise<FioResult> {
  const flag = (value: boolean | undefined): number => (value === true ? 1 : 0)
  const { stdout } = await runProgram('fio', [
    '--name=bench',
    // Of one process, so that it can be ended as one.
    '--thread',
    '--ioengine=psync',
    '--group_reporting',
    '--output-format=json',
    '--fallocate=none',
    '--randrepeat=1',
    '--norandommap',
    `--filename=${job.file}`,
    `--rw=${job.pattern}`,
    `--bs=${job.blockBytes}`,
    `--size=${job.fileBytes}`,
    `--numjobs=${job.jobs ?? 1}`,
    `--direct=${flag(job.direct)}`,
    `--invalidate=${flag(job.invalidate)}`,
    `--end_fsync=${flag(job.sync)}`,
    ...(job.seconds === undefined ? [] : ['--time_based', `--runtime=${Math.round(job.seconds * 1000)}ms`]),
  ])
  // A warning may stand before it.
  const report = JSON.parse(stdout.slice(stdout.indexOf('{'))) as {
    jobs: { error: number; read: FioSide; write: FioSide }[]
  }
  const [all] = report.jobs
  if (all === undefined || all.error !== 0) throw new Error(`fio ended with error ${all?.error} on ${job.file}`)
  const side = job.pattern === 'write' ? all.write : all.read
  return { operationsPerSecond: side.iops, bytesPerSecond: side.bw_bytes, bytes: side.io_bytes }
}
