/**
 * Several nodes over one etcd, in virtual time, with faults: random transactions and reads on random nodes while answers are lost, requests come late, watches are cut or stand
 * still, history is compacted, and nodes stop, crash and are taken over. All of it follows from one seed.
 *
 * What took effect is known from etcd itself: every transaction that writes also puts a row of its own, which says which run of which function it was. So the check needs no search: the
 * runs in the order of their revisions, and those of one revision in the order in which they ran, saw what a model shows them (C1); reads saw the model at their revision; every
 * revision is greater than those that had been told when the call was made (C3, C5); what was told to be done was done, once, at that revision, and what was told to have failed was not,
 * unless the error says that it is not known (C6).
 */
import { isDeepStrictEqual } from 'node:util'
import { isTidegateError } from '../../src/common/errors.ts'
import type { ByteString, Revision } from '../../src/common/ids.ts'
import { MemoryBackend, MemoryDisk } from '../../src/meta/memory/memory-backend.ts'
import type { ReadView, Transaction } from '../../src/meta/ports.ts'
import { createEtcdStore } from '../../src/meta/raft/etcd-store.ts'
import type { EmbeddedStore } from '../../src/meta/stage/ports.ts'
import type { Random } from '../model/random.ts'
import { Scheduler } from '../sim/scheduler.ts'
import { FakeEtcd, type CallPlan, type FakeEtcdClient } from '../support/fake-etcd.ts'
import { bytes, key, rowTexts, text } from './ordered-store-rows.ts'
import { anyPlan, MANY, Model, writes, type Plan } from './replicated-plans.ts'

interface Execution {
  readonly plan: Plan
  readonly call: number
  readonly number: number
  readonly seen: unknown[]
}

interface Call {
  readonly plan: Plan
  readonly isRead: boolean
  /** Greatest revision that had been told when it was made. */
  readonly toldBefore: Revision
  outcome:
    | { readonly kind: 'done'; readonly execution: number; readonly revision: Revision }
    | { readonly kind: 'failed'; readonly error: unknown }
    | undefined
}

interface Node {
  readonly number: number
  client: FakeEtcdClient
  backend: MemoryBackend
  disk: MemoryDisk
  store: EmbeddedStore
  isStarting: boolean
}

const PREFIX = '/t/'
const ROWS = { start: key(''), end: key('\xff') }
/** A request may be carried out so long after its deadline, and another one then settles what became of it. */
const LATE_MS_MAX = 10_000
const VIRTUAL_MS_MAX = 600_000

export interface SimulationOptions {
  readonly nodes?: number
  readonly calls?: number
  readonly faults?: boolean
}

/** What happened, so that a test can see that something did. */
export interface SimulationResult {
  readonly committed: number
  readonly failed: number
  readonly unknown: number
  readonly runs: number
  readonly restarts: number
  readonly fenced: number
}

/** @throws an error that names what is wrong */
export async function simulateNodes(random: Random, options: SimulationOptions = {}): Promise<SimulationResult> {
  return new Simulation(random, options).run()
}

class Simulation {
  readonly #random: Random
  readonly #options: Required<SimulationOptions>
  readonly #scheduler = new Scheduler()
  readonly #etcd: FakeEtcd
  readonly #nodes: Node[] = []
  readonly #calls: Call[] = []
  readonly #pending: Promise<void>[] = []
  readonly #executions = new Map<number, Execution>()
  readonly #history = new Map<Revision, { key: ByteString; value: Uint8Array | undefined }[]>()
  #historyFrom = 2
  #told: Revision = 0
  #isCalm = false
  #restarts = 0
  #fenced = 0

  constructor(random: Random, { nodes = 2, calls = 60, faults = true }: SimulationOptions) {
    this.#random = random
    this.#options = { nodes, calls, faults }
    const { clock } = this.#scheduler
    const operationsMax = random.pick([32, 128, 512])
    this.#etcd = new FakeEtcd({ clock, callTimeoutMs: 200, limits: { operationsMax } })
    this.#etcd.planner = (): CallPlan => this.#planCall()
  }

