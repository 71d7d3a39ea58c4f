/**
 * `kill -9` of a gateway whose remote store is an S3, at each named point of the path (points.ts) and at random moments, under load. One
 * data directory and one remote store live through all the rounds, so later crashes meet what earlier ones left.
 *
 * A round: start, read everything back, write until the process is dead. An inspection, from time to time: let the gateway bring
 * everything to the remote store, end it, empty its cache and read everything back from there; then look from outside whether anything in
 * the remote store is lost, orphaned or there twice (remote/audit.ts).
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setTimeout as sleep } from 'node:timers/promises'
import { Random } from '../../model/random.ts'
import { randomCredentials, startGateway, type GatewayProcess } from '../../support/gateway-process.ts'
import { Clients, MIXED_LOAD, MixedLoad, BUCKET } from '../load/mixed-load.ts'
import { BrokenPromise, Ledger } from '../load/ledger.ts'
import { readBack } from '../load/read-back.ts'
import { auditRemote, expectClean, listRemote } from '../remote/audit.ts'
import { drainFlusher } from '../remote/flush-command.ts'
import type { RemoteTarget } from '../remote/remote-target.ts'
import type { CrashPoint } from './points.ts'

export interface CrashOptions {
  readonly seed: number
  /** Scratch files: data directory, log. */
  readonly directory: string
  readonly remote: RemoteTarget
  readonly points: readonly CrashPoint[]
  readonly roundsOfPoint: number
  readonly randomRounds: number
  /** Rounds between two inspections; there is one at the end in any case. */
  readonly roundsOfInspection: number
  readonly onRound?: (round: CrashRound) => void
}

export interface CrashRound {
  readonly name: string
  readonly ended: 'at the point' | 'while starting' | 'by a kill from outside'
  readonly acknowledged: number
  readonly compared: number
}

export interface CrashTotals {
  rounds: number
  acknowledged: number
  compared: number
  inspections: number
  remoteSegments: number
  /** How often the process ended at each point. */
  readonly reached: Map<CrashPoint, number>
}

const PROGRAM = fileURLToPath(new URL('crash-process.ts', import.meta.url))
const PREFIX = 'crash/matrix'
/** Small segments that are sealed soon, little room for cache: all of the path falls into a round. */
const FLAGS = Object.entries({
  '--segment-size': '8MiB',
  '--segment-age': '100ms',
  '--cache-memory': '64MiB',
  '--hash-workers': '1',
  '--buckets': BUCKET,
}).flat()
/** A point is passed for the n-th time, n up to this. */
const PASSAGE_MAX = 6
const POINT_MS_MAX = 12_000
const LOAD_MS_MIN = 200
/** From the first broken connection until the end of the process is known here. */
const DYING_MS_MAX = 1_000
const LOAD_MS_MAX = 2_000
/** Until the collector has removed what belongs to nothing. */
const COLLECT_MS_MAX = 60_000
const COLLECT_POLL_MS = 500

export async function runCrashRounds(options: CrashOptions): Promise<CrashTotals> {
  const run = new CrashRun(options)
  const rounds = [
    ...options.points.flatMap((point) => Array.from({ length: options.roundsOfPoint }, () => point)),
    ...Array.from({ length: options.randomRounds }, () => undefined),
  ]
  await run.prepare()
  for (const [index, point] of rounds.entries()) {
    await run.round(point)
    if ((index + 1) % options.roundsOfInspection === 0) await run.inspect()
  }
  await run.inspect()
  return run.totals
}

class CrashRun {
  readonly totals: CrashTotals = {
    rounds: 0,
    acknowledged: 0,
    compared: 0,
    inspections: 0,
    remoteSegments: 0,
    reached: new Map(),
  }
  readonly #options: CrashOptions
  readonly #data: string
  readonly #root = randomCredentials()
  readonly #random: Random
  readonly #ledger = new Ledger()

  constructor(options: CrashOptions) {
    this.#options = options
    this.#data = join(options.directory, 'data')
    this.#random = new Random(options.seed)
  }

