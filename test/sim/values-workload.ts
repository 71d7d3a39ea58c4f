/**
 * Transactions of the KV door on one life of the node, on keys that nothing else writes: two that are only ever written
 * together, so that half a transaction shows, and a counter, whose value is bounded by the increments that were
 * acknowledged and those that were begun.
 */
import type { AckLevel } from '../../src/common/model.ts'
import type { TransactionCompare, TransactionOperation, TransactionOutcome } from '../../src/store/kv-types.ts'
import type { Random } from '../model/random.ts'
import type { History, Place, Value } from './history.ts'
import type { Life } from './life.ts'
import { ATTRIBUTES, BrokenPromise, md5, outcomeOf, OWNER, PLAIN_BUCKET, type Workload } from './workload.ts'

/** One in the root and one in a directory of its own, which comes and goes with it. */
export const PAIR: readonly Place[] = ['one', 'pair/other'].map((key) => ({ bucket: 'plain', key }))
const COUNTER = 'counter'
/** Inline, in the journal, over several blocks. */
const SIZES = [8, 32, 33, 300, 1000]

export interface CounterMemory {
  /** Increments by one, since the counter was last read after a crash, and its value then. */
  begun: number
  acknowledged: number
  /** Values that increments were acknowledged durably with. */
  readonly told: Set<bigint>
}

export function newCounterMemory(): CounterMemory {
  return { begun: 0, acknowledged: 0, told: new Set() }
}

export class ValuesWorkload {
  readonly #life: Life
  readonly #workload: Workload
  readonly #random: Random
  readonly #history: History
  readonly #counter: CounterMemory

  constructor(life: Life, workload: Workload, shared: { random: Random; history: History; counter: CounterMemory }) {
    this.#life = life
    this.#workload = workload
    this.#random = shared.random
    this.#history = shared.history
    this.#counter = shared.counter
  }

  async act(): Promise<void> {
    const roll = this.#random.next()
    if (roll < 0.4) return await this.#writePair()
    if (roll < 0.7) return await this.#increment()
    await this.#checkPair()
  }

  /** After a start: what is there must be allowed, and is what counts from now on. */
  async checkRecovered(): Promise<void> {
    const values = await this.#checkPair()
    for (const [index, place] of PAIR.entries()) this.#history.found(place, values?.[index])
    const [got] = await this.#transact({ then: [{ op: 'get', key: COUNTER }], ack: 'journal' })
    const value = got?.op === 'get' ? Number((await this.#bytesOf(got))?.toString() ?? 0) : Number.NaN
    const { begun, acknowledged } = this.#counter
    if (!(value >= acknowledged && value <= begun)) {
      throw new BrokenPromise(`the counter is ${value}: ${acknowledged} acknowledged, ${begun} begun`)
    }
    this.#counter.begun = value
    this.#counter.acknowledged = value
  }

  async #writePair(): Promise<void> {
    const random = this.#random
    const ack = this.#workload.anyAck()
    const value = random.chance(0.8) ? this.#value() : undefined
    const what = `transaction ${ack}`
    const compares: TransactionCompare[] = []
    if (random.chance(0.4)) compares.push({ target: 'exists', key: PAIR[0]!.key, operand: random.chance(0.5) })
    const then = PAIR.map(({ key }): TransactionOperation => {
      if (value === undefined) return { op: 'delete', key }
      const body = { kind: 'bytes', bytes: value, digests: { md5: md5(value), checksums: {} } } as const
      return { op: 'put', key, body, attributes: ATTRIBUTES, ttlMs: undefined }
    })
    const writes = PAIR.map((place) => this.#history.begin(place, { value, what, durable: ack !== 'memory' }))
    try {
      const { keyValues } = this.#life.engine.store
      const request = { bucket: PLAIN_BUCKET, compares, then, else: [], owner: OWNER, ack }
      const { succeeded } = await keyValues.transact(request)
      for (const write of writes) this.#history.end(write, succeeded ? 'acknowledged' : 'failed')
      this.#workload.count(succeeded ? what : 'transaction not taken')
    } catch (error) {
      for (const write of writes) this.#history.end(write, outcomeOf(error))
      this.#workload.forgive(error, what)
    }
  }

  #value(): Buffer {
    const value = Buffer.alloc(this.#random.pick(SIZES))
    for (let at = 0; at + 4 <= value.length; at += 4) value.writeUInt32LE(this.#random.below(2 ** 32), at)
    return value
  }

  /** Both are read in one transaction. Undefined when that failed and the weather explains it. */
  async #checkPair(): Promise<Value[] | undefined> {
    const history = this.#history
    const { clock } = this.#life.scheduler
    const [from, fromMs] = [history.stamps.next(), clock.nowMs()]
    let values: Value[]
    try {
      const then = PAIR.map(({ key }): TransactionOperation => ({ op: 'get', key }))
      const outcomes = await this.#transact({ then, ack: this.#random.pick(['journal', 'memory']) })
      values = []
      for (const outcome of outcomes) values.push(outcome.op === 'get' ? await this.#bytesOf(outcome) : undefined)
    } catch (error) {
      this.#workload.forgive(error, 'reading the pair')
      return undefined
    }
    const look = { from, fromMs, to: history.stamps.next(), toMs: clock.nowMs() }
    for (const [index, place] of PAIR.entries()) {
      const wrong = history.judge(place, values[index], look)
      if (wrong) throw new BrokenPromise(wrong)
    }
    const [one, other] = values
    if (one === undefined ? other !== undefined : !other?.equals(one)) {
      throw new BrokenPromise('half a transaction: the two keys that are written together differ')
    }
    this.#workload.count('transaction read')
    return values
  }

  async #increment(): Promise<void> {
    const counter = this.#counter
    const ack = this.#random.chance(0.7) ? 'journal' : 'memory'
    const before = counter.acknowledged
    counter.begun++
    try {
      const [outcome] = await this.#transact({
        then: [{ op: 'increment', key: COUNTER, delta: 1n, ttlMs: undefined }],
        ack,
      })
      const value = outcome?.op === 'increment' ? outcome.value : -1n
      if (value <= before || value > counter.begun) {
        throw new BrokenPromise(`incremented to ${value}: ${before} acknowledged before, ${counter.begun} begun`)
      }
      this.#workload.count(`increment ${ack}`)
      if (ack === 'memory') return
      if (counter.told.has(value)) throw new BrokenPromise(`two increments were told ${value}`)
      counter.told.add(value)
      counter.acknowledged++
    } catch (error) {
      if (error instanceof BrokenPromise) throw error
      this.#workload.forgive(error, `increment ${ack}`)
    }
  }

  async #transact(request: {
    then: readonly TransactionOperation[]
    ack: AckLevel
  }): Promise<readonly TransactionOutcome[]> {
    const { keyValues } = this.#life.engine.store
    const whole = { ...request, bucket: PLAIN_BUCKET, compares: [], else: [], owner: OWNER }
    return (await keyValues.transact(whole)).outcomes
  }

  async #bytesOf({ version, reader }: Extract<TransactionOutcome, { op: 'get' }>): Promise<Value> {
    const { reading } = this.#life.engine.store
    try {
      if (version?.body.kind === 'inline') return Buffer.from(version.body.bytes)
      if (!version || reader === undefined) return undefined
      const value = Buffer.alloc(version.size)
      for (let at = 0; at < version.size;) {
        const slice = await reading.read(reader, at, version.size - at)
        value.set(reading.view(slice), at)
        reading.release(slice.lease)
        at += slice.length
      }
      return value
    } finally {
      if (reader !== undefined) reading.close(reader)
    }
  }
}
