/** What a commit means to caches of names and nodes: read from the keys it wrote alone, whoever made it. */
import type { ByteString } from '../../../common/ids.ts'
import type { CommitEvents } from '../decoded-cache.ts'
import { BUCKETS, DIRECTORY_TIMES, ENTRIES, ENTRY_NAME_AT, FILE_ATTRIBUTES, INODES, integerAt } from '../keys.ts'
import { OBJECT_SUFFIX } from './names.ts'
import type { FileChange } from '../../../common/file-model.ts'
import { MOUNT_ROOT } from './types.ts'

/** Bytes of a table's prefix: its letter and the record version. */
const PREFIX_BYTES = 2

type Listener = (changes: readonly FileChange[]) => void

/** Costs nothing while nobody listens. */
export function onFileChanges(events: Partial<CommitEvents>, listener: Listener): () => void {
  const end = events.onCommit?.((keys, rewrittenKeys) => {
    const changes = changesOf(keys, rewrittenKeys)
    if (changes.length > 0) listener(changes)
  })
  return end ?? (() => {})
}

function changesOf(keys: readonly ByteString[], rewrittenKeys: ReadonlySet<ByteString>): FileChange[] {
  const changes: FileChange[] = []
  for (const key of keys) {
    switch (key.slice(0, PREFIX_BYTES)) {
      case ENTRIES:
        // The name leads to the same inode as before.
        if (!rewrittenKeys.has(key)) addEntry(key, changes)
        break
      case INODES:
      case FILE_ATTRIBUTES:
      case DIRECTORY_TIMES:
        changes.push({ kind: 'node', inode: integerAt(key, PREFIX_BYTES) })
        break
      case BUCKETS:
        changes.push({ kind: 'entry', parent: MOUNT_ROOT, name: key.slice(PREFIX_BYTES) as ByteString })
        break
      default:
    }
  }
  return changes
}

/** A directory that comes or goes also changes what the object of its name is called (names.ts). */
function addEntry(key: string, changes: FileChange[]): void {
  const parent = integerAt(key, PREFIX_BYTES)
  const name = key.slice(ENTRY_NAME_AT)
  if (name === '') return
  const plain = name.endsWith('/') ? name.slice(0, -1) : name
  changes.push({ kind: 'entry', parent, name: plain as ByteString })
  if (plain !== name) changes.push({ kind: 'entry', parent, name: (plain + OBJECT_SUFFIX) as ByteString })
}
