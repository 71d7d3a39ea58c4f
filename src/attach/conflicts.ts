/**
 * What becomes of a key that was changed on both sides (docs/decisions/0015): by the bucket's policy, or by somebody's decision on one that is listed.
 *
 * However it is decided, nothing of theirs goes that nobody has looked at: `ours` is written over exactly what was seen, and if that has changed
 * again it is a conflict again.
 */
import { unreachable } from '../common/assert.ts'
import type { Clock } from '../common/clock.ts'
import { TidegateError } from '../common/errors.ts'
import type { ConflictPolicy } from '../common/external.ts'
import type { Attached } from './attached.ts'
import { KEY_BYTES_MAX } from './key-order.ts'
import type { AttachedNames, Base, DirtyKey, ExternalDescription, Expected } from './ports.ts'

export type Decision =
  /** Ours stays here, dirty, and is listed until somebody decides. */
  | 'list'
  /** Theirs takes the key, ours another one. */
  | 'set-aside'
  /** Ours, over what was seen. */
  | 'ours'
  | 'theirs'

interface Decisions {
  readonly writtenWritten: Decision
  readonly writtenDeleted: Decision
  readonly deletedWritten: Decision
}

const BY_POLICY = {
  fail: { writtenWritten: 'list', writtenDeleted: 'list', deletedWritten: 'theirs' },
  'keep-both': { writtenWritten: 'set-aside', writtenDeleted: 'ours', deletedWritten: 'theirs' },
  'last-writer-wins': { writtenWritten: 'ours', writtenDeleted: 'ours', deletedWritten: 'ours' },
} as const satisfies Readonly<Record<ConflictPolicy, Decisions>>

/** `ours`: whether the key names something here. */
export function decide(policy: ConflictPolicy, ours: boolean, seen: ExternalDescription | undefined): Decision {
  const decisions: Decisions = BY_POLICY[policy]
  // Gone on both sides: they agree.
  if (!ours) return seen ? decisions.deletedWritten : 'theirs'
  return seen ? decisions.writtenWritten : decisions.writtenDeleted
}

export function baseOf(seen: ExternalDescription | undefined): Base {
  return seen ? { kind: 'etag', etag: seen.etag, size: seen.size } : { kind: 'absent' }
}

export function expectedOf(base: Base): Exclude<Expected, { kind: 'anything' }> {
  return base.kind === 'etag' ? { kind: 'etag', etag: base.etag } : base
}

/** `KEY.conflict-<UTC>-<8 hex>`; a key that would get too long loses its end. */
export function conflictKey(key: string, nowMs: number, fillRandom: (bytes: Uint8Array) => void): string {
  const random = Buffer.alloc(4)
  fillRandom(random)
  const time = new Date(nowMs).toISOString().replace(/[-:]|\.\d+/g, '')
  const suffix = `.conflict-${time}-${random.toString('hex')}`
  return cut(key, KEY_BYTES_MAX - suffix.length) + suffix
}

/** At most so many bytes of UTF-8, whole characters. */
function cut(text: string, bytesMax: number): string {
  const bytes = Buffer.from(text)
  if (bytes.length <= bytesMax) return text
  let end = bytesMax
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--
  return bytes.toString('utf8', 0, end)
}

// ---- the list, and decisions on it

export interface ListedConflict {
  readonly key: string
  readonly sinceMs: number
  /** What lay outside when it was found; `base`: what we had expected there. */
  readonly outside: Base
  readonly base: Base
}

export const KEEPS = ['ours', 'theirs', 'both'] as const
export type Keep = (typeof KEEPS)[number]

const SCANNED_KEYS = 1000

/** Ascending by key; `next` is to be passed as `after`, if there may be more. */
export async function listConflicts(
  names: AttachedNames,
  { bucketId, after, limit }: { readonly bucketId: number; readonly after: string; readonly limit: number },
): Promise<{ readonly conflicts: readonly ListedConflict[]; readonly next: string | undefined }> {
  const conflicts: ListedConflict[] = []
  let position = after
  for (;;) {
    const page = await names.dirtyKeys(bucketId, position, SCANNED_KEYS)
    for (const { key, base, conflict } of page) {
      if (!conflict) continue
      conflicts.push({ key, base, ...conflict })
      if (conflicts.length === limit) return { conflicts, next: key }
    }
    const last = page.at(-1)
    if (!last || page.length < SCANNED_KEYS) return { conflicts, next: undefined }
    position = last.key
  }
}

export interface ResolveParts {
  readonly names: AttachedNames
  readonly clock: Clock
  readonly fillRandom: (bytes: Uint8Array) => void
}

export interface Resolution {
  readonly keep: Keep
  /** Under which key ours is kept when both are. */
  readonly as: string | undefined
}

/** @throws NoSuchKey when there is no conflict at the key; ConditionalRequestConflict when it was changed meanwhile */
export async function resolve(
  { names, clock, fillRandom }: ResolveParts,
  { record: { bucketId }, external }: Attached,
  { key, keep }: { readonly key: string; readonly keep: Keep },
): Promise<Resolution> {
  const state = await names.dirtyState(bucketId, key)
  const conflict = state?.dirty.conflict
  if (!state || !conflict) {
    throw new TidegateError('NoSuchKey', `there is no conflict at ${JSON.stringify(key)}`, { details: { key } })
  }
  const { revision } = state.dirty
  switch (keep) {
    case 'ours':
      await (
        await names.noteConflict({ bucketId, key, conflict: undefined, base: conflict.outside })
      ).durable
      return { keep, as: undefined }
    case 'theirs':
      await settleAs({ names, bucketId, key, revision }, await external.head(key))
      return { keep, as: undefined }
    case 'both': {
      const outside = await external.head(key)
      // Nothing is there to be kept beside ours.
      if (!outside || !state.version) return await resolveWithOne({ names, bucketId, state: state.dirty }, outside)
      const as = conflictKey(key, clock.nowMs(), fillRandom)
      const setAside = await names.setAside({ bucketId, key, revision, as, outside })
      await setAside.durable
      if (!setAside.value) throw changedMeanwhile(key)
      return { keep, as }
    }
    default:
      return unreachable(keep, 'decision')
  }
}

async function resolveWithOne(
  { names, bucketId, state: { key, revision } }: { names: AttachedNames; bucketId: number; state: DirtyKey },
  outside: ExternalDescription | undefined,
): Promise<Resolution> {
  if (outside) {
    await settleAs({ names, bucketId, key, revision }, outside)
    return { keep: 'theirs', as: undefined }
  }
  await (
    await names.noteConflict({ bucketId, key, conflict: undefined, base: { kind: 'absent' } })
  ).durable
  return { keep: 'ours', as: undefined }
}

/** No object has this ETag. */
const NOTHING_OF_OURS = ''

async function settleAs(
  {
    names,
    ...at
  }: {
    readonly names: AttachedNames
    readonly bucketId: number
    readonly key: string
    readonly revision: number
  },
  outside: ExternalDescription | undefined,
): Promise<void> {
  // Whatever their sizes are, it is not ours that lies there.
  const settled = await names.settle({ ...at, outside, written: NOTHING_OF_OURS })
  await settled.durable
  if (!settled.value) throw changedMeanwhile(at.key)
}

function changedMeanwhile(key: string): TidegateError {
  return new TidegateError('ConditionalRequestConflict', `${JSON.stringify(key)} was changed here meanwhile`, {
    details: { key },
  })
}
