/**
 * One fault under a steady load of writers: a gateway over an S3 server that is not ours, behind a proxy of the test's. Fair weather, the
 * fault, fair weather again until the gateway has caught up; then everything is brought to the remote store, the cache is emptied and every
 * key is read back.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Random } from '../../model/random.ts'
import type { ExternalS3 } from '../../support/external-s3.ts'
import { randomCredentials, startGateway, type GatewayProcess } from '../../support/gateway-process.ts'
import { BUCKET, Clients, MixedLoad, type LoadShape, type WriteOutcome } from '../load/mixed-load.ts'
import { Ledger } from '../load/ledger.ts'
import { readBack } from '../load/read-back.ts'
import { readBacklog } from '../remote/backlog.ts'
import { drainFlusher } from '../remote/flush-command.ts'
import { externalTarget } from '../remote/remote-target.ts'
import { WeatherProxy } from '../remote/weather-proxy.ts'
import type { FaultCase } from './cases.ts'

export interface FaultReport {
  readonly name: string
  readonly seconds: number
  /** Of writes at level `journal` that were accepted while the fault lasted. */
  readonly medianMs: number
  readonly p99Ms: number
  readonly accepted: number
  readonly refused: Readonly<Record<string, number>>
  /** Acknowledged at `persisted` while the fault lasted. */
  readonly persisted: number
  readonly backlogBytesMax: number
  readonly oldestMsMax: number
  /** From the end of the fault until writes are accepted and nothing waits longer than in fair weather. */
  readonly recoveredMs: number
  readonly compared: number
}

const KIB = 1024
const STEADY: LoadShape = {
  name: 'steady',
  clients: 6,
  keysOfClient: 40,
  sizes: [
    [1 * KIB, 4],
    [16 * KIB, 4],
    [64 * KIB, 4],
    [256 * KIB, 1],
    [1024 * KIB, 1],
  ],
  deleteShare: 0.05,
  multipartShare: 0,
  valueShare: 0.3,
  persistedShare: 0,
  pauseMs: 60,
}
/** Beside them, who wants to know it in the remote store. */
const WAITING: LoadShape = { ...STEADY, name: 'waiting', clients: 2, persistedShare: 1, deleteShare: 0 }
const FLAGS = Object.entries({
  '--segment-size': '8MiB',
  '--segment-age': '500ms',
  '--cache-memory': '64MiB',
  '--hash-workers': '1',
  '--admission-wait': '5s',
  '--buckets': BUCKET,
}).flat()
const DISK = 'size=192m'
const FAIR_MS = 3_000
const SAMPLE_MS = 250
/** Nothing waits longer than this in fair weather. */
const OLDEST_MS_USUAL = 5_000
const RECOVERY_MS_MAX = 180_000
const FORGIVEN: ReadonlySet<string> = new Set(['SlowDown', 'StorageFull', 'Unavailable', 'ServiceUnavailable'])

/** @throws BrokenPromise when anything is lost, Error when it does not recover */
export async function runFault(
  fault: FaultCase,
  server: ExternalS3,
  { seconds, seed }: { readonly seconds: number; readonly seed: number },
): Promise<FaultReport> {
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-fault-'))
  const random = new Random(seed)
  const proxy = new WeatherProxy(server.endpoint, random)
  await proxy.start()
  const disk = join(directory, 'disk')
  mkdirSync(disk)
  if (fault.ownDisk) execFileSync('mount', ['-t', 'tmpfs', '-o', DISK, 'tmpfs', disk], { stdio: 'pipe' })
  const data = join(disk, 'data')
  const root = randomCredentials()
  const target = externalTarget(server)
  const remoteFlags = target.flags(`faults/${seed}/${fault.name.replaceAll(/\W+/g, '-')}`, proxy.endpoint)
  const start = (): Promise<GatewayProcess> =>
    startGateway({
      data,
      root,
      logFile: join(directory, 'log'),
      flags: [...FLAGS, ...remoteFlags, ...(fault.flags ?? [])],
      environment: target.environment,
      ...(fault.program && { program: fault.program }),
    })
  const gateway = await start()
  const ledger = new Ledger()
  try {
    const world = { server, proxy, gateway, disk }
    const measured = await measure(new Load(gateway, ledger, random), {
      ms: seconds * 1000,
      strike: () => fault.strike(world),
    })
    await drainFlusher(gateway)
    const compared = await compare(gateway, ledger)
    await gateway.stop()
    rmSync(join(data, 'cache'), { recursive: true, force: true })
    const again = await start()
    try {
      return { name: fault.name, seconds, ...measured, compared: compared + (await compare(again, ledger)) }
    } finally {
      await again.kill()
    }
  } finally {
    await gateway.kill()
    await proxy.stop()
    if (fault.ownDisk) execFileSync('umount', [disk])
    rmSync(directory, { recursive: true, force: true })
  }
}

