/**
 * The crash simulation: random clients on the real engine over twins that forget, a power cut at a random point, recovery, and
 * the recovered state held against what was acknowledged; then on from there, for several lives. All of it follows from
 * one seed.
 */
import { Random } from '../model/random.ts'
import { checkNamespace } from '../model/check-namespace.ts'
import { History, placeName, type Place } from './history.ts'
import { segmentObjectName } from '../../src/persist/remote/ports.ts'
import { Life, newMachine, type RemoteKind, type SabotageKind } from './life.ts'
import {
  BrokenPromise,
  dropUnsafeParts,
  makeBuckets,
  PLAIN_BUCKET,
  VERSIONED_BUCKET,
  Workload,
  type Memory,
} from './workload.ts'
import { newCounterMemory, PAIR } from './values-workload.ts'

export interface RunOptions {
  readonly seed: number
  /** Power cuts in this run. */
  readonly cuts: number
  readonly sabotage?: SabotageKind
  /** `local disk` unless told. */
  readonly remote?: RemoteKind
}

export interface RunResult {
  readonly cuts: number
  readonly removedMemory: number
  readonly counts: Readonly<Record<string, number>>
}

const KEYS = ['a', 'b', 'dir/a', 'dir/b', 'dir/sub/c', 'z']
const CALLS_AT_ONCE_MAX = 6
const STEPS_OF_A_LIFE_MAX = 240
const LATENCY_MS_MAX = 1
const TURNS_TO_DIE = 4
const BAD_LIVES_SHARE = 0.3
/** Of virtual time: for all names to leave. */
const NAMES_MS_MAX = 10_000

/** @throws BrokenPromise with the seed that repeats it */
export async function runSimulation(options: RunOptions): Promise<RunResult> {
  let cut = 0
  try {
    const run = new Run(options)
    for (; cut < options.cuts; cut++) await run.live()
    await run.settle()
    return { cuts: cut, removedMemory: run.removedMemory, counts: run.memory.counts }
  } catch (error) {
    const message = `seed ${options.seed}, after ${cut} cuts: ${(error as Error).message}`
    throw new BrokenPromise(message, { cause: error })
  }
}

class Run {
  readonly memory: Memory
  removedMemory = 0
  readonly #random: Random
  readonly #sabotage: SabotageKind | undefined
  #life: Life
  #workload: Workload
  #failure: unknown
  #hasBuckets = false

  constructor({ seed, sabotage, remote = 'local disk' }: RunOptions) {
    this.#random = new Random(seed)
    this.#sabotage = sabotage
    const places: Place[] = [PLAIN_BUCKET, VERSIONED_BUCKET].flatMap((bucket) => KEYS.map((key) => ({ bucket, key })))
    this.memory = {
      history: new History(places, PAIR),
      uploads: new Set(),
      valuesByEtag: new Map(),
      counts: {},
      counter: newCounterMemory(),
    }
    this.#life = new Life(newMachine(this.#random, sabotage, remote), this.#random)
    this.#workload = new Workload(this.#life, this.#random, this.memory)
  }

  /** One life: start, recover, check, work, and the power fails. */
  async live(): Promise<void> {
    await this.#start()
    const random = this.#random
    this.#life.fileSystem.latencyMsMax = LATENCY_MS_MAX
    const steps = random.below(STEPS_OF_A_LIFE_MAX)
    const calls = new Set<Promise<void>>()
    const weather = random.chance(BAD_LIVES_SHARE)
    for (let step = 0; step < steps; step++) {
      if (weather) this.#changeWeather()
      if (calls.size < CALLS_AT_ONCE_MAX && random.chance(0.5)) this.#launch(calls)
      await this.#life.scheduler.step()
      if (this.#failure) throw this.#failure as Error
    }
    const machine = this.#life.cut()
    this.#life = new Life(machine, random)
    this.#workload = new Workload(this.#life, random, this.memory)
    // Calls of the dead life go on as far as they need neither disk nor time; what they still enter is history too.
    for (let turn = 0; turn < TURNS_TO_DIE; turn++) await new Promise<void>((resolve) => setImmediate(resolve))
    for (const upload of this.memory.uploads) dropUnsafeParts(upload)
  }

  #launch(calls: Set<Promise<void>>): void {
    const workload = this.#workload
    const call = workload.act().catch((error: unknown) => {
      if (workload === this.#workload) this.#failure ??= error
    })
    calls.add(call)
    void call.finally(() => calls.delete(call))
  }

  #changeWeather(): void {
    const random = this.#random
    const { fileSystem, backend, remote } = this.#life
    if (!random.chance(0.03)) return
    this.#workload.badWeather = true
    if (remote) {
      remote.faults.down = random.chance(0.2)
      remote.faults.revoked = random.chance(0.1)
      remote.faults.chance = random.chance(0.3) ? 0.3 : 0
      if (random.chance(0.1)) remote.failNth('putFile', 1 + random.below(3), 'lost-acknowledgement')
    }
    fileSystem.faults.full = random.chance(0.3)
    fileSystem.faults.errorChance = random.chance(0.3) ? 0.05 : 0
    if (random.chance(0.3)) backend.fillUp()
    else if (random.chance(0.2)) backend.failCommits(() => Object.assign(new Error('EIO: commit'), { code: 'EIO' }))
    else backend.failCommits()
    if (random.chance(0.1)) fileSystem.faults.failNthSync = 1 + random.below(10)
    if (random.chance(0.1)) fileSystem.faults.failNthWrite = 1 + random.below(10)
  }

