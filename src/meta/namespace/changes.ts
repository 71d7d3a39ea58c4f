/**
 * What the rows that a commit changed mean: which keys have a new current version, which have none any more, and what was
 * renamed. For watchers: the KV door, the mount's caches.
 *
 * A change of D is an event; V and I alone are not (older versions and tags do not change what a key names), nor are the rows
 * that make a key expire, only its removal. A directory appears and disappears with what is in it, so its own rows are no event,
 * except a rename, which is *one* event however much lies below (C3). That is read from the `former` rows (G), which those
 * transactions write beside: the change log says of a deleted row only that it is gone.
 *
 * Keys are told as they were right after the commit (past-places.ts), however late it is read; that of a deletion and the old
 * one of a rename as they were right before. So who applies all events in order to a listing ends up with the present one.
 *
 * Most events are read from the log alone. An entry too large to be logged is read from the table, if that still holds the very
 * one; else it has been replaced since, an event that follows says by what, and this one is left out.
 *
 * What happened in a bucket that is gone is told under its name, which a bucket made later may bear: who followed the old one
 * and goes on with the new one hears that its keys were deleted.
 */
import { assert } from '../../common/assert.ts'
import { utf8Text, type ByteString, type InodeId, type Revision } from '../../common/ids.ts'
import type { Change, ChangedRow } from '../ports.ts'
import type { NamespaceContext } from './context.ts'
import { ENTRIES, ENTRY_NAME_AT, FORMER_PLACES, entryKey, integerAt } from './keys.ts'
import { PastPlaces, formerPlaces } from './past-places.ts'
import { decodeEntry, type DirectoryEntry, type NamedPlace, type ObjectEntry } from './records-objects.ts'

export type NamespaceChange =
  | {
      readonly kind: 'put'
      readonly revision: Revision
      readonly bucket: string
      readonly key: string
      readonly etag: string
      readonly size: number
      readonly expiresMs: number | undefined
    }
  | { readonly kind: 'delete'; readonly revision: Revision; readonly bucket: string; readonly key: string }
  | {
      readonly kind: 'renamed'
      readonly revision: Revision
      readonly bucket: string
      readonly from: string
      readonly to: string
    }

/** Whole revisions: every event after the batch before, up to and including `through`. */
export interface NamespaceChangeBatch {
  readonly events: readonly NamespaceChange[]
  readonly through: Revision
}

/** What the store's log must hold for the events here; the rest would only make it larger. */
export const WATCHED_ROWS: {
  readonly watchedPrefixes: readonly ByteString[]
  readonly loggedValueBytesMax: number
} = {
  watchedPrefixes: [ENTRIES as ByteString, FORMER_PLACES as ByteString],
  // The longest name, and an entry with it.
  loggedValueBytesMax: 2_048,
}

/** A batch ends when nothing more can be told at once, or with this many events. */
const BATCH_EVENTS = 1_024
/** Changes after which other work gets its turn. */
const CHANGES_PER_TURN = 1_024

type LiveEntry = ObjectEntry | DirectoryEntry

/** Events from `fromRevision` (inclusive) on, in order, until the signal aborts. @throws RevisionGone */
export async function* watchChanges(
  context: NamespaceContext,
  fromRevision: Revision,
  signal: AbortSignal,
): AsyncGenerator<NamespaceChangeBatch, void, void> {
  const reader = new ChangeReader(context, signal)
  let events: NamespaceChange[] = []
  let changes = 0
  for await (const change of context.store.watch('' as ByteString, fromRevision, signal, { progress: true })) {
    await reader.read(change, events)
    if (signal.aborted) return
    if (change.rows.length === 0 || events.length >= BATCH_EVENTS) {
      yield { events, through: change.revision }
      events = []
    }
    if (++changes % CHANGES_PER_TURN === 0) await context.clock.sleep(0, signal).catch(() => undefined)
  }
}

class ChangeReader {
  readonly #context: NamespaceContext
  readonly #places: PastPlaces

  constructor(context: NamespaceContext, signal: AbortSignal) {
    this.#context = context
    this.#places = new PastPlaces(context, signal)
  }

  /** Adds the events of one change. */
  async read(change: Change, events: NamespaceChange[]): Promise<void> {
    const { revision, rows } = change
    const former = await formerPlaces(this.#context, rows)
    this.#places.passed(revision, former.keys())
    const renamedAway = new Set<string>()
    const put: { row: ChangedRow; entry: LiveEntry }[] = []
    for (const row of rows) {
      if (row.deleted || !row.key.startsWith(ENTRIES)) continue
      const entry = await this.#entryOf(row, revision, former)
      if (!entry) continue
      const from = former.get(entry.inode)
      if (!from) put.push({ row, entry })
      else {
        renamedAway.add(entryKey(from.parent, from.name))
        await this.#addRename({ revision, from, to: placeOf(row.key), former }, events)
      }
    }
    for (const row of rows) {
      if (!row.deleted || !isObjectKey(row.key) || renamedAway.has(row.key)) continue
      const named = await this.#pathOf(placeOf(row.key), revision, former)
      if (named) events.push({ kind: 'delete', revision, ...named })
    }
    for (const { row, entry } of put) {
      if (entry.kind === 'directory') continue
      const named = await this.#pathOf(placeOf(row.key), revision)
      const { etag, size, expiresMs } = entry
      if (named) events.push({ kind: 'put', revision, ...named, etag, size, expiresMs })
    }
  }

  /** Undefined when it is no longer known what the change wrote there. */
  async #entryOf(
    { key, value }: ChangedRow,
    revision: Revision,
    former: ReadonlyMap<InodeId, NamedPlace>,
  ): Promise<LiveEntry | undefined> {
    if (value) return liveEntry(value)
    const present = await this.#context.store.read((view) => view.get(key))
    const entry = present && liveEntry(present)
    if (entry?.kind !== 'object') return undefined
    return entry.revision === revision || former.has(entry.inode) ? entry : undefined
  }

  async #addRename(
    rename: { revision: Revision; from: NamedPlace; to: NamedPlace; former: ReadonlyMap<InodeId, NamedPlace> },
    events: NamespaceChange[],
  ): Promise<void> {
    const { revision, former } = rename
    const target = await this.#pathOf(rename.to, revision)
    const source = await this.#pathOf(rename.from, revision, former)
    if (!target || !source) return
    events.push({ kind: 'renamed', revision, bucket: target.bucket, from: source.key, to: target.key })
  }

  /** After the revision; before it, when it is said what it moved. */
  async #pathOf(
    place: NamedPlace,
    revision: Revision,
    former?: ReadonlyMap<InodeId, NamedPlace>,
  ): Promise<{ bucket: string; key: string } | undefined> {
    let key = place.name
    for (let { parent } = place; ;) {
      const above = former?.get(parent) ?? (await this.#places.at(parent, revision))
      if (!above) return undefined
      if (above.parent === 0) return { bucket: above.name, key: utf8Text(key) }
      key = above.name + key
      parent = above.parent
    }
  }
}

function liveEntry(row: Uint8Array): LiveEntry {
  const entry = decodeEntry(row)
  assert(entry.kind === 'object' || entry.kind === 'directory', 'D holds live objects and directories')
  return entry
}

function placeOf(key: string): NamedPlace {
  return { parent: integerAt(key, ENTRIES.length), name: key.slice(ENTRY_NAME_AT) }
}

/** A directory's name ends in a slash; a name of no bytes is a marker object, whose parent's bytes may end in one by chance. */
function isObjectKey(key: string): boolean {
  return key.startsWith(ENTRIES) && (key.length === ENTRY_NAME_AT || !key.endsWith('/'))
}
