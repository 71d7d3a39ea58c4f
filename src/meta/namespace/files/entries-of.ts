/** The entries that refer to an inode: in D under each of its names, or in V where a newer version covers it there. */
import { AssertionFailed, must } from '../../../common/assert.ts'
import type { ByteString, InodeId } from '../../../common/ids.ts'
import type { ReadView, Transaction } from '../../ports.ts'
import { entryKey, linksPrefix, prefixRange, versionKey } from '../keys.ts'
import { decodeEntry, encodeEntry, type NamedPlace, type ObjectEntry, type ObjectInode } from '../records-objects.ts'
import { versionsInV } from '../versions.ts'
import { LINKS_MAX, linkedPlace, linksOf } from './links.ts'

export interface NamedEntry {
  /** Of its row, in D or V. */
  readonly key: ByteString
  readonly place: NamedPlace
  readonly entry: ObjectEntry
  readonly isCurrent: boolean
}

/** None of an orphan, else as many as it has links. */
export async function entriesOf(view: ReadView, id: InodeId, inode: ObjectInode): Promise<NamedEntry[]> {
  const links = linksOf(inode)
  if (links === 0) return []
  const places: NamedPlace[] = [{ parent: inode.parent, name: inode.name }]
  if (links > 1) {
    const further = await view.scan(prefixRange(linksPrefix(id)), LINKS_MAX)
    places.push(...further.map((row) => linkedPlace(row.key)))
  }
  const keys = places.map((place) => entryKey(place.parent, place.name))
  const rows = await view.getMany(keys)
  const found: NamedEntry[] = []
  for (const [index, place] of places.entries()) {
    const row = rows[index]
    const entry = row && decodeEntry(row)
    if (entry?.kind === 'object' && entry.inode === id) {
      found.push({ key: must(keys[index], 'key'), place, entry, isCurrent: true })
    } else {
      found.push(await entryInV(view, id, place))
    }
  }
  return found
}

async function entryInV(view: ReadView, id: InodeId, place: NamedPlace): Promise<NamedEntry> {
  for await (const entry of versionsInV(view, { ...place, directories: [], isNew: false })) {
    if (entry.kind !== 'object' || entry.inode !== id) continue
    return { key: versionKey(place.parent, place.name, entry.version), place, entry, isCurrent: false }
  }
  throw new AssertionFailed(`inode ${id} has an entry where it says`)
}

/** What the entries repeat of the inode; they must all say the same (C28). */
export function rewriteEntries(
  tx: Transaction,
  entries: readonly NamedEntry[],
  repeated: Partial<Omit<ObjectEntry, 'kind' | 'inode' | 'version' | 'isNull' | 'expiresMs'>>,
): void {
  for (const { key, entry } of entries) tx.rewrite(key, encodeEntry({ ...entry, ...repeated }))
}
