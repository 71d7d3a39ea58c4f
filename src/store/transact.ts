/**
 * A transaction over the keys of a bucket, in the order in which it happens:
 *
 *   1. the bodies that both branches put are taken over, and those that do not lie inline are journaled, as a put's are:
 *      metadata decides which branch is taken, and by then its bytes must be safe (C15);
 *   2. a reader is begun, so that nothing that the transaction finds can be reclaimed before it is read (C12);
 *   3. metadata compares and writes in one transaction. A compare with a body that lies in a segment it cannot decide: it
 *      writes nothing and says which one; the bytes are compared here, outside of any transaction, and it is asked again.
 *      What was found stays true, since the content of an inode never changes; another inode may be there by then, and the
 *      next round asks about that one;
 *   4. the commit is waited for as the level asks. One that only reads is waited for at every level: what it has read must be
 *      durable before it is told, as for any read;
 *   5. bodies of the branch that was not taken are given back; of the other, segments are persisted and keys named if the level asks,
 *      or, when it deletes too, everything up to the commit.
 */
import { assert, must } from '../common/assert.ts'
import { TidegateError } from '../common/errors.ts'
import type { Revision, SegmentId } from '../common/ids.ts'
import type { Limits } from '../common/limits.ts'
import type { AckLevel, ObjectVersion } from '../common/model.ts'
import type { Acknowledgement } from './acknowledgement.ts'
import type { OpenBodies, TakenBody } from './bodies.ts'
import type {
  MetadataOperation,
  MetadataOutcome,
  MetadataTransactRequest,
  MetadataTransactResult,
  TransactionOperation,
  TransactionOutcome,
  TransactionRequest,
  TransactionResult,
} from './kv-types.ts'
import type { Commit, Metadata } from './ports.ts'
import { inlineBody, journaledBody } from './publish-body.ts'
import type { Readers } from './reading.ts'
import type { ReaderId } from './types.ts'

export interface TransactParts {
  readonly metadata: Metadata
  readonly bodies: OpenBodies
  readonly readers: Readers
  readonly acknowledgement: Acknowledgement
  readonly limits: Limits
}

type Decided = Extract<MetadataTransactResult, { kind: 'done' }>

type Put = Extract<TransactionOperation, { op: 'put' }>

/** Rounds lost to writers who replace a value while it is compared, before the caller is told to try again. */
const COMPARE_RACES_MAX = 8

export async function transact(parts: TransactParts, request: TransactionRequest): Promise<TransactionResult> {
  const { metadata, acknowledgement, readers } = parts
  const { bucket, compares, owner } = request
  const bodies = new Map<Put, TakenBody>()
  let reader: ReaderId | undefined
  try {
    await takeBodies(parts.bodies, request, bodies)
    const ack = acknowledgement.level(request.ack, await metadata.bucket(bucket))
    const puts = await preparePuts(parts, { bucket, bodies, ack })
    const prepared = (operation: TransactionOperation): MetadataOperation =>
      operation.op === 'put' ? must(puts.get(operation), 'prepared put') : operation
    const holder = readers.begin(metadata.revision())
    reader = holder
    const branches = { then: request.then.map(prepared), else: request.else.map(prepared) }
    const { commit, decided } = await decide(parts, holder, { bucket, compares, owner, ack, ...branches })
    const taken = decided.succeeded ? request.then : request.else
    await acknowledgement.durable(taken.some(writes) ? ack : 'journal', commit)
    for (const operation of taken) {
      if (operation.op === 'put') bodies.get(operation)?.done()
    }
    await discardAll(bodies)
    await acknowledgement.persisted(ack, segmentsOf(decided.succeeded ? branches.then : branches.else))
    await told(acknowledgement, { ack, outcomes: decided.outcomes, revision: commit.revision })
    // Nothing can fail from here on, so no reader of an outcome is left open.
    const outcomes = decided.outcomes.map((outcome) => withReader(outcome, readers, holder))
    return { succeeded: decided.succeeded, outcomes, revision: commit.revision }
  } catch (error) {
    await discardAll(bodies, error)
    throw error
  } finally {
    if (reader !== undefined) readers.close(reader)
  }
}

async function takeBodies(bodies: OpenBodies, request: TransactionRequest, taken: Map<Put, TakenBody>): Promise<void> {
  for (const operation of [...request.then, ...request.else]) {
    if (operation.op === 'put' && !taken.has(operation)) taken.set(operation, await bodies.take(operation.body))
  }
}

function writes({ op }: TransactionOperation): boolean {
  return op !== 'get' && op !== 'exists'
}

/** A no-op for those that are published. */
async function discardAll(bodies: ReadonlyMap<Put, TakenBody>, failure?: unknown): Promise<void> {
  for (const body of bodies.values()) await body.discard(failure)
}