  async run(): Promise<SimulationResult> {
    const { calls, nodes } = this.#options
    for (let number = 0; number < nodes; number++) {
      const disk = new MemoryDisk()
      this.#nodes.push(await this.#within(this.#startNode(number, disk), 'a start'))
    }
    for (let i = 0; i < calls; i++) {
      const node = this.#random.pick(this.#nodes)
      this.#pending.push(this.#call(node))
      if (this.#random.chance(0.4)) await this.#within(this.#scheduler.delay(this.#random.below(12)), 'a pause')
      if (this.#options.faults && this.#random.chance(0.08)) await this.#within(this.#disturb(node), 'a disturbance')
    }
    await this.#within(Promise.all(this.#pending), 'all calls')
    this.#isCalm = true
    await this.#within(this.#scheduler.delay(LATE_MS_MAX), 'what comes late')
    await this.#within(this.#checkReplicas(), 'the last look')
    this.#keepHistory()
    const result = this.#check()
    for (const { store, client } of this.#nodes) {
      await this.#within(store.stop(), 'a stop')
      await client.stop()
    }
    return result
  }

  #within<T>(work: Promise<T>, what: string): Promise<T> {
    return this.#scheduler.until(work, what, VIRTUAL_MS_MAX)
  }

  #planCall(): CallPlan {
    if (this.#isCalm || !this.#options.faults)
      return { beforeMs: this.#random.below(3), afterMs: this.#random.below(3) }
    const plan: CallPlan = { beforeMs: this.#random.below(6), afterMs: this.#random.below(6) }
    if (this.#random.chance(0.03)) return { ...plan, lost: this.#random.pick(['applied', 'never applied'] as const) }
    if (this.#random.chance(0.02)) return { beforeMs: 150 + this.#random.below(200) }
    if (this.#random.chance(0.02)) return { fails: 'unavailable' }
    if (this.#random.chance(0.005)) return { ...plan, answer: 'no space' }
    return plan
  }

  async #startNode(number: number, disk: MemoryDisk): Promise<Node> {
    for (;;) {
      const client = this.#etcd.client()
      await client.start()
      const sync = (): Promise<void> => this.#scheduler.delay(this.#random.below(8))
      const backend = new MemoryBackend({ disk, sync })
      const store = createEtcdStore({
        etcd: client,
        prefix: PREFIX,
        node: number,
        replica: backend,
        clock: this.#scheduler.clock,
        fillRandom: (into) => into.forEach((_, i) => (into[i] = this.#random.below(256))),
        beforeCommit: () => this.#scheduler.delay(this.#random.chance(0.3) ? this.#random.below(4) : 0),
        onFenced: () => this.#fenced++,
        readMsMax: 3000,
        transactMsMax: this.#random.pick([300, 3000]),
        replicaPauseMs: this.#random.below(30),
      })
      try {
        await store.start()
        return { number, client, backend, disk, store, isStarting: false }
      } catch (error) {
        if (!isTidegateError(error, 'Unavailable') && !isTidegateError(error, 'StorageFull')) throw error
      }
    }
  }

  async #disturb(node: Node): Promise<void> {
    switch (this.#random.below(7)) {
      case 0:
        this.#keepHistory()
        if (this.#etcd.store.compactRevision < this.#etcd.revision) this.#etcd.compact()
        return
      case 1:
        return node.client.failWatches(this.#random.pick(['unavailable', 'compacted'] as const))
      case 2:
        node.client.hold()
        void this.#scheduler.delay(this.#random.below(100)).then(() => node.client.release())
        return
      case 3:
        node.client.reachable = false
        void this.#scheduler.delay(this.#random.below(500)).then(() => (node.client.reachable = true))
        return
      case 4:
        this.#etcd.majority = false
        void this.#scheduler.delay(this.#random.below(500)).then(() => (this.#etcd.majority = true))
        return
      case 5:
        return this.#restart(node)
      default:
        return this.#takeOver(node)
    }
  }

  /** Stops it in order, or as a crash would. */
  async #restart(node: Node): Promise<void> {
    if (node.isStarting) return
    node.isStarting = true
    this.#restarts++
    const { store, client, backend } = node
    if (this.#random.chance(0.5)) {
      await store.stop()
      await client.stop()
    } else {
      node.disk = backend.crash(() => this.#random.chance(0.5))
      await client.stop()
      void store.stop()
    }
    Object.assign(node, await this.#startNode(node.number, node.disk))
  }

  /** Another process with the same number begins while this one goes on. */
  async #takeOver(node: Node): Promise<void> {
    if (node.isStarting) return
    node.isStarting = true
    this.#restarts++
    const old = { ...node }
    Object.assign(node, await this.#startNode(node.number, new MemoryDisk()))
    for (let i = 0; i < 3; i++) this.#pending.push(this.#call(old))
    const stop = async (): Promise<void> => {
      await this.#scheduler.delay(5000)
      await old.store.stop()
    }
    void stop()
  }

  // Calls.

  async #call({ store }: Node): Promise<void> {
    const plan = anyPlan(this.#random)
    const isRead =
      plan.every(({ kind }) => ['get', 'scan', 'counters', 'stamped'].includes(kind)) && this.#random.chance(0.6)
    const call: Call = { plan, isRead, toldBefore: this.#told, outcome: undefined }
    const number = this.#calls.push(call) - 1
    try {
      const { value, revision } = isRead
        ? await store.read(async (view) => ({
            value: await this.#perform(view, plan, number),
            revision: view.revision,
          }))
        : await store.transact((tx) => this.#perform(tx, plan, number))
      call.outcome = { kind: 'done', execution: value, revision }
      this.#told = Math.max(this.#told, revision)
    } catch (error) {
      if (error instanceof Refusal) {
        call.outcome = { kind: 'failed', error }
        return
      }
      if (
        !isTidegateError(error, 'Unavailable') &&
        !isTidegateError(error, 'SlowDown') &&
        !isTidegateError(error, 'StorageFull')
      )
        throw error
      call.outcome = { kind: 'failed', error }
    }
  }

  async #perform(view: ReadView, plan: Plan, call: number): Promise<number> {
    const number = this.#executions.size
    const seen: unknown[] = []
    this.#executions.set(number, { plan, call, number, seen })
    const tx = view as Transaction
    for (const operation of plan) {
      switch (operation.kind) {
        case 'get':
          seen.push(text(await view.get(key(operation.name))))
          break
        case 'scan': {
          const range = { start: key(operation.from), end: key(operation.to) }
          seen.push(rowTexts(await view.scan(range, operation.limit, operation.reverse)))
          break
        }
        case 'counters':
          seen.push((await view.counters(key(operation.name), 1))[0])
          break
        case 'stamped': {
          const row = await view.get(key(operation.name))
          seen.push(row && Number(Buffer.from(row).readBigUInt64BE(0)))
          break
        }
        case 'many':
          seen.push((await view.getMany(MANY.map(key))).map(text))
          break
        case 'put':
          tx.put(key(operation.name), bytes(String(call)))
          break
        case 'stamp':
          tx.put(key(operation.name), new Uint8Array(8), 0)
          break
        case 'delete':
        case 'forget':
          tx.delete(key(operation.name))
          break
        case 'add':
          tx.add(key(operation.name), [1])
          break
        case 'refuse':
          if (((await view.get(key('a'))) === undefined) === (call % 2 === 0)) throw new Refusal(number)
          break
      }
    }
    if (writes(plan)) tx.put(key(`~${call}`), bytes(String(number)))
    return number
  }

  // The check.

  #keepHistory(): void {
    const { store, revision } = this.#etcd
    const all = { start: PREFIX as ByteString, end: `${PREFIX}\xff` as ByteString }
    for (const { key: k, value, modRevision } of store.changes(all, this.#historyFrom, revision)) {
      const changes = this.#history.get(modRevision) ?? []
      changes.push({ key: k.slice(PREFIX.length) as ByteString, value })
      this.#history.set(modRevision, changes)
    }
    this.#historyFrom = revision + 1
  }

  async #checkReplicas(): Promise<void> {
    this.#etcd.majority = true
    for (const node of this.#nodes) {
      node.client.release()
      node.client.reachable = true
    }
    const found: unknown[] = []
    for (const { store } of this.#nodes) {
      for (;;) {
        try {
          found.push(await store.read(async (view) => rowTexts(await view.scan(ROWS, Infinity))))
          break
        } catch (error) {
          if (!isTidegateError(error, 'Unavailable')) throw error
        }
      }
    }
    for (const rows of found) expectSame(rows, found[0], 'rows of two nodes')
  }

  #check(): SimulationResult {
    const tookEffect = new Map<number, { revision: Revision; execution: Execution }>()
    const byRevision = new Map<Revision, Execution[]>()
    for (const [revision, changes] of this.#history) {
      for (const { key: k, value } of changes) {
        if (!k.startsWith(key('~')) || value === undefined) continue
        const execution = this.#executions.get(Number(Buffer.from(value.subarray(1)).toString()))!
        if (tookEffect.has(execution.call)) throw new Error(`call ${execution.call} took effect twice`)
        tookEffect.set(execution.call, { revision, execution })
        byRevision.set(revision, [...(byRevision.get(revision) ?? []), execution])
      }
    }
    let unknown = 0
    let failed = 0
    for (const [number, call] of this.#calls.entries()) {
      const effect = tookEffect.get(number)
      const { outcome } = call
      if (outcome?.kind === 'failed') {
        const isUnknown = isTidegateError(outcome.error) && outcome.error.details['outcome'] === 'unknown'
        unknown += isUnknown ? 1 : 0
        failed++
        if (effect !== undefined && !isUnknown)
          throw new Error(`call ${number} took effect at ${effect.revision}, and was told: ${String(outcome.error)}`)
      } else if (outcome === undefined) throw new Error(`call ${number} never ended`)
      else this.#checkDone(number, call, effect)
    }
    const model = new Model()
    const revisions = new Set([...this.#calls.map(revisionOf), ...byRevision.keys()])
    for (const revision of [...revisions].toSorted((a, b) => a - b)) {
      for (const execution of (byRevision.get(revision) ?? []).toSorted((a, b) => a.number - b.number)) {
        expectSame(
          execution.seen,
          model.replay(execution, revision),
          `what call ${execution.call} saw before ${revision}`,
        )
      }
      for (const [number, call] of this.#calls.entries()) {
        if (call.outcome?.kind !== 'done' || writes(call.plan) || call.outcome.revision !== revision) continue
        const execution = this.#executions.get(call.outcome.execution)!
        expectSame(execution.seen, model.copy().replay(execution, revision), `what read ${number} saw at ${revision}`)
      }
    }
    return {
      committed: tookEffect.size,
      failed,
      unknown,
      runs: this.#executions.size,
      restarts: this.#restarts,
      fenced: this.#fenced,
    }
  }

  #checkDone(number: number, call: Call, effect: { revision: Revision; execution: Execution } | undefined): void {
    const { outcome, plan, toldBefore } = call
    if (outcome?.kind !== 'done') return
    if (!writes(plan)) {
      if (outcome.revision < toldBefore)
        throw new Error(`call ${number} read ${outcome.revision} after ${toldBefore} was told`)
      return
    }
    if (effect === undefined) throw new Error(`call ${number} was told to be done, and is not`)
    expectSame(effect.revision, outcome.revision, `revision of call ${number}`)
    expectSame(effect.execution.number, outcome.execution, `run of call ${number}`)
    if (outcome.revision <= toldBefore)
      throw new Error(`call ${number} has ${outcome.revision}, and ${toldBefore} was told before`)
  }
}

class Refusal extends Error {
  readonly execution: number

  constructor(execution: number) {
    super('refused')
    this.execution = execution
  }
}

function revisionOf({ outcome }: Call): Revision {
  return outcome?.kind === 'done' ? outcome.revision : 0
}

function expectSame(found: unknown, expected: unknown, what: string): void {
  if (!isDeepStrictEqual(found, expected))
    throw new Error(`${what}: ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`)
}
