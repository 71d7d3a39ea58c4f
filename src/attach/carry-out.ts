/**
 * Brings the external bucket up to one dirty key: an upload, a copy over there, a removal, or new attributes; then says so in the namespace (`settle`).
 *
 *   read the state --> held back by others? --> write on condition of the base --> HEAD --> settle
 *                                                    | what lies there is not the base
 *                                                    v
 *                                         ours already? --> settle
 *                                         else the policy decides (conflicts.ts): again on condition of what was seen, list, set aside, take theirs
 *
 * Killed at any line, it is begun again from the row, which goes with `settle` only: what was written outside meanwhile is found by the condition
 * and is recognised as ours. Nothing of theirs is ever written over that was not seen, except in a bucket that was attached with `last-writer-wins` in words.
 *
 * Known gaps: tags are set without a condition, there is none, right after the ETag was looked at. Where a store decides no conditions on the end of an upload in
 * parts, or on copies, what fits goes up as one conditional PUT instead; over 5 GiB the ETag is looked at right before, and a write
 * from outside between that look and the end of the upload is not seen. A first upload that was given up, and reaches the store only after its key has been
 * deleted here and nothing was found to be deleted there, shows as an object of somebody else's: its condition (nothing is there) is met.
 */
import { unreachable } from '../common/assert.ts'
import type { Clock } from '../common/clock.ts'
import { TidegateError } from '../common/errors.ts'
import type { ExternalBody } from '../common/external.ts'
import type { Revision, SegmentId } from '../common/ids.ts'
import type { ObjectVersion } from '../common/model.ts'
import { lacking } from './attach-checks.ts'
import type { Attached } from './attached.ts'
import { Content, isGone, type ContentReader, type ContentReading } from './carry-out-content.ts'
import { PLAN_LIMITS, type PlanLimits } from './carry-out-plan.ts'
import { compareWithOurs, type Sameness } from './carry-out-same.ts'
import { isRoom, makeRoom } from './carry-out-room.ts'
import { findLeft } from './carry-out-left.ts'
import { findState, neededFor, sourcesOf } from './carry-out-state.ts'
import { writeOutside, type Writing } from './carry-out-write.ts'
import { baseOf, conflictKey, decide, expectedOf } from './conflicts.ts'
import type {
  AttachedNames,
  Base,
  DirtyState,
  Expected,
  ExternalBucket,
  ExternalCapabilities,
  ExternalDescription,
} from './ports.ts'

export interface CarryOutParts {
  readonly names: AttachedNames
  readonly contents: ContentReader
  readonly clock: Clock
  readonly fillRandom: (bytes: Uint8Array) => void
  readonly planLimits?: PlanLimits
}

export interface CarryOutRequest {
  readonly attached: Attached
  readonly key: string
  readonly signal: AbortSignal
  /** Others hold it back that it holds back itself: what they need of it is copied elsewhere first (carry-out-room.ts). */
  readonly makeRoom?: boolean | undefined
  /** Called when nothing holds it back, before anything is written at it outside. */
  readonly onWriting?: (() => void) | undefined
  /** Whether another key of the bucket has come that far, and is not done. */
  readonly isBeingWritten?: ((key: string) => boolean) | undefined
}

export type CarriedOut =
  /** Nothing is left to be done. `through`: up to which change here it is carried out; undefined: it was done before. */
  | { readonly kind: 'clean'; readonly through: Revision | undefined }
  /** So far it is carried out, and the key was changed again meanwhile. */
  | { readonly kind: 'changed'; readonly through: Revision }
  /** Nothing was done: it changed while it was looked at, or a directory above is being renamed. */
  | { readonly kind: 'again' }
  /** Other keys go first. */
  | { readonly kind: 'held'; readonly by: readonly string[] }
  /** It is listed as a conflict already, and waits for somebody's decision. */
  | { readonly kind: 'undecided' }
  /** Both sides changed it: ours is listed, is under another key now, or gave way. */
  | { readonly kind: 'conflict'; readonly ended: 'listed' | 'set-aside' | 'gave-way'; readonly as?: string | undefined }

/** One carry-out, from the state that it was begun with. */
interface Run extends CarryOutParts, CarryOutRequest {
  readonly external: ExternalBucket
  readonly capabilities: ExternalCapabilities
  readonly bucketId: number
  readonly state: DirtyState
  readonly sources: ReadonlyMap<SegmentId, ExternalBody>
  readonly content: Content | undefined
}

/** Tries of one key in a row, each on condition of what the last one saw. */
const TRIES_MAX = 5

