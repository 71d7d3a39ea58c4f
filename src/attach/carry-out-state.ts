/**
 * What is to be done at a dirty key, and whether it may be done yet.
 *
 * Two things hold a key back:
 *
 * - What lies outside at it is the only copy of something that was renamed away (`neededBy`): that must arrive elsewhere first. Of a file that was removed or
 *   replaced while somebody has it open: a copy over there is made for it (carry-out-room.ts), and kept until it is closed.
 * - A directory above it was renamed, and that is not written down as dirty keys yet (moves.ts). Until then a key below the former name looks deleted and needed by
 *   nobody. Nothing tells both at one revision, so the state is read again after the renames were: a rename that came between the
 *   two is then either still listed, or what it wrote down is seen.
 */
import { externalSegment, isExternalSegment, type ExternalBody } from '../common/external.ts'
import type { SegmentId } from '../common/ids.ts'
import type { AttachedNames, DirtyState } from './ports.ts'

export interface Place {
  readonly bucketId: number
  readonly key: string
}

export type FoundState =
  | { readonly kind: 'clean' }
  | { readonly kind: 'state'; readonly state: DirtyState }
  /** Something is being renamed, or was changed while it was looked at. */
  | { readonly kind: 'moving' }

export async function findState(names: AttachedNames, { bucketId, key }: Place): Promise<FoundState> {
  const before = await names.dirtyState(bucketId, key)
  if (!before) return { kind: 'clean' }
  if (await isMoving(names, { bucketId, key })) return { kind: 'moving' }
  // What names something and follows something known cannot be mistaken for what was renamed away.
  if (before.version && before.dirty.base.kind === 'etag') return { kind: 'state', state: before }
  const state = await names.dirtyState(bucketId, key)
  if (!state) return { kind: 'clean' }
  return state.version?.inode === before.version?.inode ? { kind: 'state', state } : { kind: 'moving' }
}

async function isMoving(names: AttachedNames, { bucketId, key }: Place): Promise<boolean> {
  const moves = await names.moves(bucketId)
  return moves.some(({ from, to }) => key.startsWith(from) || key.startsWith(to))
}

/** What still needs what lies outside at a key. */
export interface Needed {
  /** Keys that must be carried out before this one. */
  readonly by: readonly string[]
  /** A file without a name that somebody has open: it is carried out nowhere. */
  readonly byOpenFile: boolean
}

export async function neededFor(
  names: AttachedNames,
  { bucketId, key }: Place,
  { dirty, version }: DirtyState,
): Promise<Needed> {
  const by = new Set<string>()
  let byOpenFile = false
  for (const inode of dirty.neededBy) {
    // It came back, and what it needs it has at its own key.
    if (inode === version?.inode) continue
    const at = await names.placeOf(inode)
    if (!at) byOpenFile = true
    else if (at.bucketId === bucketId && at.key !== key) by.add(at.key)
  }
  return { by: [...by], byOpenFile }
}

/** The external objects that its bytes lie in. */
export async function sourcesOf(
  names: AttachedNames,
  bucketId: number,
  { version, extents }: DirtyState,
): Promise<ReadonlyMap<SegmentId, ExternalBody>> {
  const body = version?.body
  if (body?.kind === 'external') return new Map([[externalSegment(bucketId, body.external), body.external]])
  const sources = new Map<SegmentId, ExternalBody>()
  const segments = new Set(extents.map(({ segment }) => segment).filter(isExternalSegment))
  for (const segment of segments) {
    const found = await names.externalSegment(segment)
    if (found) sources.set(segment, found.body)
  }
  return sources
}
