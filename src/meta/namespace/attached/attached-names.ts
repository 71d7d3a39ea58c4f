/** Attached buckets as the parts of `attach` see them (`AttachedNames` of attach/ports.ts): the mirror, and what is to be carried out. */
import type { Revision } from '../../../common/ids.ts'
import type { NamespaceContext } from '../context.ts'
import { arrived, dirtyKeys, dirtyState, externalSegmentOf, noteConflict, noteTried, placeOf } from './dirty-rows.ts'
import { IdPool, type MirrorContext } from './mirror-context.ts'
import { createMirror, type Mirror } from './mirror.ts'
import { RecentChanges } from './recent-changes.ts'
import { relocate } from './relocate.ts'
import { setAside } from './set-aside.ts'
import { settle } from './settle.ts'
import type { DirtyListener, Traces } from './traces.ts'

type BoundHere<Operation> = Operation extends (context: MirrorContext, ...rest: infer Rest) => infer Result
  ? (...rest: Rest) => Result
  : never

export interface AttachedNames extends Mirror {
  readonly dirtyKeys: BoundHere<typeof dirtyKeys>
  readonly dirtyState: BoundHere<typeof dirtyState>
  readonly onDirty: (listener: DirtyListener) => () => void
  readonly settle: BoundHere<typeof settle>
  readonly setAside: BoundHere<typeof setAside>
  readonly noteConflict: BoundHere<typeof noteConflict>
  readonly noteTried: BoundHere<typeof noteTried>
  readonly arrived: BoundHere<typeof arrived>
  readonly relocate: BoundHere<typeof relocate>
  readonly externalSegment: BoundHere<typeof externalSegmentOf>
  readonly placeOf: BoundHere<typeof placeOf>
  readonly revision: () => Revision
}

/** `traces` is what the context's own store is made by. */
export function createAttachedNames(context: NamespaceContext, traces: Traces): AttachedNames {
  const mirror: MirrorContext = {
    ...context,
    store: context.untraced,
    tracked: traces,
    recent: new RecentChanges(),
    ids: new IdPool(context),
    // Set later, in the context that all share (files.ts).
    keepInode: (inode) => context.keepInode(inode),
  }
  return {
    ...createMirror(mirror),
    dirtyKeys: (bucketId, after, limit) => dirtyKeys(mirror, bucketId, after, limit),
    dirtyState: (bucketId, key) => dirtyState(mirror, bucketId, key),
    onDirty: (listener) => traces.listen(listener),
    settle: (request) => settle(mirror, request),
    setAside: (request) => setAside(mirror, request),
    noteConflict: (request) => noteConflict(mirror, request),
    noteTried: (request) => noteTried(mirror, request),
    arrived: (request) => arrived(mirror, request),
    relocate: (request) => relocate(mirror, request),
    externalSegment: (segment) => externalSegmentOf(mirror, segment),
    placeOf: (inode) => placeOf(mirror, inode),
    revision: () => context.store.revision(),
  }
}
