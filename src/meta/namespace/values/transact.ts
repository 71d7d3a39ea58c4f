/**
 * A transaction of values: all compares, then one of two lists of operations, in one transaction of the store, with one idea
 * of what time it is. It is done wholly or not at all; one too large for the store is refused by it (C2).
 */
import { TidegateError } from '../../../common/errors.ts'
import { unreachable } from '../../../common/assert.ts'
import type { ByteString, InodeId, Revision } from '../../../common/ids.ts'
import type { Limits } from '../../../common/limits.ts'
import {
  beginStep,
  endStep,
  leaseInodes,
  versionMade,
  withRevision,
  type Commit,
  type NamespaceContext,
} from '../context.ts'
import { validateKey, validateNewKey } from '../names.ts'
import { inodesForKey } from '../publish.ts'
import { evaluate, type KnownBody, type ValueCompare, type Verdict } from './compares.ts'
import { makes, operate, writes, type ValueOperation, type ValueOutcome, type Writer } from './operations.ts'

/** What one lease may hold (id-sequence.ts). So many directories are far more rows than stores commit at once. */
const INODES_MAX = 16_384

export interface TransactRequest extends Writer {
  readonly bucket: string
  readonly compares: readonly ValueCompare[]
  /** Done when all compares hold. */
  readonly then: readonly ValueOperation[]
  readonly else: readonly ValueOperation[]
  readonly known: readonly KnownBody[]
}

export type TransactResult =
  | { readonly kind: 'done'; readonly succeeded: boolean; readonly outcomes: readonly ValueOutcome[] }
  /** Nothing was written. */
  | Extract<Verdict, { kind: 'undecided' }>

interface PreparedOperation {
  readonly operation: ValueOperation
  readonly keyBytes: ByteString
}

/**
 * @throws NoSuchBucket, InvalidKey, KeyTooLong, InvalidCounter, TransactionTooLarge; InvalidArgument when a branch writes a
 * key twice
 */
export async function transactValues(
  context: NamespaceContext,
  request: TransactRequest,
): Promise<Commit<TransactResult>> {
  const { limits } = context
  const compares = request.compares.map((compare) => ({ compare, keyBytes: validateKey(compare.key, limits) }))
  const whenHeld = prepare(request.then, limits)
  const otherwise = prepare(request.else, limits)
  const ids = await leaseFor(context, [whenHeld, otherwise])
  const writer: Writer = { owner: request.owner, ack: request.ack }
  const committed = context.store.transact(async (tx): Promise<TransactResult> => {
    const step = await beginStep(context, tx, request.bucket, ids)
    const verdict = await evaluate(step, compares, request.known)
    if (verdict.kind === 'undecided') return verdict
    const outcomes: ValueOutcome[] = []
    for (const prepared of verdict.hold ? whenHeld : otherwise) outcomes.push(await operate(step, prepared, writer))
    endStep(step)
    return { kind: 'done', succeeded: verdict.hold, outcomes }
  })
  return withRevision(context, committed, (result, revision) =>
    result.kind === 'done'
      ? { ...result, outcomes: result.outcomes.map((outcome) => outcomeMade(outcome, revision)) }
      : result,
  )
}

function outcomeMade(outcome: ValueOutcome, revision: Revision): ValueOutcome {
  switch (outcome.op) {
    case 'put':
    case 'increment':
      return { ...outcome, version: versionMade(outcome.version, revision) }
    case 'get':
      return { ...outcome, version: outcome.version && versionMade(outcome.version, revision) }
    case 'exists':
    case 'delete':
      return outcome
    default:
      return unreachable(outcome, 'outcome')
  }
}

/** Checks the keys of a branch. No version may be replaced by one of the same revision, so no key is written twice. */
function prepare(branch: readonly ValueOperation[], limits: Limits): PreparedOperation[] {
  const written = new Set<ByteString>()
  return branch.map((operation) => {
    const keyBytes = (makes(operation) ? validateNewKey : validateKey)(operation.key, limits)
    if (writes(operation)) {
      if (written.has(keyBytes)) throw writtenTwice(operation.key)
      written.add(keyBytes)
    }
    return { operation, keyBytes }
  })
}

function writtenTwice(key: string): TidegateError {
  return new TidegateError('InvalidArgument', `the transaction writes ${JSON.stringify(key)} twice`, {
    details: { key },
  })
}

/** Ids for whichever branch is taken. */
async function leaseFor(
  context: NamespaceContext,
  branches: readonly (readonly PreparedOperation[])[],
): Promise<{ first: InodeId; count: number } | undefined> {
  const count = Math.max(...branches.map(inodesFor))
  if (count > INODES_MAX) {
    throw new TidegateError('TransactionTooLarge', `the keys written lie in ${count} directories, over ${INODES_MAX}`)
  }
  return count > 0 ? leaseInodes(context, count) : undefined
}

/** Inode ids that a branch may need: one for each key, one for each directory that any of them lies in. */
function inodesFor(branch: readonly PreparedOperation[]): number {
  const written = branch.filter(({ operation }) => writes(operation)).map(({ keyBytes }) => keyBytes)
  const count = written.reduce((sum, keyBytes) => sum + inodesForKey(keyBytes), 0)
  if (count <= INODES_MAX) return count
  const directories = new Set<string>()
  for (const key of written) {
    for (let slash = key.indexOf('/'); slash >= 0; slash = key.indexOf('/', slash + 1)) {
      directories.add(key.slice(0, slash + 1))
    }
  }
  return written.length + directories.size
}
