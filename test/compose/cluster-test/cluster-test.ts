/**
 * The cluster of the compose files under mixed load, while one fault after the other befalls it. After each, once it is healed and nobody writes, everything
 * that was acknowledged is read from every node. The first row is what clients see while nothing happens.
 *
 * The same seed gives the same faults on the same nodes and the same operations of each client; how these interleave is the machine's doing.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { must } from '../../../src/common/assert.ts'
import { ReplicatedLoad } from '../../cluster/node-loss/replicated-load.ts'
import { Random } from '../../model/random.ts'
import { BUCKET } from '../../support/three-gateways.ts'
import { Ledger } from '../../write-behind/load/ledger.ts'
import type { Engine } from '../engine/engine.ts'
import { FAULT_NAMES, faultNamed, type FaultName } from '../faults/catalogue.ts'
import type { Fault } from '../faults/fault.ts'
import { compareAll, shown } from './comparison.ts'
import { FaultyProject } from './faulty-project.ts'
import { Histories, SKEWED, type HistoryResult } from './histories.ts'
import { MountLoad } from './mount-load.ts'
import { Probes, type ProbeCounts } from './probes.ts'
import { countViolations, sum, type ClusterTestResult, type FaultRow, type Violations } from './report.ts'

export interface ClusterTestOptions {
  readonly seed: number
  /** By default all, or, if it is to be short, a few that stand for them. */
  readonly faults?: readonly FaultName[] | undefined
  /** How often all of them befall it. */
  readonly rounds?: number
  readonly short?: boolean
  readonly image?: string | undefined
  readonly onStep?: (step: string) => void
}

const SHORT_FAULTS: readonly FaultName[] = ['node killed', 'etcd killed', 'node hears nobody', 'rolling restart']
const NOTHING = 'nothing'
/** Leases of nodes last 10 s: some faults are over before, some are not. */
const LASTS_MS: Readonly<Record<FaultName | typeof NOTHING, readonly [short: number, long: number]>> = {
  [NOTHING]: [5_000, 10_000],
  'node killed': [4_000, 20_000],
  'etcd killed': [2_000, 5_000],
  'leader etcd killed': [2_000, 5_000],
  'node paused': [5_000, 25_000],
  'etcd paused': [6_000, 15_000],
  'node cut off': [8_000, 25_000],
  'node hears nobody': [8_000, 20_000],
  'node heard by nobody': [8_000, 20_000],
  'two nodes cut from each other': [8_000, 20_000],
  'one node does not hear another': [8_000, 20_000],
  'node cut from the store': [8_000, 15_000],
  'slow links': [8_000, 15_000],
  'disk full': [8_000, 15_000],
  'clock forward': [8_000, 15_000],
  'clock back': [8_000, 15_000],
  // It lasts as long as the restarts take.
  'rolling restart': [0, 0],
}
const BEFORE_MS = 2_000
const AFTER_MS = 2_000
/** A rolling restart begins and ends in this time. */
const FAULT_MS_MAX = 420_000
/** What is lost with a node is copied again in this time. */
const HEALED_MS_MAX = 180_000
const LOAD = { writers: 6, pauseMsMax: 250, refusals: [SKEWED] }

export async function runClusterTest(engine: Engine, options: ClusterTestOptions): Promise<ClusterTestResult> {
  const { seed, short = false, rounds = 1, onStep = () => undefined } = options
  const faults = options.faults ?? (short ? SHORT_FAULTS : FAULT_NAMES)
  const random = new Random(seed)
  const name = `cluster-test-${process.pid}`
  const project = await FaultyProject.up(engine, { name, random, faults, image: options.image })
  try {
    const test = new ClusterTest(project, { random, seed, short, onStep })
    onStep('the cluster is up')
    await test.befall(undefined)
    for (let round = 0; round < rounds; round++)
      for (const fault of faults) await test.befall(faultNamed(fault, project.faulty, random))
    const { result } = test
    if (countViolations(result) > 0) onStep(`logs are kept in ${await project.keepLogs()}`)
    return result
  } finally {
    await project.down()
  }
}

interface RunningOptions {
  readonly random: Random
  readonly seed: number
  readonly short: boolean
  readonly onStep: (step: string) => void
}

/** What happened while a fault came and went. */
interface Happened {
  readonly histories: HistoryResult
  readonly probes: ProbeCounts
  readonly lastedMs: number
  readonly healedMs: number
}

class ClusterTest {
  readonly #project: FaultyProject
  readonly #options: RunningOptions
  readonly #ledger = new Ledger()
  readonly #load: ReplicatedLoad
  readonly #mounts: MountLoad
  readonly #histories: Histories
  readonly #probes: Probes
  readonly #rows: FaultRow[] = []
  readonly #violations: Violations = { lost: [], stale: [], wrongListings: [], undecided: [], unexpected: [] }
  #readBack = 0
  #historyCount = 0

  constructor(project: FaultyProject, options: RunningOptions) {
    this.#project = project
    this.#options = options
    const { random, seed } = options
    const { containers: nodes, clients } = project
    this.#load = new ReplicatedLoad(project.targets(), { ledger: this.#ledger, random, ...LOAD })
    this.#mounts = new MountLoad({ nodes, bucket: BUCKET, ledger: this.#ledger, random })
    this.#histories = new Histories(project.nodes, seed)
    this.#probes = new Probes({ bucket: BUCKET, clients })
  }

