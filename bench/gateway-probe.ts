/** What benchmarks ask of a gateway beside the requests that they measure. */
import { readFileSync } from 'node:fs'
import type { BenchmarkContext } from './benchmark.ts'
import type { LoadRequest } from './load/job.ts'
import type { GatewayProcess } from '../test/support/gateway-process.ts'

export const BUCKET = 'bench'

/** Sends a request with each number of `keys` once. */
export async function sendOnce(
  context: BenchmarkContext,
  gateway: GatewayProcess,
  request: LoadRequest,
  options: { keys?: number; connections?: number } = {},
): Promise<void> {
  const keys = options.keys ?? 1
  await context.load.run({
    origin: gateway.s3,
    credentials: gateway.root,
    request,
    keys,
    connections: Math.min(keys, options.connections ?? 1),
    end: { requests: keys },
  })
}

export async function makeBucket(context: BenchmarkContext, gateway: GatewayProcess, bucket = BUCKET): Promise<void> {
  await sendOnce(context, gateway, { method: 'PUT', path: `/${bucket}` })
}

/** Syncs to disk so far, of journal and metadata together, as the gateway counts them. */
export async function syncsSoFar(gateway: GatewayProcess): Promise<number> {
  return sumOfCounters(gateway, /^tidegate_\w*?(?:syncs|group_commits)\w*_total$/)
}

/** The same as the disk sees it: a group commit syncs LMDB's pages, and then writes its meta page synchronously. */
export async function deviceSyncsSoFar(gateway: GatewayProcess): Promise<number> {
  return (await syncsSoFar(gateway)) + (await sumOfCounters(gateway, /^tidegate_\w*?group_commits\w*_total$/))
}

async function sumOfCounters(gateway: GatewayProcess, name: RegExp): Promise<number> {
  const response = await fetch(`${gateway.http}/metrics`)
  if (!response.ok) throw new Error(`/metrics answered ${response.status}`)
  let sum = 0
  for (const line of (await response.text()).split('\n')) {
    const match = /^(\w+)(?:\{[^}]*\})? (\S+)/.exec(line)
    if (match !== null && name.test(match[1] ?? '')) sum += Number(match[2])
  }
  return sum
}

/** Memory of a process that is in RAM, in MiB. Shared memory counts as far as it has been touched. */
export function residentMiB(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(match?.[1] ?? Number.NaN) / 1024
}
