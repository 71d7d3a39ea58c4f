/**
 * Random transactions, syncs that end or fail, and power cuts, against a model that keeps every state as a whole map.
 */
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { must } from '../../../src/common/assert.ts'
import { TidegateError } from '../../../src/common/errors.ts'
import type { ByteString, Revision } from '../../../src/common/ids.ts'
import { MemoryBackend, MemoryDisk } from '../../../src/meta/memory/memory-backend.ts'
import { createMemoryStore } from '../../../src/meta/memory/memory-store.ts'
import type { KeyRange, Row } from '../../../src/meta/ports.ts'
import type { EmbeddedStore } from '../../../src/meta/stage/ports.ts'

type Rows = ReadonlyMap<string, string>

type Step =
  | { readonly kind: 'write'; readonly writes: readonly (readonly [string, string | null])[] }
  | {
      readonly kind: 'scan'
      readonly from: string
      readonly to: string
      readonly limit: number
      readonly reverse: boolean
    }
  | { readonly kind: 'syncEnds' | 'syncFails' }
  | { readonly kind: 'powerCut'; readonly survives: boolean }

const anyName = fc.string({ unit: fc.constantFrom('Ra', 'Rb', 'R\0', 'R\xff'), minLength: 1, maxLength: 3 })
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      writes: fc.array(fc.tuple(anyName, fc.option(fc.string({ maxLength: 4 }))), { minLength: 1, maxLength: 8 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('scan' as const),
      from: anyName,
      to: anyName,
      limit: fc.integer({ min: 1, max: 6 }),
      reverse: fc.boolean(),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom('syncEnds' as const, 'syncFails' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('powerCut' as const), survives: fc.boolean() }) },
)

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

class World {
  /** What is visible, what is being synced, what is durable. */
  #visible: Rows = new Map()
  #syncing: Rows | undefined
  #durable: Rows = new Map()
  #revisions: Revision[] = []
  #endSync: ((error?: Error) => void) | undefined
  #disk = new MemoryDisk()
  #backend!: MemoryBackend
  #store!: EmbeddedStore
  #undone = 0

  async start(): Promise<void> {
    this.#endSync = undefined
    this.#syncing = undefined
    this.#backend = new MemoryBackend({
      disk: this.#disk,
      sync: () => (this.#syncing === undefined ? Promise.resolve() : this.#syncOnDemand()),
    })
    this.#store = createMemoryStore({
      backend: this.#backend,
      changeLogRevisionsMax: 5,
      beforeCommit: () => {
        this.#syncing = this.#visible
        return Promise.resolve()
      },
    })
    this.#store.onRollback(() => this.#undone++)
    await this.#store.start()
  }

  #syncOnDemand(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#endSync = (error) => (error === undefined ? resolve() : reject(error))
    })
  }

  async step(step: Step): Promise<void> {
    switch (step.kind) {
      case 'write':
        return this.#write(step.writes)
      case 'scan':
        return this.#scan(step)
      case 'syncEnds':
      case 'syncFails':
        return this.#sync(step.kind === 'syncFails')
      case 'powerCut':
        this.#disk = this.#backend.crash(() => step.survives)
        if (step.survives && this.#syncing !== undefined) this.#durable = this.#syncing
        this.#visible = this.#durable
        await this.start()
        return this.checkWhole()
    }
  }

  async #write(writes: readonly (readonly [string, string | null])[]): Promise<void> {
    const rows = new Map(this.#visible)
    const submitted = this.#store.transact(async (tx) => {
      for (const [name, value] of writes) {
        if (value === null) tx.delete(name as ByteString)
        else tx.put(name as ByteString, Buffer.from(value, 'latin1'))
      }
    })
    for (const [name, value] of writes) {
      if (value === null) rows.delete(name)
      else rows.set(name, Buffer.from(value, 'latin1').toString('latin1'))
    }
    this.#visible = rows
    const { revision } = await submitted
    expect(revision).toBeGreaterThan(this.#revisions.at(-1) ?? 0)
    this.#revisions.push(revision)
    await turn()
  }

  async #scan(step: Step & { kind: 'scan' }): Promise<void> {
    const { from, to, limit, reverse } = step
    const range = { start: from as ByteString, end: to as ByteString }
    const found = await this.#see(range, limit, reverse)
    const names = [...this.#visible.keys()].filter((name) => name >= from && name < to).sort()
    if (reverse) names.reverse()
    expect(found.map((row) => row.key)).toEqual(names.slice(0, limit))
  }

  /** What is visible, durable or not: a transaction is told at once, where a read would wait for the sync. */
  async #see(range: KeyRange, limit: number, reverse: boolean): Promise<Row[]> {
    const { value } = await this.#store.transact((tx) => tx.scan(range, limit, reverse))
    return value
  }

  async #sync(fails: boolean): Promise<void> {
    const end = this.#endSync
    if (end === undefined) return
    const synced = must(this.#syncing, 'what is synced')
    const undone = this.#undone
    this.#endSync = undefined
    this.#syncing = undefined
    if (fails) this.#visible = this.#durable
    else this.#durable = synced
    end(fails ? new TidegateError('StorageFull', 'full') : undefined)
    await turn()
    expect(this.#undone).toBe(undone + (fails ? 1 : 0))
    if (fails) expect(this.#store.revision()).toBe(this.#store.durableRevision())
    await this.checkWhole()
  }

  async checkWhole(): Promise<void> {
    const range = { start: 'R' as ByteString, end: 'S' as ByteString }
    const rows = await this.#see(range, 1000, false)
    const found = new Map(rows.map((row) => [row.key as string, Buffer.from(row.value).toString('latin1')]))
    expect(found).toEqual(this.#visible)
    expect([...found.keys()]).toEqual([...found.keys()].sort())
  }
}

test('C1: what is seen is what the model says, over syncs, failures and power cuts', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(anyStep, { maxLength: 60 }), async (steps) => {
      const world = new World()
      await world.start()
      for (const step of steps) await world.step(step)
      await world.checkWhole()
    }),
    { numRuns: 400, endOnFailure: true },
  )
})