  #clearWeather(): void {
    Object.assign(this.#life.fileSystem.faults, { full: false, errorChance: 0, failNthSync: 0, failNthWrite: 0 })
    this.#life.backend.failCommits()
    if (this.#life.remote) Object.assign(this.#life.remote.faults, { down: false, revoked: false, chance: 0 })
  }

  async #start(options: { backups?: boolean } = {}): Promise<void> {
    await this.#life.start(this.#sabotage, options)
    for (const event of this.#life.events) {
      if (event.kind !== 'recovered') continue
      this.removedMemory += event.report.removedMemory
      const [lost] = event.report.lost
      if (lost) throw new BrokenPromise(`recovery reports ${placeName(lost)} as lost`)
    }
    const missing = this.#life.events.find(({ kind }) => kind === 'segment-missing')
    if (missing) throw new BrokenPromise(`the remote store lacks a segment: ${JSON.stringify(missing)}`)
    if (!this.#hasBuckets) await this.#until(makeBuckets(this.#life), 'making buckets')
    this.#hasBuckets = true
    await this.#until(this.#checkAll(), 'checking what was recovered')
  }

  /** Every key holds what it may hold, and nothing that was acknowledged is lost. */
  async #checkAll(): Promise<void> {
    const { history } = this.memory
    for (const place of history.places) {
      const { value, expiresMs } = await this.#workload.check(place, { holdMsMax: 0 })
      history.found(place, value, expiresMs)
    }
    await this.#workload.values.checkRecovered()
    await this.#workload.checkVersions()
    await checkNamespace(this.#life.engine.orderedStore)
  }

  /** The last life: uploads are finished, everything dropped is reclaimed, and no segment is left over. */
  async settle(): Promise<void> {
    await this.#start({ backups: false })
    this.#clearWeather()
    const { engine } = this.#life
    for (const upload of this.memory.uploads)
      await this.#until(this.#workload.finishUpload(upload), 'finishing an upload')
    await this.#until(engine.journal.drain(), 'draining the journal')
    await this.#until(engine.flusher.drain(), 'draining the flusher')
    await this.#until(this.#dropBackups(), 'dropping backups')
    await this.#until(this.#reclaimAll(), 'reclaiming everything')
    await this.#until(this.#checkAll(), 'checking what is left')
    await this.#until(this.#checkSegments(), 'checking the segments')
    const { bodies, readers, reservedSlots } = engine.store.activity()
    if (bodies + readers + reservedSlots + engine.memory.leases > 0)
      throw new BrokenPromise(`left over: ${JSON.stringify(engine.store.activity())}`)
    await this.#until(engine.drain(), 'draining')
    await this.#until(engine.stop(), 'stopping')
  }

  /** They hold what nothing else refers to. */
  async #dropBackups(): Promise<void> {
    const { names } = this.#life.engine
    await names?.round()
    for (const { id } of names?.backups.list() ?? []) await names?.dropBackup(id)
  }

  async #reclaimAll(): Promise<void> {
    const { reclaimer, namespace, journal, flusher, names, collector } = this.#life.engine
    const { clock } = this.#life.scheduler
    for (let round = 0, quiet = 0; quiet < 4; round++) {
      const before = reclaimer.removedSegments
      const more = await reclaimer.step()
      await reclaimer.removePersisted()
      await namespace.flush()
      await names?.drain(clock.monotonicMs() + NAMES_MS_MAX)
      await collector?.pass()
      const compacted = await reclaimer.compactSome()
      if (compacted) {
        await journal.drain()
        await flusher.drain()
      }
      quiet = more || compacted || reclaimer.removedSegments > before ? 0 : quiet + 1
      if (round > 1000) throw new BrokenPromise('reclaim never comes to rest')
    }
  }

  /** Every file or object is of a segment that something refers to, every such segment has one, and all of them are persisted. */
  async #checkSegments(): Promise<void> {
    const records = await this.#life.engine.namespace.segments(undefined, 10_000)
    const stored = this.#life.remote ? this.#remoteSegments() : this.#adoptedSegments()
    for (const { segment, state, liveBytes } of records) {
      if (liveBytes <= 0) throw new BrokenPromise(`segment ${segment} is ${state} and nothing refers to it`)
      if (state !== 'persisted') throw new BrokenPromise(`segment ${segment} is ${state} at the end`)
      const name = segmentObjectName(segment)
      if (!stored.delete(name.slice(name.lastIndexOf('/') + 1)))
        throw new BrokenPromise(`segment ${segment} is stored nowhere`)
    }
    for (const leaked of stored) throw new BrokenPromise(`file or object ${leaked} belongs to nothing`)
  }

  #adoptedSegments(): Set<string> {
    const files = new Set<string>()
    for (const path of this.#life.fileSystem.paths()) {
      const name = path.slice(path.lastIndexOf('/') + 1)
      if (files.has(name)) throw new BrokenPromise(`two files of ${name}`)
      files.add(name)
      if (!path.startsWith('/data/store/')) throw new BrokenPromise(`${path} was never adopted`)
    }
    return files
  }

  #remoteSegments(): Set<string> {
    for (const path of this.#life.fileSystem.paths()) {
      if (path.startsWith('/data/journal/'))
        throw new BrokenPromise(`${path} was persisted, and is still in the journal`)
    }
    const names = this.#life.remoteNames.filter((name) => name.startsWith('segments/'))
    return new Set(names.map((name) => name.slice(name.lastIndexOf('/') + 1)))
  }

  #until<T>(work: Promise<T>, what: string): Promise<T> {
    return this.#life.scheduler.until(work, what)
  }
}
