/**
 * Loads all rows of a replica from etcd: by pages of one revision, of which only what differs is written, and what is not in etcd any more is deleted. So a replica that was
 * left behind by compaction keeps what still holds, and a load that was cut short goes on over what it has written.
 *
 * Until it is over the rows are of no one revision; nobody may read them meanwhile.
 */
import type { ByteString, Revision } from '../../common/ids.ts'
import type { KeyRange } from '../ports.ts'
import { decodeGroupName, decodeRow, type EtcdLayout, type GroupName } from './layout.ts'
import type { Etcd, EtcdRow } from './ports.ts'
import { isBookkeeping, type Replica } from './replica.ts'

const PAGE_ROWS = 1000
/** Behind every row. */
const END = '\xff'.repeat(16) as ByteString

interface Loaded {
  readonly key: ByteString
  readonly value: Uint8Array | null
  readonly modRevision: Revision
}

export interface LoadOptions {
  readonly etcd: Etcd
  readonly layout: EtcdLayout
  readonly clusterId: ByteString
  /** Told of keys that will be deleted, and then of all that were changed or deleted. */
  readonly onDeleting: (keys: readonly ByteString[]) => void
  readonly onChanged: (keys: readonly ByteString[]) => void
  /** Of the store's own rows. */
  readonly onOwnRow: (row: EtcdRow) => void
}

/** @throws EtcdFailure; then it must begin again */
export async function loadReplica(replica: Replica, options: LoadOptions): Promise<void> {
  const { etcd, layout, clusterId } = options
  await replica.beginLoad(clusterId)
  let start = layout.all.start
  let revision: Revision | undefined
  let lastCommit = { revision: 0, name: '' as GroupName }
  let from = '' as ByteString
  for (;;) {
    const page = await etcd.range({ range: { start, end: layout.all.end }, limit: PAGE_ROWS, revision })
    revision ??= page.revision
    const found: Loaded[] = []
    for (const row of page.rows) {
      const key = layout.keyOf(row.key)
      if (row.key === layout.clock) lastCommit = { revision: row.modRevision, name: decodeGroupName(row.value) }
      if (key === undefined) options.onOwnRow(row)
      else found.push({ key, value: decodeRow(row.value, row.modRevision).value, modRevision: row.modRevision })
    }
    const last = page.rows.at(-1)
    const through = page.more && last !== undefined ? (layout.keyOf(last.key) ?? from) : END
    const behind = through === END ? END : (`${through}\0` as ByteString)
    await replaceRows(replica, { range: { start: from, end: behind }, found, options })
    if (!page.more || last === undefined) break
    start = `${last.key}\0` as ByteString
    from = behind
  }
  await replica.loaded(revision, lastCommit)
}

/** Makes the rows of the range those that were found. */
async function replaceRows(
  replica: Replica,
  {
    range,
    found,
    options: { onDeleting, onChanged },
  }: { range: KeyRange; found: readonly Loaded[]; options: Pick<LoadOptions, 'onDeleting' | 'onChanged'> },
): Promise<void> {
  const wanted = new Map(found.map((row) => [row.key, row]))
  let { start } = range
  for (;;) {
    const stored = replica.storedRevisions({ start, end: range.end }, PAGE_ROWS)
    const changes: Loaded[] = []
    for (const { key, modRevision } of stored) {
      if (key.startsWith('M\x01')) continue
      const row = wanted.get(key)
      if (row === undefined || isBookkeeping(key)) changes.push({ key, value: null, modRevision: 0 })
      else if (row.modRevision === modRevision) wanted.delete(key)
    }
    const last = stored.at(-1)
    const over = last === undefined || stored.length < PAGE_ROWS
    if (over) changes.push(...wanted.values())
    if (changes.length > 0) {
      onDeleting(changes.flatMap(({ key, value }) => (value === null ? [key] : [])))
      await replica.load(changes)
      const keys = changes.flatMap(({ key }) => (isBookkeeping(key) ? [] : [key]))
      if (keys.length > 0) onChanged(keys)
    }
    if (over) return
    start = `${last.key}\0` as ByteString
  }
}