/** @throws what the external store refuses or fails with, and what reading the bytes here does */
export async function carryOut(parts: CarryOutParts, request: CarryOutRequest): Promise<CarriedOut> {
  const { attached, key, signal } = request
  const { capabilities, external } = attached
  const { bucketId, bucket } = attached.record
  if (!capabilities) throw new TidegateError('Unavailable', `the store behind ${bucket} could not be asked yet`)
  refuseUnseen(attached.record, capabilities)
  const reading: ContentReading = parts.contents.open(bucketId)
  try {
    const found = await findState(parts.names, { bucketId, key })
    if (found.kind === 'clean') return { kind: 'clean', through: undefined }
    if (found.kind === 'moving') return { kind: 'again' }
    const { state } = found
    if (state.dirty.conflict) return { kind: 'undecided' }
    const { by, byOpenFile } = await neededFor(parts.names, { bucketId, key }, state)
    if (by.length > 0 || byOpenFile) {
      const room = { names: parts.names, attached, capabilities, state, signal }
      const mayMake = (request.makeRoom || byOpenFile) && !isRoom(key)
      const made = mayMake ? await makeRoom(room) : 'none'
      if (made === 'made') return { kind: 'again' }
      if (made === 'none') return { kind: 'held', by }
    }
    const content = state.version && new Content(state.version, reading, signal)
    const sources = await sourcesOf(parts.names, bucketId, state)
    request.onWriting?.()
    return await carry({ ...parts, ...request, external, capabilities, bucketId, state, sources, content })
  } finally {
    reading.close()
  }
}

/**
 * The store was able to when the bucket was attached, and is not any more: it was exchanged, or something on the way takes the conditions away.
 * @throws NotImplemented
 */
function refuseUnseen({ bucket, conflicts }: Attached['record'], capabilities: ExternalCapabilities): void {
  const missing = lacking(conflicts, capabilities)
  if (missing === undefined) return
  const why = `so what was changed outside could be overwritten unseen, which conflict policy ${conflicts} forbids`
  throw new TidegateError('NotImplemented', `the store behind ${bucket} has no ${missing} any more, ${why}`)
}

async function carry(run: Run): Promise<CarriedOut> {
  const { attached, external, key, signal, state } = run
  let expected = await firstExpected(run)
  let bytesOnly = false
  for (let tries = 1; ; tries++) {
    run.content?.forgive()
    let written: string | undefined
    try {
      written = await write(run, { expected, bytesOnly })
      return await settled(run, await external.head(key, signal), written)
    } catch (error) {
      if (!isGone(error)) {
        // An ETag that nobody could tell before.
        if (written !== undefined) await noteTried(run, { kind: 'etag', etag: written, size: state.version?.size ?? 0 })
        throw error
      }
    }
    const readFailed = run.content?.failure !== undefined
    const seen = await external.head(key, signal)
    if (isUntouched(state.version)) return await settled(run, seen)
    const sameness = await compare(run, seen)
    if (sameness === 'likely') await noteTried(run, baseOf(seen))
    if (sameness !== 'other') return await settled(run, seen, sameness === 'same' ? seen?.etag : undefined)
    // Of what is carried out by now the rest is to be found in what we have left there, or are about to leave.
    if (await findLeft(run)) return { kind: 'again' }
    if (matches(seen, expected)) {
      // So it is not the target: the object that its bytes lie in is another one now. They may still be had from the cache.
      if (readFailed) return await listed(run, seen)
      if (bytesOnly || tries >= TRIES_MAX) throw keptChanging(key)
      bytesOnly = true
      continue
    }
    if (wasLeftByUs(run, seen) && tries < TRIES_MAX) {
      expected = expectedOf(baseOf(seen))
      continue
    }
    const decision = decide(attached.record.conflicts, state.version !== undefined, seen)
    switch (decision) {
      case 'ours':
        // After some rounds somebody writes all the time; who said "last writer wins" means it.
        if (tries < TRIES_MAX) expected = expectedOf(baseOf(seen))
        else if (attached.record.conflicts === 'last-writer-wins' && expected.kind !== 'anything') {
          expected = { kind: 'anything' }
        } else throw keptChanging(key)
        continue
      case 'list':
        return await listed(run, seen)
      case 'set-aside':
        return await setAside(run, seen)
      case 'theirs':
        return await gaveWay(run, seen)
      default:
        return unreachable(decision, 'decision')
    }
  }
}

/** The base; or, of what is gone here and had none, an upload of ours whose answer was lost. */
async function firstExpected({ state, external, key, signal, ...run }: Run): Promise<Expected> {
  const { base, tried = [] } = state.dirty
  if (state.version || base.kind === 'etag' || tried.length === 0) return expectedOf(base)
  const seen = await external.head(key, signal)
  return seen && wasLeftByUs({ ...run, state }, seen) ? expectedOf(baseOf(seen)) : expectedOf(base)
}

/** Whether it is what an earlier try was about to leave there: an older state of ours, which is no conflict. */
function wasLeftByUs({ state }: Pick<Run, 'state'>, seen: ExternalDescription | undefined): boolean {
  const { tried = [] } = state.dirty
  return tried.some((base) => (base.kind === 'etag' ? base.etag === seen?.etag : seen === undefined))
}

