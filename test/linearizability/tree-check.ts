/** Whether the tree of a namespace is one: by its rows, at one revision, without trusting what walks over it. */
import type { InodeId } from '../../src/common/ids.ts'
import { ENTRIES, ENTRY_NAME_AT, INODES, integerAt, prefixRange } from '../../src/meta/namespace/keys.ts'
import { decodeEntry, decodeInode } from '../../src/meta/namespace/records-objects.ts'
import type { OrderedStore, Row } from '../../src/meta/ports.ts'

interface Named {
  readonly parent: InodeId
  readonly name: string
}

export interface TreeFaults {
  readonly faults: readonly string[]
  /** Paths of all directories, in order. */
  readonly tree: string
}

/**
 * `wanted`: inodes of directories that must be there, whatever others are. Each inode must be named by exactly one entry, which is the one that it names itself, and every
 * directory must lead up to a root.
 */
export async function faultsOfTree(store: OrderedStore, wanted: readonly InodeId[]): Promise<TreeFaults> {
  const { entries, inodes } = await store.read(async (view) => ({
    entries: await view.scan(prefixRange(ENTRIES), Infinity),
    inodes: await view.scan(prefixRange(INODES), Infinity),
  }))
  return faultsOf(entries, inodes, wanted)
}

/** The same, of rows. */
export function faultsOf(entries: readonly Row[], inodes: readonly Row[], wanted: readonly InodeId[]): TreeFaults {
  const faults: string[] = []
  const named = new Map<InodeId, Named>()
  for (const { key, value } of entries) {
    const entry = decodeEntry(value)
    if (entry.kind !== 'object' && entry.kind !== 'directory') continue
    const place = { parent: integerAt(key, ENTRIES.length), name: key.slice(ENTRY_NAME_AT) }
    if (named.has(entry.inode)) faults.push(`inode ${entry.inode} has two names, ${place.name} is one`)
    named.set(entry.inode, place)
  }
  const paths: string[] = []
  const known = new Set<InodeId>()
  const roots = new Set<InodeId>()
  for (const { key, value } of inodes) {
    const id = integerAt(key, INODES.length)
    known.add(id)
    const inode = decodeInode(value)
    if (inode.parent === 0) {
      roots.add(id)
      continue
    }
    const place = named.get(id)
    if (place === undefined) faults.push(`inode ${id} (${inode.name}) is an orphan`)
    else if (place.parent !== inode.parent || place.name !== inode.name)
      faults.push(`inode ${id} is ${place.parent}:${place.name}, and says ${inode.parent}:${inode.name}`)
  }
  for (const [id, { name }] of named) {
    if (!known.has(id)) faults.push(`${name} names inode ${id}, which is not there`)
    const path = pathOf(id, named, roots)
    if (path === undefined) faults.push(`inode ${id} (${name}) is not below a root`)
    else if (name.endsWith('/')) paths.push(path)
  }
  for (const id of wanted) if (!known.has(id)) faults.push(`inode ${id} is gone`)
  return { faults, tree: paths.toSorted().join(' ') }
}

/** Undefined: it leads in a circle, or to what is not there. */
function pathOf(id: InodeId, named: ReadonlyMap<InodeId, Named>, roots: ReadonlySet<InodeId>): string | undefined {
  let path = ''
  const seen = new Set<InodeId>()
  for (let at = id; !roots.has(at);) {
    const place = named.get(at)
    if (place === undefined || seen.has(at)) return undefined
    seen.add(at)
    path = place.name + path
    at = place.parent
  }
  return path
}
