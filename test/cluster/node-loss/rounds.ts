/**
 * One node after the other of three is lost while all three are written to: killed, or paused for longer than its grace and then let go on. After each loss everything
 * that was acknowledged is read from the survivors, at once and after they have taken over; then the lost node comes back and is read from too.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { DeleteObjectCommand, GetObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { must } from '../../../src/common/assert.ts'
import { Random } from '../../model/random.ts'
import { areSafeAgain, BUCKET, SharedGateways } from '../../support/three-gateways.ts'
import { BrokenPromise, digest, Ledger, type Content } from '../../write-behind/load/ledger.ts'
import { ReplicatedLoad, type LoadDoors, type LoadTargets } from './replicated-load.ts'

export type Loss = 'killed' | 'paused'

export interface LossResult {
  readonly loss: Loss
  readonly acknowledged: number
  readonly unknown: number
  /** Keys that were held against the ledger, each time that they were. */
  readonly compared: number
  /** From the loss until all was read from the survivors, and until all was safe again. */
  readonly readMs: number
  readonly safeMs: number
}

export interface LossRoundOptions {
  readonly seed: number
  /** Otherwise as the seed says. */
  readonly loss?: Loss | undefined
  readonly onStep?: (step: string) => void
}

const NODES = 3
const GRACE_MS = 3_000
/** Of the leases by which nodes are known to be alive. */
const LEASE_MS = 10_000
const FLAGS = Object.entries({
  '--node-grace': `${GRACE_MS}ms`,
  '--segment-size': '8MiB',
  '--segment-age': '500ms',
  '--admission-wait': '5s',
}).flat()
const BEFORE_MS = { min: 500, span: 2_000 }
const AFTER_MS = 1_500
const PAUSED_MS = LEASE_MS + GRACE_MS + 8_000
const READERS = 6
const READ_MS_MAX = 10_000
/** A read is tried again while it is refused: the holders are just being found. */
const READABLE_MS_MAX = 45_000
const SAFE_MS_MAX = 90_000
const ENDS_MS_MAX = 45_000
const ROUNDS_KEPT = 3

export class NodeLossRounds {
  #gateways: SharedGateways | undefined
  readonly #ledger = new Ledger()
  /** Names of the last rounds: what was acknowledged in these is read in the following ones too, before it is deleted. */
  readonly #kept: string[] = []

  async start(): Promise<void> {
    this.#gateways = await SharedGateways.start({ count: NODES, flags: FLAGS })
  }

  async end(): Promise<void> {
    await this.#gateways?.end()
  }