/** Whoever is killed, or is not answered, and whose key is changed before the next try, knows his own work by it. */
async function noteTried({ names, bucketId, key, state }: Run, tried: Base): Promise<void> {
  if (state.dirty.tried?.some((known) => isSameBase(known, tried))) return
  await (
    await names.noteTried({ bucketId, key, tried })
  ).durable
}

function isSameBase(one: Base, other: Base): boolean {
  if (one.kind === 'absent' || other.kind === 'absent') return one.kind === other.kind
  return one.etag === other.etag && one.size === other.size
}

function keptChanging(key: string): TidegateError {
  return new TidegateError('Unavailable', `${JSON.stringify(key)} changes outside faster than it can be looked at`)
}

/** Whether what was expected is what was seen, so that a refusal is none of the target's. */
function matches(seen: ExternalDescription | undefined, expected: Expected): boolean {
  switch (expected.kind) {
    case 'anything':
      return true
    case 'absent':
      return seen === undefined
    case 'etag':
      return seen?.etag === expected.etag
    default:
      return unreachable(expected, 'expectation')
  }
}

async function write(
  run: Run,
  options: { readonly expected: Expected; readonly bytesOnly: boolean },
): Promise<string | undefined> {
  const { state, content, external, key, attached, capabilities } = run
  const { expected } = options
  if (content && state.version) {
    const blind = attached.record.conflicts === 'last-writer-wins'
    const { size } = state.version
    const aboutToWrite = (etag: string): Promise<void> => noteTried(run, { kind: 'etag', etag, size })
    const limits = run.planLimits ?? PLAN_LIMITS
    const writing: Writing = { ...run, ...options, content, limits, blind, aboutToWrite }
    return await writeOutside(writing)
  }
  // Without a base it was never sent, and nothing of theirs is to go.
  if (expected.kind !== 'absent') {
    await noteTried(run, { kind: 'absent' })
    await external.remove(key, capabilities.conditionalDelete ? expected : { kind: 'anything' })
  }
  return undefined
}

/** Nothing at the key was changed here but what stays here (owner, mode), or it was renamed and came back. */
function isUntouched(version: ObjectVersion | undefined): boolean {
  if (version?.body.kind !== 'external') return false
  const { key, isDescribed } = version.body.external
  return key === version.key && !isDescribed
}

async function compare({ state, content, ...run }: Run, seen: ExternalDescription | undefined): Promise<Sameness> {
  if (!seen || !content) return 'other'
  const ours = { content, extents: state.extents, sources: run.sources }
  const readFailed = content.failure
  try {
    return await compareWithOurs(ours, seen, run.external, run.signal)
  } finally {
    content.failure = readFailed
  }
}

/** Also when what is seen is not what was `written`: then somebody wrote after us, which is no conflict. */
async function settled(run: Run, outside: ExternalDescription | undefined, written?: string): Promise<CarriedOut> {
  const { names, bucketId, key, state, sources } = run
  const { revision } = state.dirty
  const settling = await names.settle({ bucketId, key, revision, outside, written })
  await settling.durable
  if (!settling.value) return { kind: 'changed', through: revision }
  // Only now: until the row is settled, the body refers to what it was copied from.
  if (state.version) await arrived(run, state.version, sources)
  return { kind: 'clean', through: revision }
}

async function arrived(
  { names, bucketId, key }: Run,
  { inode }: ObjectVersion,
  sources: ReadonlyMap<SegmentId, ExternalBody>,
): Promise<void> {
  const from = new Set([...sources.values()].map((source) => source.key))
  from.delete(key)
  for (const source of from) await (await names.arrived({ bucketId, key: source, inode })).durable
}

async function listed(run: Run, seen: ExternalDescription | undefined): Promise<CarriedOut> {
  const { names, bucketId, key, clock, state } = run
  const conflict = { sinceMs: clock.nowMs(), outside: baseOf(seen) }
  const { revision } = state.dirty
  const commit = await names.noteConflict({ bucketId, key, conflict, revision })
  await commit.durable
  return commit.value ? { kind: 'conflict', ended: 'listed' } : { kind: 'again' }
}

async function setAside(run: Run, outside: ExternalDescription | undefined): Promise<CarriedOut> {
  const { names, bucketId, key, state } = run
  const as = conflictKey(key, run.clock.nowMs(), run.fillRandom)
  const { revision } = state.dirty
  const commit = await names.setAside({ bucketId, key, revision, as, outside })
  await commit.durable
  return commit.value ? { kind: 'conflict', ended: 'set-aside', as } : { kind: 'again' }
}

async function gaveWay(run: Run, seen: ExternalDescription | undefined): Promise<CarriedOut> {
  const outcome = await settled(run, seen)
  return outcome.kind === 'clean' && seen ? { kind: 'conflict', ended: 'gave-way' } : outcome
}
