/**
 * An upload of ours that took its place outside without our knowing: its answer was lost, or we were killed, and then the key was changed here once more, or renamed. What
 * this needs of the object that was there before lies in the one that we have left there, at the same offsets (`settle`), and nowhere else any more.
 *
 * What was about to be left is noted before (`tried`). So wherever bytes cannot be had since their object is another one now, it is looked at whether that is it.
 *
 * Known gap: a store whose ETags of copied parts are not their MD5 (Tidegate's are not) joins parts under an ETag that nobody can tell before. There such a
 * try is not known again, and is a conflict.
 */
import type { SegmentId } from '../common/ids.ts'
import type { AttachedNames, ExternalBody, ExternalBucket } from './ports.ts'

export interface Left {
  readonly names: AttachedNames
  readonly external: ExternalBucket
  readonly bucketId: number
  /** External objects that the bytes lie in. */
  readonly sources: ReadonlyMap<SegmentId, ExternalBody>
  readonly signal: AbortSignal
}

/** No change of a key has it: nothing comes clean by being looked at here. */
const NO_REVISION = 0

/** Whether some of it was found, and is referred to now: then the state is to be read again. */
export async function findLeft({ names, external, bucketId, sources, signal }: Left): Promise<boolean> {
  let isFound = false
  for (const { key, etag } of sources.values()) {
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
  return isFound
}
