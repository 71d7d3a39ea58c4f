/** The invariants of what the mount keeps: names of inodes, unlinked files, attributes, times. Part of check-namespace.ts. */
import type { InodeId } from '../../src/common/ids.ts'
import { rowBytes } from '../../src/meta/namespace/files/attributes.ts'
import { LINKS_MAX, linkedPlace } from '../../src/meta/namespace/files/links.ts'
import { MOUNT_ROOT } from '../../src/meta/namespace/files/types.ts'
import {
  DIRECTORY_TIMES,
  FILE_ATTRIBUTES,
  FILE_ATTRIBUTE_NAME_AT,
  FORMER_PLACES,
  LINKS,
  ORPHANS,
  RECLAIM,
  RECLAIM_ID_AT,
  integerAt,
  prefixRange,
  reclaimKindOf,
} from '../../src/meta/namespace/keys.ts'
import type { Inode, NamedPlace, ObjectEntry, ObjectInode } from '../../src/meta/namespace/records-objects.ts'
import type { ReadView, Row } from '../../src/meta/ports.ts'

const ROWS_MAX = 1_000_000

export interface EntryAt extends NamedPlace {
  readonly entry: ObjectEntry
}

export async function checkFiles(
  view: ReadView,
  inodes: ReadonlyMap<InodeId, Inode>,
  entries: Iterable<EntryAt>,
): Promise<void> {
  const named = new Map<InodeId, Set<string>>()
  for (const at of entries) {
    const { entry } = at
    const names = named.get(entry.inode) ?? new Set()
    named.set(entry.inode, names)
    demand(!names.has(placeText(at)), `inode ${entry.inode} has one entry under ${JSON.stringify(at.name)}`)
    names.add(placeText(at))
    const inode = inodes.get(entry.inode)
    demand(inode?.kind === 'object', `inode ${entry.inode} of ${JSON.stringify(at.name)} exists`)
    demand(
      (inode.posix !== undefined) === (entry.isFile ?? false),
      `entry ${JSON.stringify(at.name)} knows if it is a file`,
    )
  }
  const links = await furtherNames(view, inodes)
  const orphans = new Set((await rows(view, ORPHANS)).map((row) => integerAt(row.key, ORPHANS.length)))
  for (const [id, inode] of inodes) {
    if (inode.kind === 'object') {
      checkNames(id, inode, { named: named.get(id) ?? new Set(), further: links.get(id) ?? [] })
      demand(
        orphans.delete(id) === ((inode.posix?.links ?? 1) === 0),
        `inode ${id} is unlinked exactly if it is an orphan`,
      )
    } else if (inode.posix) {
      demand(inode.posix.kind === 'directory' && inode.posix.links === 1, `directory ${id} is one for the mount`)
    }
  }
  demand(orphans.size === 0, `orphans exist: ${[...orphans].join()}`)
  await checkRowsByInode(view, inodes)
}

function checkNames(id: InodeId, inode: ObjectInode, names: { named: Set<string>; further: NamedPlace[] }): void {
  const { named, further } = names
  const links = inode.posix?.links ?? 1
  demand(links <= LINKS_MAX && links === named.size, `inode ${id} says ${links} links and has ${named.size} entries`)
  const said = [...(links === 0 ? [] : [{ parent: inode.parent, name: inode.name }]), ...further].map(placeText)
  demand(said.length === named.size && said.every((text) => named.has(text)), `inode ${id} knows its names`)
}

function placeText({ parent, name }: NamedPlace): string {
  return `${parent}/${name}`
}

async function furtherNames(view: ReadView, inodes: ReadonlyMap<InodeId, Inode>): Promise<Map<InodeId, NamedPlace[]>> {
  const links = new Map<InodeId, NamedPlace[]>()
  for (const row of await rows(view, LINKS)) {
    const inode = integerAt(row.key, LINKS.length)
    demand(inodes.get(inode)?.kind === 'object', `L row of inode ${inode} belongs to an object`)
    links.set(inode, [...(links.get(inode) ?? []), linkedPlace(row.key)])
  }
  return links
}

/** Rows of X and W belong to an inode, or wait for the reclaimer. */
async function checkRowsByInode(view: ReadView, inodes: ReadonlyMap<InodeId, Inode>): Promise<void> {
  const left = new Set<InodeId>()
  for (const row of await rows(view, RECLAIM)) {
    if (row.key.startsWith(FORMER_PLACES) || reclaimKindOf(row.key) === 'attributes') {
      left.add(integerAt(row.key, RECLAIM_ID_AT))
    }
  }
  const bytes = new Map<InodeId, number>()
  for (const row of await rows(view, FILE_ATTRIBUTES)) {
    const inode = integerAt(row.key, FILE_ATTRIBUTES.length)
    demand(inodes.has(inode) || left.has(inode), `attribute of inode ${inode} belongs to it`)
    const name = row.key.slice(FILE_ATTRIBUTE_NAME_AT)
    bytes.set(inode, (bytes.get(inode) ?? 0) + rowBytes(name, row.value))
  }
  for (const [id, inode] of inodes) {
    demand((inode.posix?.attributesBytes ?? 0) === (bytes.get(id) ?? 0), `inode ${id} counts its attributes`)
  }
  for (const row of await rows(view, DIRECTORY_TIMES)) {
    const inode = integerAt(row.key, DIRECTORY_TIMES.length)
    const known = inodes.get(inode)
    demand(inode === MOUNT_ROOT || known?.kind === 'directory' || left.has(inode), `W row of ${inode} is a directory's`)
  }
}

function rows(view: ReadView, prefix: string): Promise<Row[]> {
  return view.scan(prefixRange(prefix), ROWS_MAX)
}

function demand(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(`namespace invariant: ${what}`)
}
