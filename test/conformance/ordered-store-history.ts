/** Random plans of reads and writes, and the check that what they saw fits one order of them. */
import * as fc from 'fast-check'
import { expect } from 'vitest'
import type { Revision } from '../../src/common/ids.ts'
import type { OrderedStore, ReadView, Transaction } from '../../src/meta/ports.ts'
import { bytes, key, rowTexts, text } from './ordered-store-rows.ts'

type Operation =
  | { readonly kind: 'get' | 'delete'; readonly name: string }
  | { readonly kind: 'put'; readonly name: string; readonly value: string }
  | {
      readonly kind: 'scan'
      readonly from: string
      readonly to: string
      readonly limit: number
      readonly reverse: boolean
    }
  | { readonly kind: 'pause' }

type Plan = readonly Operation[]

const anyName = fc.string({ unit: fc.constantFrom('a', 'b', '\0', '\xff'), minLength: 1, maxLength: 2 })
const anyOperation: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({ kind: fc.constantFrom('get' as const, 'delete' as const), name: anyName }),
  fc.record({ kind: fc.constant('put' as const), name: anyName, value: fc.string({ maxLength: 3 }) }),
  fc.record({
    kind: fc.constant('scan' as const),
    from: anyName,
    to: anyName,
    limit: fc.integer({ min: 0, max: 5 }),
    reverse: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('pause' as const) }),
)

/** What one transaction or read does. */
export const anyPlan: fc.Arbitrary<Plan> = fc.array(anyOperation, { maxLength: 6 })

export interface Run {
  readonly plan: Plan
  readonly seen: readonly unknown[]
  readonly revision: Revision
  readonly wrote: boolean
  /** Place among the runs of this process, by when their ends were told. */
  readonly toldAt: number
}

let told = 0

/** Pauses come before the transaction, so that plans meet groups of commits at different stages. */
export async function runPlan(store: OrderedStore, plan: Plan, index: number): Promise<Run> {
  for (const operation of plan) if (operation.kind === 'pause') await new Promise(setImmediate)
  const wrote = plan.some((operation) => operation.kind === 'put' || operation.kind === 'delete')
  if (wrote || index % 2 === 0) {
    const committed = await store.transact((tx) => perform(tx, plan))
    return { plan, seen: committed.value, revision: committed.revision, wrote, toldAt: told++ }
  }
  const found = await store.read(async (view) => ({ seen: await perform(view, plan), revision: view.revision }))
  return { plan, ...found, wrote, toldAt: told++ }
}

async function perform(view: ReadView, plan: Plan): Promise<unknown[]> {
  const seen: unknown[] = []
  const tx = view as Transaction
  for (const operation of plan) {
    switch (operation.kind) {
      case 'get':
        seen.push(text(await view.get(key(operation.name))))
        break
      case 'put':
        tx.put(key(operation.name), bytes(operation.value))
        break
      case 'delete':
        tx.delete(key(operation.name))
        break
      case 'scan': {
        const range = { start: key(operation.from), end: key(operation.to) }
        seen.push(rowTexts(await view.scan(range, operation.limit, operation.reverse)))
        break
      }
      case 'pause':
        break
    }
  }
  return seen
}

/**
 * Writers in the order of their revisions, and each reader at its revision, saw what a model shows them. Where several writers may share a revision (C3) those of
 * one revision come in the order in which they were told.
 */
export function expectSerial(runs: readonly Run[], { sharedRevisions = false } = {}): void {
  const model = new Map<string, string>()
  const writers = runs.filter((run) => run.wrote).toSorted((a, b) => a.revision - b.revision || a.toldAt - b.toldAt)
  const expectReads = (revision: Revision): void => {
    for (const run of runs) {
      if (!run.wrote && run.revision === revision) expect(run.seen).toEqual(replay(new Map(model), run.plan))
    }
  }
  const revisions = new Set([0, ...runs.map((run) => run.revision)])
  for (const revision of [...revisions].toSorted((a, b) => a - b)) {
    const together = writers.filter((run) => run.revision === revision)
    if (!sharedRevisions) expect(together.length).toBeLessThanOrEqual(1)
    for (const run of together) expect(run.seen).toEqual(replay(model, run.plan))
    expectReads(revision)
  }
}

function replay(model: Map<string, string>, plan: Plan): unknown[] {
  const seen: unknown[] = []
  for (const operation of plan) {
    switch (operation.kind) {
      case 'get':
        seen.push(model.get(operation.name))
        break
      case 'put':
        model.set(operation.name, Buffer.from(operation.value, 'latin1').toString('latin1'))
        break
      case 'delete':
        model.delete(operation.name)
        break
      case 'scan': {
        const names = [...model.keys()].filter((name) => name >= operation.from && name < operation.to).sort()
        if (operation.reverse) names.reverse()
        seen.push(names.slice(0, operation.limit).map((name) => `${name}=${model.get(name)}`))
        break
      }
      case 'pause':
        break
    }
  }
  return seen
}
