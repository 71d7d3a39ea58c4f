/** Random transactions against a plain map, with the schema's invariants checked over every row from time to time. */
/* oxlint-disable unicorn/no-thenable -- a branch of a transaction is called `then`; it is a list, so nothing awaits it */
import { expect, test } from 'vitest'
import { isTidegateError } from '../../../../../src/common/errors.ts'
import type { StageOptions } from '../../../../../src/meta/stage/options.ts'
import type { ValueCompare } from '../../../../../src/meta/namespace/values/compares.ts'
import type { ValueOperation, ValueOutcome } from '../../../../../src/meta/namespace/values/operations.ts'
import { checkNamespace } from '../../../../model/check-namespace.ts'
import { Random, randomKey, testSeed } from '../../../../model/random.ts'
import { OWNER, PLAIN, fixture, type Fixture } from '../fixture.ts'

const SEED = testSeed()
const LONG_RUN_MS = 300_000
const OTHER_TEXT = 'no number'

interface ModelValue {
  /** Undefined: a body that does not lie inline. */
  readonly text: string | undefined
  readonly size: number
  readonly revision: number
  readonly expiresMs: number | undefined
}

class Run {
  readonly #random: Random
  readonly #made: Fixture
  readonly #values = new Map<string, ModelValue>()
  readonly #keys: string[]

  constructor(random: Random, made: Fixture) {
    this.#random = random
    this.#made = made
    this.#keys = Array.from({ length: 12 }, () => randomKey(random))
  }

