/**
 * One interleaving: random changes of ours and of others on few keys of an attached bucket, over the whole engine, with an external store that fails and loses
 * answers, and power cuts. Then the dust settles, and what is there is held against the ledger and against the external bucket. All of it follows from one seed.
 */
import { NO_CONDITIONS } from '../../../src/common/conditions.ts'
import { must } from '../../../src/common/assert.ts'
import type { ConflictPolicy } from '../../../src/common/external.ts'
import { checkLimits } from '../../../src/common/limits.ts'
import type { EngineParts } from '../../../src/engine-parts.ts'
import { checkNamespace } from '../../model/check-namespace.ts'
import { Random } from '../../model/random.ts'
import { Life, newMachine, TINY_LIMITS } from '../../sim/life.ts'
import { OWNER } from '../../sim/workload.ts'
import { act } from './actions.ts'
import { Clients, KEYS } from './clients.ts'
import { Broken, fingerprint, Ledger, withoutConflict } from './ledger.ts'
import { Outside, PART_BYTES_MIN } from './outside.ts'
import { BUCKET, readObject } from './reading.ts'

export interface RoundResult {
  readonly cuts: number
  /** Acknowledged contents that had to be there at the end, and were. */
  readonly kept: number
  readonly counts: Readonly<Record<string, number>>
}

const LIMITS = checkLimits({ ...TINY_LIMITS, partBytesMin: PART_BYTES_MIN })
/** The shape of S3's limits, so small that every way to upload is gone. */
const PLAN_LIMITS = {
  putBytesMax: 2048,
  partBytesMin: PART_BYTES_MIN,
  partsMax: 100,
  partBytes: 512,
  wholeBytesMax: 256,
}
const CUTS_MAX = 2
const ACTIONS_OF_A_LIFE_MAX = 30
const AT_ONCE_MAX = 4
const TURNS_TO_DIE = 4
const LONG_MS = 3_600_000
const DRAIN_MS_MAX = 100_000
const DECISIONS_MAX = 40
const REST_MS = 2000

/** @throws Broken with the seed that repeats it, and in `cause` what happened */
export async function runRound(seed: number): Promise<RoundResult> {
  const round = new Round(seed)
  try {
    return await round.run()
  } catch (error) {
    const { message } = round.ledger.broken ?? (error as Error)
    throw new Broken(`seed ${seed} (${round.ledger.policy}): ${message}`, {
      cause: { error, trace: round.ledger.trace },
    })
  }
}

class Round {
  readonly ledger: Ledger
  readonly #random: Random
  readonly #outside: Outside
  readonly #counts: Record<string, number> = {}
  readonly #ttlMs: number
  readonly #listingTtlMs: number
  #life: Life
  #clients: Clients
  #failure: unknown
  #isAttached = false

