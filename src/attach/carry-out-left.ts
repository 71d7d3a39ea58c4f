/**
 * An upload of ours that took its place outside without our knowing: its answer was lost, or we were killed, and then the key was changed here once more, or renamed. What
 * this needs of the object that was there before lies in the one that we have left there, at the same offsets (`settle`), and nowhere else any more.
 *
 * What was about to be left is noted before (`tried`). So wherever bytes cannot be had since their object is another one now, it is looked at whether that is it.
 *
 * The upload may be under way, too: then another carry-out, of the key where the bytes lay, refers them to what it has left as soon as it has its answer. Whoever finds
 * his bytes gone before that waits for it, and whoever finds them gone right after looks at where they lie now.
 *
 * Known gap: a store whose ETags of copied parts are not their MD5 (Tidegate's are not) joins parts under an ETag that nobody can tell before. There such a
 * try is not known again, and is a conflict.
 */
import type { SegmentId } from '../common/ids.ts'
import { sourcesOf } from './carry-out-state.ts'
import type { AttachedNames, ExternalBody, ExternalBucket } from './ports.ts'

export interface Left {
  readonly names: AttachedNames
  readonly external: ExternalBucket
  readonly bucketId: number
  /** Whose bytes they are. */
  readonly key: string
  /** External objects that the bytes lay in when it was begun to carry them out. */
  readonly sources: ReadonlyMap<SegmentId, ExternalBody>
  /** By another carry-out, at present. */
  readonly isBeingWritten?: ((key: string) => boolean) | undefined
  readonly signal: AbortSignal
}

/** No change of a key has it: nothing comes clean by being looked at here. */
const NO_REVISION = 0

/** Whether some of it was found, and is referred to now, or will be soon: then the state is to be read again. */
export async function findLeft(left: Left): Promise<boolean> {
  const { names, external, bucketId, key: own, sources, isBeingWritten, signal } = left
  let isFound = false
  for (const { key, etag } of sources.values()) {
    if (key !== own && isBeingWritten?.(key)) return true
    const { base, tried = [] } = (await names.dirtyState(bucketId, key))?.dirty ?? {}
    if (base?.kind !== 'etag' || base.etag !== etag || tried.length === 0) continue
    const seen = await external.head(key, signal)
    if (!seen || seen.etag === etag || !tried.some((one) => one.kind === 'etag' && one.etag === seen.etag)) continue
    const settling = await names.settle({
      bucketId,
      key,
      revision: NO_REVISION,
      outside: seen,
      written: seen.etag,
    })
    await settling.durable
    isFound = true
  }
  return isFound || (await lieElsewhere(left))
}

/** Last, so that it sees what was settled by then. */
async function lieElsewhere({ names, bucketId, key, sources }: Left): Promise<boolean> {
  if (sources.size === 0) return false
  const state = await names.dirtyState(bucketId, key)
  if (!state) return true
  const now = await sourcesOf(names, bucketId, state)
  return [...sources.keys()].some((segment) => !now.has(segment))
}