async function compare(gateway: GatewayProcess, ledger: Ledger): Promise<number> {
  const clients = new Clients(gateway)
  try {
    return await readBack(clients.s3, ledger, 'journal')
  } finally {
    clients.close()
  }
}

/** The writers, and what becomes of their writes. */
class Load {
  readonly gateway: GatewayProcess
  outcomes: WriteOutcome[] = []
  lastAcceptedMs = 0
  readonly #clients: Clients
  readonly #end = new AbortController()
  readonly #running: Promise<unknown>
  #failure: unknown

  constructor(gateway: GatewayProcess, ledger: Ledger, random: Random) {
    this.gateway = gateway
    this.#clients = new Clients(gateway)
    const options = {
      signal: this.#end.signal,
      forgives: (refusal: string) => FORGIVEN.has(refusal),
      onWrite: (outcome: WriteOutcome) => {
        this.outcomes.push(outcome)
        if (outcome.refusal === undefined) this.lastAcceptedMs = performance.now()
      },
    }
    const loads = [STEADY, WAITING].map((shape) => new MixedLoad(shape, { ledger, random }))
    this.#running = Promise.all(loads.map((load) => load.run(this.#clients, options))).catch((error: unknown) => {
      this.#failure = error
    })
  }

  /** @throws what the load failed with */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure as Error
  }

  async stop(): Promise<void> {
    this.#end.abort(new Error('the load ends'))
    await this.#running
    this.#clients.close()
    this.check()
  }
}

type Measured = Omit<FaultReport, 'name' | 'seconds' | 'compared'>

async function measure(
  load: Load,
  fault: { readonly ms: number; readonly strike: () => ReturnType<FaultCase['strike']> },
): Promise<Measured> {
  const most = { bytes: 0, oldestMs: 0 }
  const look = async (): Promise<number> => {
    await sleep(SAMPLE_MS)
    load.check()
    const { bytes, oldestMs } = await readBacklog(load.gateway)
    most.bytes = Math.max(most.bytes, bytes)
    most.oldestMs = Math.max(most.oldestMs, oldestMs)
    return oldestMs
  }
  const lookFor = async (ms: number): Promise<void> => {
    for (const endMs = performance.now() + ms; performance.now() < endMs;) await look()
  }
  await lookFor(FAIR_MS)
  Object.assign(most, { bytes: 0, oldestMs: 0 })
  load.outcomes = []
  const undo = await fault.strike()
  const outcomes: WriteOutcome[] = []
  try {
    await lookFor(fault.ms)
    outcomes.push(...load.outcomes)
  } finally {
    await undo()
  }
  const endedMs = performance.now()
  for (;;) {
    const oldestMs = await look()
    if (oldestMs < OLDEST_MS_USUAL && load.lastAcceptedMs > endedMs) break
    if (performance.now() - endedMs > RECOVERY_MS_MAX) throw new Error(`not recovered after ${RECOVERY_MS_MAX} ms`)
  }
  const recoveredMs = performance.now() - endedMs
  await load.stop()
  return { ...summary(outcomes), backlogBytesMax: most.bytes, oldestMsMax: most.oldestMs, recoveredMs }
}

function summary(
  outcomes: readonly WriteOutcome[],
): Pick<Measured, 'medianMs' | 'p99Ms' | 'accepted' | 'refused' | 'persisted'> {
  const accepted = outcomes.filter(({ refusal }) => refusal === undefined)
  const latencies = accepted
    .filter(({ level }) => level === 'journal')
    .map(({ ms }) => ms)
    .sort((one, other) => one - other)
  const at = (share: number): number =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? NaN
  const refused: Record<string, number> = {}
  for (const { refusal } of outcomes) if (refusal !== undefined) refused[refusal] = (refused[refusal] ?? 0) + 1
  const persisted = accepted.filter(({ level }) => level === 'persisted').length
  return { medianMs: at(0.5), p99Ms: at(0.99), accepted: accepted.length, refused, persisted }
}

export const REPORT_HEADINGS: readonly string[] = [
  'fault',
  'for',
  'p50 ms',
  'p99 ms',
  'accepted',
  'refused',
  'at persisted',
  'largest backlog',
  'oldest',
  'recovered after',
  'keys compared',
  'lost',
]

/** Cells under `REPORT_HEADINGS`. Nothing is lost where there is a report: it throws otherwise. */
export function reportCells(report: FaultReport): string[] {
  const refused = Object.entries(report.refused).map(([code, count]) => `${count} ${code}`)
  return [
    report.name,
    `${report.seconds} s`,
    report.medianMs.toFixed(1),
    report.p99Ms.toFixed(1),
    String(report.accepted),
    refused.join(', ') || '0',
    String(report.persisted),
    `${(report.backlogBytesMax / 2 ** 20).toFixed(1)} MiB`,
    `${(report.oldestMsMax / 1000).toFixed(1)} s`,
    `${(report.recoveredMs / 1000).toFixed(1)} s`,
    String(report.compared),
    '0',
  ]
}