  #start(point: CrashPoint | 'none' = 'none', nth = 0): Promise<GatewayProcess> {
    const { remote, directory } = this.#options
    return startGateway({
      data: this.#data,
      root: this.#root,
      flags: [...FLAGS, ...remote.flags(PREFIX)],
      environment: remote.environment,
      logFile: join(directory, 'log'),
      program: [process.execPath, PROGRAM, point, String(nth)],
    })
  }

  /** The data directory and its claim on the remote store: crashes begin afterwards. */
  async prepare(): Promise<void> {
    const gateway = await this.#start()
    await gateway.stop()
  }

  /** Without a point the process is killed at a random moment. */
  async round(point: CrashPoint | undefined): Promise<void> {
    const name = point ?? 'random moment'
    const before = this.#ledger.acknowledged
    const nth = 1 + this.#random.below(PASSAGE_MAX)
    const gateway = await this.#start(point, nth).catch((error: unknown) => {
      // It may pass the point while it recovers.
      if (point && /ended with code null/.test((error as Error).message)) return undefined
      throw error
    })
    const ended = gateway
      ? await this.#liveUntilDead(gateway, point)
      : { ended: 'while starting' as const, compared: 0 }
    if (point && ended.ended !== 'by a kill from outside') {
      this.totals.reached.set(point, (this.totals.reached.get(point) ?? 0) + 1)
    }
    const acknowledged = this.#ledger.acknowledged - before
    this.totals.rounds++
    this.totals.acknowledged += acknowledged
    this.totals.compared += ended.compared
    this.#options.onRound?.({ name, acknowledged, ...ended })
  }

  async #liveUntilDead(
    gateway: GatewayProcess,
    point: CrashPoint | undefined,
  ): Promise<Pick<CrashRound, 'ended' | 'compared'>> {
    const clients = new Clients(gateway)
    const { child } = gateway
    const dead = new AbortController()
    child.once('exit', () => dead.abort(new Error('the gateway has ended')))
    if (child.signalCode !== null) dead.abort(new Error('the gateway has ended'))
    const loadMs = point ? POINT_MS_MAX : LOAD_MS_MIN + this.#random.below(LOAD_MS_MAX - LOAD_MS_MIN)
    let compared = 0
    try {
      compared = await readBack(clients.s3, this.#ledger, 'journal').catch(async (error: unknown) => {
        if (await diesWithin(gateway, DYING_MS_MAX)) return 0
        throw error
      })
      const patience = new AbortController()
      const tooLong = setTimeout(() => patience.abort(new Error('killed from outside')), loadMs)
      const load = new MixedLoad(MIXED_LOAD, { ledger: this.#ledger, random: this.#random })
      const signal = AbortSignal.any([dead.signal, patience.signal])
      const killing = onceAborted(patience.signal).then(() => gateway.kill())
      await load.run(clients, { signal }).catch(async (error: unknown) => {
        // The connections may break before the end of the process is known here.
        if (!(await diesWithin(gateway, DYING_MS_MAX))) throw error
      })
      clearTimeout(tooLong)
      if (patience.signal.aborted) await killing
      return { ended: patience.signal.aborted ? 'by a kill from outside' : 'at the point', compared }
    } catch (error) {
      // It may end by SIGKILL alone.
      if (child.exitCode === null) throw error
      throw new BrokenPromise(`the gateway has ended by itself with code ${child.exitCode}`, { cause: error })
    } finally {
      await gateway.kill()
      clients.close()
    }
  }

  async inspect(): Promise<void> {
    const { remote } = this.#options
    const first = await this.#start()
    try {
      this.totals.compared += await this.#compare(first)
      await drainFlusher(first)
      await this.#untilCollected()
      await expectStop(first)
    } finally {
      await first.kill()
    }
    rmSync(join(this.#data, 'cache'), { recursive: true, force: true })
    const result = await auditRemote(remote, PREFIX, this.#data)
    expectClean(result)
    this.totals.remoteSegments = result.segments
    const second = await this.#start()
    try {
      this.totals.compared += await this.#compare(second)
      await expectStop(second)
    } finally {
      await second.kill()
    }
    this.totals.inspections++
  }

  async #compare(gateway: GatewayProcess): Promise<number> {
    const clients = new Clients(gateway)
    try {
      return await readBack(clients.s3, this.#ledger, 'journal')
    } finally {
      clients.close()
    }
  }

  /** The collector works by itself; it has done so when two listings in a row are the same and nothing is unfinished. */
  async #untilCollected(): Promise<void> {
    const { remote } = this.#options
    const deadlineMs = Date.now() + COLLECT_MS_MAX
    let before = ''
    for (;;) {
      const { objects, unfinishedUploads } = await listRemote(remote, PREFIX)
      const now = [...objects.keys()].filter((name) => name.startsWith('segments/')).join()
      if (now === before && unfinishedUploads.length === 0) return
      if (Date.now() > deadlineMs) return
      before = now
      await sleep(COLLECT_POLL_MS)
    }
  }
}

async function expectStop(gateway: GatewayProcess): Promise<void> {
  const code = await gateway.stop()
  if (code !== 0) throw new BrokenPromise(`the gateway ended with code ${code} after SIGTERM`)
}

function onceAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

async function diesWithin({ child }: GatewayProcess, ms: number): Promise<boolean> {
  for (const deadlineMs = Date.now() + ms; Date.now() < deadlineMs; await sleep(10)) {
    if (child.signalCode !== null) return true
  }
  return false
}