  constructor(seed: number) {
    const random = new Random(seed)
    this.#random = random
    this.ledger = new Ledger(random.pick<ConflictPolicy>(['fail', 'keep-both', 'keep-both', 'last-writer-wins']))
    this.#ttlMs = random.pick([0, LONG_MS])
    this.#listingTtlMs = random.pick([0, LONG_MS])
    this.#life = new Life(newMachine(random, undefined, 'local disk'), random)
    this.ledger.nowMs = () => this.#life.scheduler.nowMs
    this.#outside = new Outside(this.ledger, {
      ...this.#life.scheduler.clock,
      nowMs: () => this.#life.scheduler.clock.nowMs(),
    })
    this.#clients = this.#newClients()
  }

  #newClients(): Clients {
    return new Clients(this.#life, {
      random: this.#random,
      ledger: this.ledger,
      outside: this.#outside,
      counts: this.#counts,
    })
  }

  async run(): Promise<RoundResult> {
    const random = this.#random
    for (const key of KEYS) {
      if (random.chance(0.6)) this.#outside.put(key, this.#clients.bytes(8), 'text/plain')
    }
    const cuts = random.below(CUTS_MAX + 1)
    for (let cut = 0; cut < cuts; cut++) {
      await this.#live()
      await this.#cut()
    }
    const calls = await this.#live()
    await this.#until(Promise.all(calls), 'the last calls')
    this.#check()
    await this.#settle()
    return { cuts, kept: this.ledger.kept, counts: this.#counts }
  }

  async #start(): Promise<void> {
    const { scheduler } = this.#life
    const attach: EngineParts['attach'] = {
      placeOf: () => ({ bucket: 'outside', prefix: '' }),
      external: () => this.#outside.client(scheduler, this.#random),
      reserved: [],
      region: 'us-east-1',
      planLimits: PLAN_LIMITS,
    }
    await this.#life.start(undefined, { limits: LIMITS, attach })
    if (this.#isAttached) return
    const { control } = this.#attaching()
    const times = { ttlMs: this.#ttlMs, listingTtlMs: this.#listingTtlMs, compareIntervalMs: 0 }
    const request = { bucket: BUCKET, url: 'memory:', conflicts: this.ledger.policy, ...times, owner: OWNER }
    await this.#until(control.attach({ ...request, ack: 'journal' }), 'attaching')
    this.#isAttached = true
  }

  #attaching(): NonNullable<Life['engine']['attaching']> {
    const { attaching } = this.#life.engine
    if (!attaching) throw new Error('the engine attaches nothing')
    return attaching
  }

  async #live(): Promise<Set<Promise<void>>> {
    await this.#start()
    const random = this.#random
    this.#life.fileSystem.latencyMsMax = random.pick([0, 1])
    const calls = new Set<Promise<void>>()
    const stepsMax = random.pick([2, 6, 40])
    for (let left = random.below(ACTIONS_OF_A_LIFE_MAX); left > 0; left--) {
      if (calls.size < AT_ONCE_MAX) this.#launch(calls)
      for (let steps = random.below(stepsMax); steps > 0; steps--) {
        await this.#life.scheduler.step()
        this.#check()
      }
    }
    return calls
  }

  #launch(calls: Set<Promise<void>>): void {
    const clients = this.#clients
    const call = act(clients, this.#random).catch((error: unknown) => {
      if (clients === this.#clients) this.#failure ??= error
    })
    calls.add(call)
    void call.finally(() => calls.delete(call))
  }

  #check(): void {
    if (this.ledger.broken) throw this.ledger.broken
    if (this.#failure) throw this.#failure as Error
  }

  async #cut(): Promise<void> {
    const machine = this.#life.cut()
    this.#life = new Life(machine, this.#random)
    this.#clients = this.#newClients()
    // Calls of the dead life go on as far as they need neither disk nor time.
    for (let turn = 0; turn < TURNS_TO_DIE; turn++) await new Promise<void>((resolve) => setImmediate(resolve))
    this.ledger.cut()
  }

  // ---- the dust settles

  async #settle(): Promise<void> {
    Object.assign(this.#outside.weather, { failing: 0, lost: 0, resent: 0 })
    this.#outside.bucket.down = false
    this.ledger.note('settling')
    // A store that did not answer is left alone for a moment.
    await this.#until(this.#life.scheduler.delay(REST_MS), 'resting')
    const { control } = this.#attaching()
    await this.#until(control.change(BUCKET, { ttlMs: 0, listingTtlMs: 0 }), 'changing the times')
    await this.#drain()
    this.#check()
    await this.#until(this.#compare(), 'comparing both sides')
    await this.#drain()
    await this.#until(checkNamespace(this.#life.engine.orderedStore), 'checking the namespace')
    this.ledger.checkKept(this.#outside.bucket.snapshot())
    const { engine } = this.#life
    const { bodies, readers, reservedSlots } = engine.store.activity()
    if (bodies + readers + reservedSlots + engine.memory.leases > 0)
      throw new Broken(`left over: ${JSON.stringify(engine.store.activity())}, ${engine.memory.leases} leases`)
    const problem = this.#life.events.find(({ kind }) => kind === 'segment-broken' || kind === 'bad-block')
    if (problem) throw new Broken(`the engine says ${JSON.stringify(problem)}`)
    await this.#until(engine.stop(), 'stopping')
  }

  async #drain(): Promise<void> {
    const { writeBack, control } = this.#attaching()
    for (let decisions = 0; decisions < DECISIONS_MAX; decisions++) {
      const drained = await this.#until(writeBack.drain({ waitMsMax: DRAIN_MS_MAX }), 'draining')
      this.#check()
      const { conflicts } = await control.conflicts(BUCKET, { after: '', limit: 100 })
      const [conflict] = conflicts
      if (!conflict) {
        if (drained.left === 0) return
        throw new Broken(`never carried out: ${JSON.stringify(drained)}, ${await this.#dirty()}`)
      }
      await this.#decide(conflict.key)
    }
    throw new Broken('conflicts never end')
  }

  /** For who looks into a failing seed. */
  async #dirty(): Promise<string> {
    const names = this.#life.engine.namespace.attached
    const bucketId = must(this.#attaching().attachments.all()[0], 'attachment').record.bucketId
    const keys = await this.#until(names.dirtyKeys(bucketId, '', 100), 'looking')
    return JSON.stringify([keys, await this.#until(names.moves(bucketId), 'looking')])
  }

  async #decide(key: string): Promise<void> {
    const keep = this.#random.pick(['ours', 'theirs', 'both'] as const)
    this.#counts[`decided ${keep}`] = (this.#counts[`decided ${keep}`] ?? 0) + 1
    const change = {
      what: `decide ${keep} for ${key}`,
      touches: (at: string) => at === withoutConflict(key),
      destroys: (at: string) => at === withoutConflict(key) && keep === 'theirs',
    }
    const entered = this.ledger.begin(change)
    await this.#until(this.#attaching().control.resolve(BUCKET, { key, keep }), 'deciding')
    this.ledger.end(entered, 'done')
  }

  /** The listing, contents and attributes here are those outside. */
  async #compare(): Promise<void> {
    const { engine } = this.#life
    const here = await this.#listed()
    const outside = this.#outside.bucket.snapshot()
    const missing = [...outside.keys()].filter((key) => !here.has(key))
    const tooMany = [...here.keys()].filter((key) => !outside.has(key))
    if (missing.length + tooMany.length > 0)
      throw new Broken(`only outside: ${missing.join()}; only here: ${tooMany.join()}`)
    for (const [key, bytes] of outside) {
      const read = await readObject(engine, key)
      if (!read?.bytes.equals(bytes))
        throw new Broken(`${key} is ${read && fingerprint(read.bytes)} here, and ${fingerprint(bytes)} outside`)
      if (!this.ledger.isKnown(bytes)) throw new Broken(`${key}: ${bytes.length} bytes that nobody wrote`)
      const head = await engine.store.objects.head({ bucket: BUCKET, key }, NO_CONDITIONS)
      const found = this.#outside.bucket.peek(key)
      if (head.etag !== found?.etag || here.get(key) !== head.etag)
        throw new Broken(`${key} has the ETag ${head.etag} here, and ${found?.etag} outside`)
      const [ours, theirs] = [head.attributes, found.attributes].map(({ headers, tags }) =>
        JSON.stringify([headers, tags]),
      )
      if (ours !== theirs) throw new Broken(`${key} has other attributes: ${ours} here, and ${theirs} outside`)
    }
  }

  async #listed(): Promise<Map<string, string>> {
    const found = new Map<string, string>()
    let after: string | undefined = ''
    while (after !== undefined) {
      const request = { bucket: BUCKET, prefix: '', delimiter: '', after, limit: 7 }
      const page = await this.#life.engine.store.objects.list(request)
      for (const { key, etag } of page.objects) found.set(key, etag)
      after = page.next
    }
    return found
  }

  #until<T>(work: Promise<T>, what: string): Promise<T> {
    return this.#life.scheduler.until(work, what)
  }
}
