/** One page of a bucket's keys in the order of their bytes, each with the file that it names. */
import { assert, must } from '../../../common/assert.ts'
import type { ByteString } from '../../../common/ids.ts'
import { readBucket, type NamespaceContext } from '../context.ts'
import { inodeKey } from '../keys.ts'
import { decodeInode } from '../records-objects.ts'
import { ObjectWalk, type WalkItem } from '../walk.ts'
import { FILE_ENTRIES_MAX, type FileEntryPage } from './entries.ts'
import { plainNode } from './nodes.ts'
import { readVisible } from './visible.ts'

/** Names are whole keys, markers (`a/`) among them; what has expired is passed over. @throws NoSuchBucket */
export function keyEntries(
  context: NamespaceContext,
  bucketName: string,
  after: ByteString | undefined,
  limit: number,
): Promise<FileEntryPage> {
  const most = Math.min(limit, FILE_ENTRIES_MAX)
  return readVisible(context, async (view) => {
    const { root } = await readBucket(view, bucketName)
    const from = after === undefined ? '' : `${after}\0`
    const start = { inode: root, path: '', namePrefix: '', from, enter: true, nowMs: context.clock.nowMs() }
    const walk = await ObjectWalk.begin(view, start, most + 1)
    const items: WalkItem[] = []
    let next = await walk.next()
    for (; next && items.length < most; next = await walk.next()) items.push(next)
    const ids = items.map(({ entry }) => entry.inode)
    const rows = await view.getMany(ids.map(inodeKey))
    const entries = items.map(({ key, entry }, index) => {
      assert(entry.kind === 'object', 'a walk that enters directories shows objects')
      const inode = decodeInode(must(rows[index], `inode ${entry.inode} of an entry`))
      return { name: key as ByteString, node: plainNode(context, { id: entry.inode, inode }) }
    })
    return { entries, more: next !== undefined }
  })
}