  get result(): ClusterTestResult {
    const rows = this.#rows
    return {
      seed: this.#options.seed,
      rows,
      operations: sum(rows.map(({ operations }) => operations)),
      acknowledged: this.#ledger.acknowledged,
      readBack: this.#readBack,
      histories: this.#historyCount,
      errorsWithRetries: sum(rows.flatMap(({ probes }) => probes.errorsWithRetries)),
      ...this.#violations,
    }
  }

  async befall(fault: Fault | undefined): Promise<void> {
    const { onStep } = this.#options
    const [name, on] = [fault?.name ?? NOTHING, fault?.on ?? '-']
    const before = this.#operationsOfLoads()
    const happened = await this.#underLoad(name, fault)
    const { histories, probes, lastedMs, healedMs } = happened
    this.#historyCount += histories.rounds
    const operations = this.#operationsOfLoads() - before + histories.operations + histories.notDone + 2 * probes.probes
    this.#rows.push({ fault: name, on, there: this.#nodesIn(fault), operations, probes, lastedMs, healedMs })
    const reasons = [...probes.reasons].map(([reason, count]) => `${count} x ${reason}`)
    const troubles = [...this.#mounts.counts.troubles].map(([code, count]) => `${count} ${code}`)
    onStep(
      `${name} (${on}): ${operations} operations, ${histories.rounds} histories with ${histories.unknown} unknown outcomes, healed after ` +
        `${Math.round(healedMs)} ms, stalls ${probes.stallMs.map(Math.round).join(', ')} ms, in mounts so far ${troubles.join(', ') || 'no errors'}${reasons.length === 0 ? '' : `\n    ${reasons.join('\n    ')}`}`,
    )
    await this.#compare(name)
  }

  async #underLoad(name: string, fault: Fault | undefined): Promise<Happened> {
    const end = new AbortController()
    this.#load.start('load')
    const mounts = this.#mounts.run(end.signal)
    const histories = this.#histories.run(end.signal)
    const probes = this.#probes.run(`${this.#rows.length}`, end.signal)
    await sleep(BEFORE_MS)
    const begunMs = performance.now()
    await this.#expected(name, fault && within(FAULT_MS_MAX, fault.begin(), 'begin'))
    await sleep(this.#lastsMs(name))
    const endedMs = performance.now()
    await this.#expected(name, fault && within(FAULT_MS_MAX, fault.end(), 'end'))
    await this.#expected(name, this.#project.untilHealed(HEALED_MS_MAX))
    const healedMs = performance.now() - endedMs
    await sleep(AFTER_MS)
    end.abort()
    await this.#expected(name, this.#load.stop())
    this.#note(name, { stale: await mounts })
    const seen = await histories
    this.#note(name, seen)
    const probed = await probes
    this.#note(name, probed)
    return { histories: seen, probes: probed, lastedMs: endedMs - begunMs, healedMs }
  }

  async #compare(name: string): Promise<void> {
    const { containers, clients } = this.#project
    const nodes = containers.map((container, index) => ({ container, client: must(clients[index], 'a client') }))
    const compared = await compareAll(nodes, this.#ledger)
    this.#readBack += compared.compared
    this.#note(name, compared)
    this.#options.onStep(
      `  ${this.#ledger.keys.length} keys held against the ledger ${compared.compared} times, ${compared.listed} listed`,
    )
  }

  /** What fails is noted, and the test goes on. */
  async #expected(name: string, doing: Promise<unknown> | undefined): Promise<void> {
    await doing?.catch((error: unknown) => this.#note(name, { unexpected: [String(error)] }))
  }

  #note(name: string, found: { readonly [Kind in keyof Violations]?: readonly string[] }): void {
    for (const kind of Object.keys(this.#violations) as (keyof Violations)[]) {
      const all = found[kind] ?? []
      if (all.length === 0) continue
      this.#violations[kind].push(...all.map((what) => `${name}: ${what}`))
      this.#options.onStep(`  ${kind} (${name}, ${new Date().toISOString()}): ${all.length}\n    ${shown(all)}`)
    }
  }

  #operationsOfLoads(): number {
    const { acknowledged, refused, unknown } = this.#load.counts
    const mounts = this.#mounts.counts
    return acknowledged + refused + unknown + mounts.acknowledged + mounts.read + mounts.unknown
  }

  #lastsMs(name: string): number {
    const [short, long] = LASTS_MS[name as FaultName | typeof NOTHING]
    return this.#options.short ? short : this.#options.random.pick([short, long])
  }

  /** Whom it befalls, by index; all unless it says. */
  #nodesIn(fault: Fault | undefined): number[] {
    if (fault === undefined) return []
    const indexes = this.#project.containers.map((_, index) => index)
    const named = indexes.filter((index) =>
      fault.on.split(' ').includes(must(this.#project.containers[index], 'a node').service),
    )
    return named.length > 0 ? named : indexes
  }
}

async function within(ms: number, doing: Promise<void>, what: string): Promise<void> {
  const own = new AbortController()
  const late = sleep(ms, undefined, { signal: own.signal }).then(() => {
    throw new Error(`the fault does not ${what} within ${ms} ms`)
  })
  try {
    await Promise.race([doing, late])
  } finally {
    own.abort()
    late.catch(() => undefined)
  }
}
