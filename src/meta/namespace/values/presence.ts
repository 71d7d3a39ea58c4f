/**
 * Which of many keys name an object, at one revision. Keys are looked at in windows: the directories that a window
 * needs and nobody has looked for yet are read level by level, those of one level at once, and then all its entries. So ten
 * thousand keys of one directory cost a look-up of that directory and one batch of rows a window.
 */
import { assert, must } from '../../../common/assert.ts'
import type { ByteString, InodeId, Revision } from '../../../common/ids.ts'
import type { ReadView } from '../../ports.ts'
import { readBucket, type NamespaceContext } from '../context.ts'
import { entryKey } from '../keys.ts'
import { validateKey } from '../names.ts'
import { decodeEntry, isExpiringEntry } from '../records-objects.ts'
import { directoryInode, isExpired } from '../tree.ts'

const KEYS_PER_WINDOW = 256

/**
 * @param leading looks no further than the first key that names nothing, which is then the last one of the answer
 * @throws NoSuchBucket, InvalidKey, KeyTooLong
 */
export function presence(
  context: NamespaceContext,
  bucketName: string,
  keys: readonly string[],
  leading: boolean,
): Promise<{ present: readonly boolean[]; revision: Revision }> {
  return context.store.read(async (view) => {
    const keysBytes = keys.map((key) => validateKey(key, context.limits))
    const bucket = await readBucket(view, bucketName)
    const directories = new DirectoryPaths(view, bucket.root)
    const nowMs = context.clock.nowMs()
    const present: boolean[] = []
    for (let at = 0; at < keysBytes.length; at += KEYS_PER_WINDOW) {
      const found = await presentInWindow(view, directories, { keys: keysBytes.slice(at, at + KEYS_PER_WINDOW), nowMs })
      const absent = leading ? found.indexOf(false) : -1
      present.push(...(absent < 0 ? found : found.slice(0, absent + 1)))
      if (absent >= 0) break
    }
    return { present, revision: view.revision }
  })
}

async function presentInWindow(
  view: ReadView,
  directories: DirectoryPaths,
  window: { keys: readonly ByteString[]; nowMs: number },
): Promise<boolean[]> {
  const paths = window.keys.map((key) => key.slice(0, key.lastIndexOf('/') + 1))
  await directories.find(paths)
  const present = window.keys.map(() => false)
  const sought: { index: number; row: ByteString }[] = []
  for (const [index, key] of window.keys.entries()) {
    const path = must(paths[index], 'path of a key')
    const parent = directories.inode(path)
    if (parent !== undefined) sought.push({ index, row: entryKey(parent, key.slice(path.length)) })
  }
  const rows = await view.getMany(sought.map(({ row }) => row))
  for (const [at, row] of rows.entries()) {
    if (row && namesObject(row, window.nowMs)) present[must(sought[at], 'key of a row').index] = true
  }
  return present
}

/** Decodes only what may have expired. */
function namesObject(row: Uint8Array, nowMs: number): boolean {
  if (!isExpiringEntry(row)) return true
  const entry = decodeEntry(row)
  assert(entry.kind === 'object', 'a name without a slash is an object')
  return !isExpired(entry, nowMs)
}

/** How far down to a directory we have come. */
interface Way {
  readonly path: string
  reached: number
  inode: InodeId | undefined
}

/** Live directories by their path, each looked up once. */
class DirectoryPaths {
  readonly #view: ReadView
  /** Undefined: there is none. */
  readonly #inodes = new Map<string, InodeId | undefined>()

  constructor(view: ReadView, root: InodeId) {
    this.#view = view
    this.#inodes.set('', root)
  }

  inode(path: string): InodeId | undefined {
    return this.#inodes.get(path)
  }

  /** Looks for all of these paths, each empty or ending in a slash. */
  async find(paths: readonly string[]): Promise<void> {
    const root = this.#inodes.get('')
    const missing = new Set(paths.filter((path) => !this.#inodes.has(path)))
    let onTheWay: Way[] = [...missing].map((path) => ({ path, reached: 0, inode: root }))
    while (onTheWay.length > 0) {
      const level = new Map<string, ByteString>()
      onTheWay = onTheWay.filter((way) => this.#advance(way, level))
      if (level.size > 0) await this.#read(level)
    }
  }

  /** Goes as far as directories are known, and adds the one that is not to `level`. False when the way has ended. */
  #advance(way: Way, level: Map<string, ByteString>): boolean {
    const { path } = way
    while (way.inode !== undefined && way.reached < path.length) {
      const end = path.indexOf('/', way.reached) + 1
      const directory = path.slice(0, end)
      if (!this.#inodes.has(directory)) {
        level.set(directory, entryKey(way.inode, path.slice(way.reached, end)))
        return true
      }
      way.inode = this.#inodes.get(directory)
      way.reached = end
    }
    this.#inodes.set(path, way.inode)
    return false
  }

  async #read(level: ReadonlyMap<string, ByteString>): Promise<void> {
    const found = await this.#view.getMany([...level.values()])
    for (const [index, path] of [...level.keys()].entries()) {
      const row = found[index]
      this.#inodes.set(path, row && directoryInode(row))
    }
  }
}