  #current(values: ReadonlyMap<string, ModelValue>, key: string): ModelValue | undefined {
    const value = values.get(key)
    return value?.expiresMs !== undefined && value.expiresMs <= this.#made.clock.ms ? undefined : value
  }

  #compare(): ValueCompare {
    const random = this.#random
    const key = random.pick(this.#keys)
    const current = this.#current(this.#values, key)
    if (random.chance(0.3)) return { target: 'exists', key, operand: random.chance(0.5) }
    if (random.chance(0.5)) {
      const operator = random.pick(['=', '!=', '<', '>'] as const)
      return { target: 'revision', key, operator, operand: (current?.revision ?? 0) + random.below(2) }
    }
    const text = random.chance(0.7) ? (current?.text ?? '') : OTHER_TEXT
    return { target: 'value', key, operator: random.pick(['=', '!=']), operand: new TextEncoder().encode(text) }
  }

  #holds(compare: ValueCompare): boolean {
    const current = this.#current(this.#values, compare.key)
    if (compare.target === 'exists') return (current !== undefined) === compare.operand
    if (compare.target === 'value') {
      const equal = current?.text !== undefined && current.text === new TextDecoder().decode(compare.operand)
      return equal === (compare.operator === '=')
    }
    if (compare.target === 'etag') throw new Error('not made here')
    const revision = current?.revision ?? 0
    const { operator, operand } = compare
    if (operator === '=') return revision === operand
    if (operator === '!=') return revision !== operand
    return operator === '<' ? revision < operand : revision > operand
  }

  async #operation(key: string): Promise<ValueOperation> {
    const random = this.#random
    const ttlMs = random.chance(0.2) ? 1 + random.below(50) : undefined
    const choice = random.below(6)
    if (choice === 0) return { op: 'get', key }
    if (choice === 1) return { op: 'exists', key }
    if (choice === 2) return { op: 'delete', key }
    if (choice === 3) return { op: 'increment', key, delta: BigInt(random.below(20) - 10), ttlMs }
    const made = { op: 'put', key, etag: 'e', attributes: PLAIN, ttlMs } as const
    // Of a size that no operand of a compare has.
    const run = choice === 4 && random.chance(0.5) ? await this.#made.run(100) : undefined
    if (run) return { ...made, body: { kind: 'run', run }, size: 100 }
    const bytes = new TextEncoder().encode(random.chance(0.9) ? String(random.below(100)) : OTHER_TEXT)
    return { ...made, body: { kind: 'inline', bytes }, size: bytes.length }
  }

  async #branch(): Promise<ValueOperation[]> {
    const operations: ValueOperation[] = []
    const written = new Set<string>()
    for (let left = this.#random.below(6); left > 0; left--) {
      const key = this.#random.pick(this.#keys)
      const operation = await this.#operation(key)
      const writes = operation.op !== 'get' && operation.op !== 'exists'
      if (writes && written.has(key)) continue
      if (writes) written.add(key)
      operations.push(operation)
    }
    return operations
  }

  /** Does an operation on a copy of the model; undefined when it should be refused. */
  #model(values: Map<string, ModelValue>, operation: ValueOperation, revision: number): unknown {
    const { op, key } = operation
    const current = this.#current(values, key)
    const shown = (value: ModelValue | undefined): unknown =>
      value && { key, size: value.size, revision: value.revision, expiresMs: value.expiresMs }
    if (op === 'get') return { op, version: shown(current) }
    if (op === 'exists') return { op, exists: current !== undefined }
    if (op === 'delete') {
      values.delete(key)
      return { op, existed: current !== undefined }
    }
    const ttlEndMs = operation.ttlMs === undefined ? undefined : this.#made.clock.ms + operation.ttlMs
    if (op === 'put') {
      const text = operation.body.kind === 'inline' ? new TextDecoder().decode(operation.body.bytes) : undefined
      values.set(key, { text, size: operation.size, revision, expiresMs: ttlEndMs })
      return { op, version: shown(values.get(key)) }
    }
    const before = current ? current.text : '0'
    if (before === undefined || before === OTHER_TEXT) return undefined
    const value = BigInt(before) + operation.delta
    const text = String(value)
    values.set(key, { text, size: text.length, revision, expiresMs: ttlEndMs ?? current?.expiresMs })
    return { op, value, version: shown(values.get(key)) }
  }

  async transact(): Promise<void> {
    this.#made.clock.ms += this.#random.below(10)
    const compares = Array.from({ length: this.#random.below(3) }, () => this.#compare())
    const request = { compares, then: await this.#branch(), else: await this.#branch() }
    const succeeded = compares.every((compare) => this.#holds(compare))
    const values = new Map(this.#values)
    const revision = this.#made.namespace.revision() + 1
    const taken = succeeded ? request.then : request.else
    const expected: unknown[] = []
    for (const operation of taken) expected.push(this.#model(values, operation, revision))
    const refused = expected.includes(undefined)
    const whole = { ...request, bucket: 'box', known: [], owner: OWNER, ack: 'journal' } as const
    const result = await this.#made.namespace.transactValues(whole).catch((error: unknown) => {
      if (refused && isTidegateError(error, 'InvalidCounter')) return undefined
      throw error
    })
    expect(result === undefined).toBe(refused)
    if (!result) return
    expect(result.value).toMatchObject({ kind: 'done', succeeded })
    const outcomes: readonly ValueOutcome[] = result.value.kind === 'done' ? result.value.outcomes : []
    expect(outcomes).toHaveLength(expected.length)
    for (const [index, outcome] of outcomes.entries()) expect(outcome).toMatchObject(expected[index] as object)
    this.#values.clear()
    for (const [key, value] of values) this.#values.set(key, value)
  }

  /** Scans and presence against the model, and the invariants. */
  async compare(): Promise<void> {
    const { namespace } = this.#made
    const present = this.#keys.map((key) => this.#current(this.#values, key) !== undefined)
    expect((await namespace.presence('box', this.#keys, false)).present).toEqual(present)
    for (const reverse of [false, true]) {
      const range = { prefix: '', start: '', end: '', after: undefined, reverse, limit: 1000 }
      const page = await namespace.scan({ bucket: 'box', ...range, values: true, valueBytesMax: 1000 })
      expect(page.keys).toHaveLength(new Set(this.#keys.filter((_, index) => present[index])).size)
      for (const { key, version, revision } of page.keys) {
        expect({ size: version?.size, revision }).toMatchObject({
          size: this.#values.get(key)?.size,
          revision: this.#values.get(key)?.revision,
        })
      }
    }
    await checkNamespace(this.#made.store)
  }
}

async function runTransactions(options: StageOptions, versioning?: 'enabled' | 'suspended'): Promise<void> {
  const random = new Random(SEED)
  for (let round = 0; round < 4; round++) {
    const made = await fixture(options)
    await made.bucket('box', versioning)
    const run = new Run(random, made)
    for (let i = 0; i < 300; i++) {
      await run.transact()
      if (random.chance(0.05)) await made.expireAll()
      if (i % 60 === 0) await run.compare()
    }
    await run.compare()
    await made.reclaim()
    expect(await checkNamespace(made.store)).toMatchObject({ dropped: 0 })
    await made.stop()
  }
}

test.each([[undefined], ['enabled'], ['suspended']] as const)(
  `C1, C2: random transactions in a bucket with versioning %s, each run twice, 128 operations at most (seed ${SEED})`,
  (versioning) => runTransactions({ forceRetry: true, operationsMax: 128 }, versioning),
  LONG_RUN_MS,
)
