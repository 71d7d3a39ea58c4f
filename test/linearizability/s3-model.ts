/** A bucket as one person alone would use it through S3. Values are unique in a history, so a value, or its ETag, says which PUT made it. */
import type { HistoryEntry, SequentialModel } from './checker.ts'

export type S3Operation =
  | { readonly kind: 'get'; readonly key: string }
  /** `expected`: If-Match with that value's ETag; null: If-None-Match; undefined: whatever is there. */
  | {
      readonly kind: 'put'
      readonly key: string
      readonly value: string
      readonly expected: string | null | undefined
    }
  | { readonly kind: 'delete'; readonly key: string }
  | { readonly kind: 'list' }

export type S3Output =
  | { readonly kind: 'found'; readonly value: string | undefined }
  | { readonly kind: 'written' }
  | { readonly kind: 'refused' }
  | { readonly kind: 'deleted' }
  | { readonly kind: 'listed'; readonly values: Readonly<Record<string, string>> }

export type S3Entry = HistoryEntry<S3Operation, S3Output>
export type S3State = ReadonlyMap<string, string>

export const s3Model: SequentialModel<S3State, S3Operation, S3Output> = {
  initial: new Map(),
  fingerprint: (state) => JSON.stringify([...state].map((row) => JSON.stringify(row)).toSorted()),
  step(state, operation, output) {
    switch (operation.kind) {
      case 'get':
        return output?.kind !== 'found' || output.value === state.get(operation.key) ? state : undefined
      case 'list':
        return output?.kind !== 'listed' || isListed(state, output.values) ? state : undefined
      case 'delete':
        // S3 does not tell whether there was one: it is no read, that could be taken early because it changes nothing there.
        if (!state.has(operation.key)) return output === undefined ? state : new Map(state)
        return new Map([...state].filter(([key]) => key !== operation.key))
      case 'put': {
        const { key, value, expected } = operation
        const holds = expected === undefined || (expected ?? undefined) === state.get(key)
        if (output?.kind === 'refused') return holds ? undefined : state
        if (holds) return new Map([...state, [key, value]])
        return output === undefined ? state : undefined
      }
      default:
        throw new Error(`no such operation: ${JSON.stringify(operation satisfies never)}`)
    }
  },
}

function isListed(state: S3State, values: Readonly<Record<string, string>>): boolean {
  const entries = Object.entries(values)
  return entries.length === state.size && entries.every(([key, value]) => state.get(key) === value)
}

/** PUTs whose answers were lost, but whose values somebody saw: they took effect. */
export function withSeenWritten(history: readonly S3Entry[]): S3Entry[] {
  const seen = new Set(history.flatMap(({ output }) => valuesSeen(output)))
  return history.map((entry) =>
    entry.output === undefined && entry.operation.kind === 'put' && seen.has(entry.operation.value)
      ? { ...entry, output: { kind: 'written' } }
      : entry,
  )
}

function valuesSeen(output: S3Output | undefined): readonly string[] {
  if (output?.kind === 'found') return output.value === undefined ? [] : [output.value]
  return output?.kind === 'listed' ? Object.values(output.values) : []
}