/** Makes the bodies of puts as safe as they must be before a commit may name them. */
async function preparePuts(
  { acknowledgement, limits }: TransactParts,
  { bucket, bodies, ack }: { bucket: string; bodies: ReadonlyMap<Put, TakenBody>; ack: AckLevel },
): Promise<Map<Put, MetadataOperation>> {
  const prepared = new Map<Put, MetadataOperation>()
  const prepare = async (put: Put, taken: TakenBody): Promise<void> => {
    const { key, attributes, ttlMs } = put
    const label = { bucket, key, attributes, ttlMs }
    const body = inlineBody(taken, limits) ?? (await journaledBody(taken, { acknowledgement, ack, label }))
    prepared.set(put, { ...put, body, size: taken.length, etag: taken.digests.md5 })
  }
  // All at once, so that they share a sync; and all of them settle before one's failure gives back what was journaled.
  const outcomes = await Promise.allSettled([...bodies].map(([put, taken]) => prepare(put, taken)))
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
  return prepared
}

type KnownCompare = MetadataTransactRequest['known'][number]

/** Asks metadata until it needs to know no more. @throws ConditionalRequestConflict when values change faster than that */
async function decide(
  { metadata, readers }: TransactParts,
  holder: ReaderId,
  request: Omit<MetadataTransactRequest, 'known'>,
): Promise<{ commit: Commit<unknown>; decided: Decided }> {
  const known: KnownCompare[] = []
  const valuesCompared = request.compares.filter(({ target }) => target === 'value').length
  for (let round = 0; round <= valuesCompared + COMPARE_RACES_MAX; round++) {
    const commit = await metadata.transactValues({ ...request, known })
    if (commit.value.kind === 'done') return { commit, decided: commit.value }
    const { compare, version } = commit.value
    const { target, operand } = must(request.compares[compare], 'compare that is undecided')
    assert(target === 'value', 'only a compare with a value needs bytes')
    const { body } = version
    assert(body.kind !== 'inline', 'bytes that lie inline are compared by metadata')
    const content = body.kind === 'content' ? body.content : body.external
    known.push({ content, operand, equal: await holdsBytes(readers, { holder, version, bytes: operand }) })
  }
  throw new TidegateError('ConditionalRequestConflict', 'values that are compared change too fast: try again')
}

/** Whether these are the bytes of an object. */
async function holdsBytes(
  readers: Readers,
  { holder, version, bytes }: { holder: ReaderId; version: ObjectVersion; bytes: Uint8Array },
): Promise<boolean> {
  const { size, body } = version
  if (size !== bytes.length) return false
  if (body.kind === 'inline') return Buffer.compare(body.bytes, bytes) === 0
  const reader = readers.openWith(holder, version)
  try {
    for (let offset = 0; offset < size;) {
      const slice = await readers.read(reader, offset, size - offset)
      try {
        const expected = bytes.subarray(offset, offset + slice.length)
        if (Buffer.compare(readers.view(slice), expected) !== 0) return false
      } finally {
        readers.release(slice.lease)
      }
      offset += slice.length
    }
    return true
  } finally {
    readers.close(reader)
  }
}

/** Names are told one by one, in one object; what is gone has none, so then all that there is up to the commit is waited for. */
async function told(
  acknowledgement: Acknowledgement,
  { ack, outcomes, revision }: { ack: AckLevel; outcomes: readonly MetadataOutcome[]; revision: Revision },
): Promise<void> {
  const made = versionsMade(outcomes)
  const deletes = outcomes.some((outcome) => outcome.op === 'delete' && outcome.existed)
  if (deletes && made.length > 0) await acknowledgement.covered(ack, revision, made)
  else await Promise.all(made.map((version) => acknowledgement.named(ack, version)))
}

function segmentsOf(operations: readonly MetadataOperation[]): SegmentId[] {
  const segments = new Set<SegmentId>()
  for (const operation of operations) {
    if (operation.op === 'put' && operation.body.kind === 'run') segments.add(operation.body.run.segment)
  }
  return [...segments]
}

function versionsMade(outcomes: readonly MetadataOutcome[]): ObjectVersion[] {
  return outcomes.flatMap((outcome) => (outcome.op === 'put' || outcome.op === 'increment' ? [outcome.version] : []))
}

function withReader(outcome: MetadataOutcome, readers: Readers, holder: ReaderId): TransactionOutcome {
  if (outcome.op !== 'get') return outcome
  const { version } = outcome
  return {
    ...outcome,
    reader: version && version.body.kind !== 'inline' ? readers.openWith(holder, version) : undefined,
  }
}
