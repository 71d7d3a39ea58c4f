/**
 * A key-value store as one person alone would use it. Values are unique in a history, so a value says which write made it.
 * Revisions are held to what C3 says: a commit's is greater than that of every commit before it, and a key keeps the one it
 * was written with. A write whose answer was lost has an unknown revision, which fits any.
 */
import type { HistoryEntry, SequentialModel } from './checker.ts'

export type KvOperation =
  | { readonly kind: 'get'; readonly key: string }
  | { readonly kind: 'put'; readonly key: string; readonly value: string }
  | { readonly kind: 'delete'; readonly key: string }
  /** Only if the key holds this value now; undefined: only if there is none. Sent as If-Match by revision. */
  | { readonly kind: 'cas'; readonly key: string; readonly expected: string | undefined; readonly value: string }
  | { readonly kind: 'increment'; readonly key: string; readonly delta: number }
  /** If all compares hold the puts are done, else the keys compared are read. */
  | {
      readonly kind: 'transaction'
      readonly compares: readonly { readonly key: string; readonly expected: string | undefined }[]
      readonly puts: readonly { readonly key: string; readonly value: string }[]
    }
  | { readonly kind: 'scan' }

export interface Seen {
  readonly value: string
  readonly revision: number
}

export type KvOutput =
  | { readonly kind: 'found'; readonly seen: Seen | undefined }
  | { readonly kind: 'written'; readonly revision: number; readonly value?: string }
  | { readonly kind: 'deleted'; readonly existed: boolean; readonly revision: number }
  | { readonly kind: 'refused' }
  | { readonly kind: 'read'; readonly seen: readonly (Seen | undefined)[] }
  | { readonly kind: 'scanned'; readonly seen: readonly (Seen & { readonly key: string })[] }

interface Held {
  readonly value: string
  /** Undefined after a write whose answer was lost. */
  readonly revision: number | undefined
}

export interface KvState {
  readonly held: ReadonlyMap<string, Held>
  /** Of the last commit that told it. */
  readonly revision: number
}

export type KvModel = SequentialModel<KvState, KvOperation, KvOutput>

/** The lowest revision that a commit of this key may have. */
type Follows = (state: KvState, key: string) => number

export const kvModel: KvModel = modelOf(({ revision }) => revision + 1)

export const packedKvModel: KvModel = modelOf(({ held, revision }, key) => {
  const own = held.get(key)?.revision
  return own === undefined ? revision : Math.max(revision, own + 1)
})

function modelOf(first: Follows): KvModel {
  return {
    initial: { held: new Map(), revision: 0 },
    place: (output) =>
      output.kind === 'written' || (output.kind === 'deleted' && output.existed) ? output.revision : undefined,
    fingerprint: ({ held, revision }) =>
      `${revision} ${[...held]
        .map(([key, { value, revision: own }]) => `${key}=${value}@${own ?? '?'}`)
        .sort()
        .join(' ')}`,
    step(state, operation, output) {
      switch (operation.kind) {
        case 'get':
          return output?.kind !== 'found' || matches(state, operation.key, output.seen) ? state : undefined
        case 'scan':
          return output?.kind !== 'scanned' || matchesScan(state, output.seen) ? state : undefined
        case 'put':
          return write(first, state, [operation], output)
        case 'delete':
          return remove(first, state, operation.key, output)
        case 'cas': {
          const holds = state.held.get(operation.key)?.value === operation.expected
          if (output?.kind === 'refused') return holds ? undefined : state
          return holds ? write(first, state, [operation], output) : output === undefined ? state : undefined
        }
        case 'increment':
          return increment(first, state, operation, output)
        case 'transaction':
          return transact(first, state, operation, output)
        default:
          throw new Error(`no such operation: ${JSON.stringify(operation satisfies never)}`)
      }
    },
  }
}

type KvEntry = HistoryEntry<KvOperation, KvOutput>

/**
 * Writes whose answers were lost, but whose values somebody saw: they took effect, and what was seen says at which revision. Values
 * are unique, so there is no doubt whose they are; but not those of counters.
 */
export function withLearnedOutcomes(history: readonly KvEntry[]): KvEntry[] {
  const revisions = new Map<string, number>()
  for (const { output } of history) for (const { value, revision } of seenBy(output)) revisions.set(value, revision)
  return history.map((entry) => {
    if (entry.output !== undefined) return entry
    const revision = valuesWritten(entry.operation)
      .map((value) => revisions.get(value))
      .find((seen) => seen !== undefined)
    return revision === undefined ? entry : { ...entry, output: { kind: 'written', revision } }
  })
}

function seenBy(output: KvOutput | undefined): readonly Seen[] {
  if (output?.kind === 'found') return output.seen === undefined ? [] : [output.seen]
  if (output?.kind === 'scanned') return output.seen
  return output?.kind === 'read' ? output.seen.filter((seen) => seen !== undefined) : []
}

function valuesWritten(operation: KvOperation): string[] {
  if (operation.kind === 'put' || operation.kind === 'cas') return [operation.value]
  return operation.kind === 'transaction' ? operation.puts.map(({ value }) => value) : []
}

function matches(state: KvState, key: string, seen: Seen | undefined): boolean {
  const held = state.held.get(key)
  if (held === undefined || seen === undefined) return held === undefined && seen === undefined
  return held.value === seen.value && (held.revision === undefined || held.revision === seen.revision)
}

function matchesScan(state: KvState, seen: readonly (Seen & { key: string })[]): boolean {
  return seen.length === state.held.size && seen.every((entry) => matches(state, entry.key, entry))
}

function write(
  first: Follows,
  state: KvState,
  puts: readonly { key: string; value: string }[],
  output: KvOutput | undefined,
): KvState | undefined {
  if (output !== undefined && output.kind !== 'written') return undefined
  const revision = output?.revision
  if (revision !== undefined && puts.some(({ key }) => revision < first(state, key))) return undefined
  const held = new Map(state.held)
  for (const { key, value } of puts) held.set(key, { value, revision })
  return { held, revision: revision ?? state.revision }
}

function remove(first: Follows, state: KvState, key: string, output: KvOutput | undefined): KvState | undefined {
  const existed = state.held.has(key)
  if (output !== undefined && (output.kind !== 'deleted' || output.existed !== existed)) return undefined
  if (!existed) return state
  const revision = output?.kind === 'deleted' ? output.revision : undefined
  if (revision !== undefined && revision < first(state, key)) return undefined
  const held = new Map(state.held)
  held.delete(key)
  return { held, revision: revision ?? state.revision }
}

function increment(
  first: Follows,
  state: KvState,
  operation: Extract<KvOperation, { kind: 'increment' }>,
  output: KvOutput | undefined,
): KvState | undefined {
  const value = String(Number(state.held.get(operation.key)?.value ?? '0') + operation.delta)
  if (output?.kind === 'written' && output.value !== value) return undefined
  return write(first, state, [{ key: operation.key, value }], output)
}

function transact(
  first: Follows,
  state: KvState,
  operation: Extract<KvOperation, { kind: 'transaction' }>,
  output: KvOutput | undefined,
): KvState | undefined {
  const holds = operation.compares.every(({ key, expected }) => state.held.get(key)?.value === expected)
  if (output === undefined) return holds ? write(first, state, operation.puts, undefined) : state
  if (output.kind === 'read') {
    const agrees = operation.compares.every(({ key }, index) => matches(state, key, output.seen[index]))
    return !holds && agrees ? state : undefined
  }
  return holds ? write(first, state, operation.puts, output) : undefined
}
