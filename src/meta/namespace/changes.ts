/**
 * What the rows that a commit changed mean: which keys have a new current version, which have none any more, and what was
 * renamed. For watchers: the KV door, the mount's caches.
 *
 * A change of D is an event; V and I alone are not (older versions and tags do not change what a key names). A directory
 * appears and disappears with what is in it, so its own rows are no event, except a rename, which is *one* event however much lies
 * below (C3). That, and the path of what was in a directory that went in the same commit, is read from the `former` rows (G), which
 * those transactions write beside: the change log says of a deleted row only that it is gone.
 *
 * Paths are found through the parents of inodes (C10) as they are when the event is read. A directory that has been
 * renamed since is named by its present path; one that is gone, and reclaimed, makes the event unreadable: `RevisionGone`, and
 * the watcher lists again.
 */
import { assert } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import { utf8Text, type ByteString, type InodeId, type Revision } from '../../common/ids.ts'
import type { Change, ReadView } from '../ports.ts'
import type { NamespaceContext } from './context.ts'
import {
  ENTRIES,
  ENTRY_NAME_AT,
  RECLAIM,
  RECLAIM_ID_AT,
  formerPlaceKey,
  inodeKey,
  integerAt,
  reclaimKindOf,
} from './keys.ts'
import { decodeEntry, decodeInode, decodePlace, type NamedPlace } from './records-objects.ts'

export type NamespaceChange =
  | { readonly revision: Revision; readonly kind: 'put' | 'delete'; readonly bucket: string; readonly key: string }
  | {
      readonly revision: Revision
      readonly kind: 'renamed'
      readonly bucket: string
      readonly from: string
      readonly to: string
    }

/** Events from `fromRevision` (inclusive) on, in order, until the signal aborts. @throws RevisionGone */
export async function* watchChanges(
  context: NamespaceContext,
  fromRevision: Revision,
  signal: AbortSignal,
): AsyncGenerator<NamespaceChange> {
  for await (const change of context.store.watch('' as ByteString, fromRevision, signal)) {
    if (!change.rows.some((row) => row.key.startsWith(ENTRIES))) continue
    yield* await context.store.read((view) => eventsOf(view, change))
  }
}

async function eventsOf(view: ReadView, change: Change): Promise<NamespaceChange[]> {
  const { revision } = change
  const former = formerPlaces(change)
  const renames = new Map<string, NamespaceChange>()
  const renamedAway = new Set<string>()
  for (const [to, inode] of entriesPut(change)) {
    const from = former.get(inode)
    if (!from) continue
    const target = await pathOf(view, parseEntryKey(to), new Map())
    const source = await pathOf(view, from, former)
    renames.set(to, { revision, kind: 'renamed', bucket: target.bucket, from: source.key, to: target.key })
    renamedAway.add(ENTRIES + inodeKey(from.parent).slice(2) + from.name)
  }
  const events: NamespaceChange[] = [...renames.values()]
  for (const row of change.rows) {
    const isObject = row.key.startsWith(ENTRIES) && !row.key.endsWith('/')
    // A name of no bytes is a marker object; a parent's bytes may end in a slash by chance.
    const isMarker = row.key.startsWith(ENTRIES) && row.key.length === ENTRY_NAME_AT
    if ((!isObject && !isMarker) || renames.has(row.key) || renamedAway.has(row.key)) continue
    const { bucket, key } = await pathOf(view, parseEntryKey(row.key), former)
    events.push({ revision, kind: row.deleted ? 'delete' : 'put', bucket, key })
  }
  return events
}

function formerPlaces(change: Change): Map<InodeId, NamedPlace> {
  const places = new Map<InodeId, NamedPlace>()
  for (const { key, value } of change.rows) {
    if (!value || !key.startsWith(RECLAIM) || reclaimKindOf(key) !== 'former') continue
    places.set(integerAt(key, RECLAIM_ID_AT), decodePlace(value))
  }
  return places
}

/** Keys of the entries that the change wrote, with their inodes. */
function* entriesPut(change: Change): Generator<[string, InodeId]> {
  for (const { key, value } of change.rows) {
    if (!value || !key.startsWith(ENTRIES)) continue
    const entry = decodeEntry(value)
    assert(entry.kind === 'object' || entry.kind === 'directory', 'D holds live objects and directories')
    yield [key, entry.inode]
  }
}

function parseEntryKey(key: string): NamedPlace {
  return { parent: integerAt(key, ENTRIES.length), name: key.slice(ENTRY_NAME_AT) }
}

async function pathOf(
  view: ReadView,
  place: NamedPlace,
  former: ReadonlyMap<InodeId, NamedPlace>,
): Promise<{ bucket: string; key: string }> {
  let key = place.name
  for (let { parent } = place; ;) {
    const above = former.get(parent) ?? (await directoryPlace(view, parent))
    if (above.parent === 0) return { bucket: above.name, key: utf8Text(key) }
    key = above.name + key
    parent = above.parent
  }
}

async function directoryPlace(view: ReadView, inode: InodeId): Promise<NamedPlace> {
  const row = await view.get(inodeKey(inode))
  if (row) return decodeInode(row)
  const former = await view.get(formerPlaceKey(inode))
  if (former) return decodePlace(former)
  throw new TidegateError('RevisionGone', `directory ${inode} is gone, and the names of what was in it`)
}