  log(index: number): string {
    return must(this.#gateways, 'a start').log(index)
  }

  /** @throws BrokenPromise naming what was lost, Error when the nodes do not get over it */
  async run({ seed, loss: wanted, onStep = () => undefined }: LossRoundOptions): Promise<LossResult> {
    const gateways = must(this.#gateways, 'a start')
    const random = new Random(seed)
    const loss = wanted ?? (random.chance(0.35) ? 'paused' : 'killed')
    const victim = random.below(NODES)
    const survivors = gateways.indexes.filter((index) => index !== victim)
    const load = new ReplicatedLoad(targetsOf(gateways), { ledger: this.#ledger, random })
    this.#kept.push(`round-${seed}/`)
    load.start(`round-${seed}`)
    await sleep(BEFORE_MS.min + random.below(BEFORE_MS.span))
    const lostMs = performance.now()
    onStep(`gateway ${victim} is ${loss}`)
    if (loss === 'killed') await gateways.kill(victim)
    else gateways.pause(victim)
    await sleep(AFTER_MS)
    await load.stop()
    onStep(`${load.counts.acknowledged} writes acknowledged, ${load.counts.unknown} of unknown outcome`)
    let compared = await this.#compare(survivors)
    const readMs = performance.now() - lostMs
    onStep(`all ${this.#keys().length} keys read from the survivors`)
    if (loss === 'paused') await this.#comesBackLate(victim, lostMs)
    const what = 'taken over and copied again'
    for (const index of survivors) await gateways.until(index, areSafeAgain(NODES - 1), { what, withinMs: SAFE_MS_MAX })
    const safeMs = performance.now() - lostMs
    onStep('all is safe again')
    compared += await this.#compare(survivors)
    await gateways.start(victim)
    await gateways.until(victim, areSafeAgain(NODES), { what: 'back', withinMs: SAFE_MS_MAX })
    compared += await this.#compareSettled()
    onStep('it is back, and all is read from it too')
    await this.#deleteOldest()
    return { loss, ...load.counts, compared, readMs, safeMs }
  }

  /** It was fenced meanwhile: it learns so and ends, and has neither published nor deleted anything. */
  async #comesBackLate(victim: number, lostMs: number): Promise<void> {
    const gateways = must(this.#gateways, 'a start')
    await sleep(Math.max(0, lostMs + PAUSED_MS - performance.now()))
    gateways.resume(victim)
    if (!(await gateways.ended(victim, ENDS_MS_MAX)))
      throw new Error(`gateway ${victim} was paused for ${PAUSED_MS} ms, and has not ended within ${ENDS_MS_MAX} ms`)
  }

  #keys(): string[] {
    return this.#ledger.keys.filter((key) => this.#kept.some((name) => key.startsWith(name)))
  }

  /** Every key by each of those. @returns how many comparisons */
  async #compare(indexes: readonly number[]): Promise<number> {
    const contents = await Promise.all(indexes.map((index) => this.#read(index)))
    return contents.reduce((sum, { size }) => sum + size, 0)
  }

  /** Nothing is under way any more: all see the same, whatever became of calls of unknown outcome. */
  async #compareSettled(): Promise<number> {
    const [first = new Map<string, Content>(), ...others] = await Promise.all(
      must(this.#gateways, 'a start').indexes.map((index) => this.#read(index)),
    )
    for (const [place, other] of others.entries())
      for (const [key, content] of other)
        if (content !== first.get(key))
          throw new BrokenPromise(
            `${key} holds ${first.get(key) ?? 'nothing'} by gateway 0, and ${content ?? 'nothing'} by gateway ${place + 1}`,
          )
    return first.size * (others.length + 1)
  }

  async #read(index: number): Promise<Map<string, Content>> {
    const client = must(this.#gateways, 'a start').s3(index)
    const found = new Map<string, Content>()
    const waiting = this.#keys()
    const reader = async (): Promise<void> => {
      for (let key = waiting.pop(); key !== undefined; key = waiting.pop()) {
        const content = await contentOf(client, key, index)
        this.#check(key, content, index)
        found.set(key, content)
      }
    }
    await Promise.all(Array.from({ length: READERS }, reader))
    client.destroy()
    return found
  }

  /** A call of unknown outcome may take effect until its gateway has gone; so what is found settles nothing. */
  #check(key: string, content: Content, index: number): void {
    const allowed = this.#ledger.allowed(key, 'journal')
    if (allowed.includes(content)) return
    const wanted = allowed.map((one) => one ?? 'nothing').join(' or ')
    throw new BrokenPromise(`${key} holds ${content ?? 'nothing'} by gateway ${index}, and it may hold ${wanted}`)
  }

  async #deleteOldest(): Promise<void> {
    if (this.#kept.length < ROUNDS_KEPT) return
    const name = must(this.#kept.shift(), 'a round')
    const client = must(this.#gateways, 'a start').s3(0)
    for (const Key of this.#ledger.keys.filter((key) => key.startsWith(name)))
      await client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key }))
    client.destroy()
  }
}

/** Clients go with the process that they talk to. */
function targetsOf(gateways: SharedGateways): LoadTargets {
  const known = new Map<number, LoadDoors>()
  return {
    get running() {
      return gateways.running
    },
    doors: (index) => {
      const { pid } = gateways.of(index)
      const doors = known.get(pid) ?? { s3: gateways.s3(index, 'replicated'), kv: gateways.kv(index) }
      known.set(pid, doors)
      return doors
    },
  }
}

/** @throws BrokenPromise when it cannot be read for long */
export async function contentOf(client: S3Client, key: string, index: number): Promise<Content> {
  const untilMs = performance.now() + READABLE_MS_MAX
  for (;;) {
    try {
      const signal = { abortSignal: AbortSignal.timeout(READ_MS_MAX) }
      const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key }), signal)
      return digest((await Body?.transformToByteArray()) ?? Buffer.alloc(0))
    } catch (error) {
      const { name, message } = error as Error
      if (name === 'NoSuchKey') return undefined
      if (performance.now() > untilMs)
        throw new BrokenPromise(`${key} cannot be read by gateway ${index}: ${name}: ${message}`, { cause: error })
    }
    await sleep(200)
  }
}
