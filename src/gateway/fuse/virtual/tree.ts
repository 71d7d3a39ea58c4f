/** The virtual nodes of one mount: what they are, what lies in them, and who has them open. */
import { TidegateError } from '../../../common/errors.ts'
import type { Clock } from '../../../common/clock.ts'
import { utf8Text, type ByteString, type InodeId } from '../../../common/ids.ts'
import type { FileEntry, FileNode, HandleId } from '../../../common/file-model.ts'
import type { Files, Objects } from '../../../store/doors.ts'
import { DirectoryCursor } from '../directory-cursors.ts'
import { FuseError } from '../protocol/errno.ts'
import { keyOfName, nameOfKey } from './key-names.ts'
import {
  FLAT_VIEWS,
  FLAT_VIEWS_NAME,
  ROOT,
  STATISTICS_NAME,
  VIRTUAL_ROOT,
  VIRTUAL_ROOT_NAME,
  bucketRootOf,
  fixedNodes,
  flatViewNode,
  type FixedNodes,
} from './nodes.ts'

type Page = Awaited<ReturnType<Files['entries']>>

export interface VirtualTreeOptions {
  readonly files: Files
  /** How keys are made and removed through the flat view. */
  readonly objects: Pick<Objects, 'put' | 'delete'>
  readonly clock: Clock
  /** Who mounted. */
  readonly owner: { readonly uid: number; readonly gid: number }
}

export class VirtualTree {
  readonly objects: VirtualTreeOptions['objects']
  readonly #files: Files
  readonly #fixed: FixedNodes
  readonly #texts = new Map<HandleId, Uint8Array>()
  readonly #cursors = new Map<HandleId, DirectoryCursor>()
  #nextHandle: HandleId = VIRTUAL_ROOT

  constructor({ files, objects, clock, owner }: VirtualTreeOptions) {
    this.#files = files
    this.objects = objects
    const nowMs = clock.nowMs()
    this.#fixed = fixedNodes(owner, { seconds: Math.floor(nowMs / 1000), nanoseconds: 0 })
  }

  /** @throws StaleFile when the bucket is gone */
  async node(inode: InodeId): Promise<FileNode> {
    const fixed = Object.values(this.#fixed).find((node) => node.inode === inode)
    if (fixed) return fixed
    const bucketRoot = bucketRootOf(inode)
    if (bucketRoot === undefined) throw new FuseError('ESTALE')
    return flatViewNode(await this.#files.node(bucketRoot))
  }

  /** Of the fixed names; undefined when it is none. */
  fixedChild(parent: InodeId, name: ByteString): FileNode | undefined {
    if (parent === ROOT) return name === VIRTUAL_ROOT_NAME ? this.#fixed.root : undefined
    if (parent !== VIRTUAL_ROOT) return undefined
    if (name === STATISTICS_NAME) return this.#fixed.statistics
    return name === FLAT_VIEWS_NAME ? this.#fixed.flatViews : undefined
  }

  /** What is looked up each time: the flat view of a bucket, or a key in it. @throws NoSuchKey, NoSuchBucket, StaleFile */
  async child(parent: InodeId, name: ByteString): Promise<FileNode> {
    if (parent === FLAT_VIEWS) return flatViewNode(await this.#files.find(ROOT, name))
    const key = keyOfName(name)
    const bucket = await this.bucketOf(parent)
    if (bucket === undefined || key === undefined) throw noSuchName(name)
    return await this.#files.findKey(bucket, key)
  }

  /** Of a flat view; undefined for any other node. @throws StaleFile when the bucket is gone */
  async bucketOf(inode: InodeId): Promise<string | undefined> {
    const bucketRoot = bucketRootOf(inode)
    return bucketRoot === undefined ? undefined : (await this.#files.describe(bucketRoot)).place?.bucket
  }

  parentOf(inode: InodeId): InodeId {
    if (inode === VIRTUAL_ROOT) return ROOT
    return inode === FLAT_VIEWS ? VIRTUAL_ROOT : FLAT_VIEWS
  }

  /**
   * For cursors: of virtual directories and of any other. The root of the mount does not list the virtual one, which is found all the
   * same: so whoever walks the mount (find, du, rsync) meets each object once.
   */
  entries(directory: InodeId, after: ByteString | undefined, limit: number): Promise<Page> {
    if (directory < VIRTUAL_ROOT) return this.#files.entries(directory, after, limit)
    if (directory === VIRTUAL_ROOT) return Promise.resolve(this.#fixedEntries(after))
    if (directory === FLAT_VIEWS) return this.#flatViews(after, limit)
    return this.#keys(directory, after, limit)
  }

  #fixedEntries(after: ByteString | undefined): Page {
    if (after !== undefined) return { entries: [], more: false }
    const entries = [
      { name: FLAT_VIEWS_NAME, node: this.#fixed.flatViews },
      { name: STATISTICS_NAME, node: this.#fixed.statistics },
    ]
    return { entries, more: false }
  }

  async #flatViews(after: ByteString | undefined, limit: number): Promise<Page> {
    const { entries, more } = await this.#files.entries(ROOT, after, limit)
    return { entries: entries.map(({ name, node }) => ({ name, node: flatViewNode(node) })), more }
  }

  /** Pages with nothing that has a name are passed over. */
  async #keys(flatView: InodeId, after: ByteString | undefined, limit: number): Promise<Page> {
    const bucket = await this.bucketOf(flatView)
    if (bucket === undefined) throw new FuseError('ENOTDIR')
    for (let last = after && keyOfName(after); ;) {
      const { entries, more } = await this.#files.keyEntries(bucket, last, limit)
      const named = entries.flatMap(({ name: key, node }): FileEntry[] => {
        const name = nameOfKey(key)
        return name === undefined ? [] : [{ name, node }]
      })
      if (named.length > 0 || !more) return { entries: named, more }
      last = entries.at(-1)?.name
    }
  }

  openText(text: Uint8Array): HandleId {
    const handle = this.#nextHandle++
    this.#texts.set(handle, text)
    return handle
  }

  openDirectory(inode: InodeId): HandleId {
    const handle = this.#nextHandle++
    this.#cursors.set(handle, new DirectoryCursor(this, inode))
    return handle
  }

  /** @throws FuseError EBADF */
  text(handle: HandleId): Uint8Array {
    return opened(this.#texts, handle)
  }

  /** @throws FuseError EBADF */
  cursor(handle: HandleId): DirectoryCursor {
    return opened(this.#cursors, handle)
  }

  close(handle: HandleId): void {
    this.#texts.delete(handle)
    this.#cursors.delete(handle)
  }
}

function opened<T>(handles: ReadonlyMap<HandleId, T>, handle: HandleId): T {
  const found = handles.get(handle)
  if (found === undefined) throw new FuseError('EBADF', `virtual handle ${handle}`)
  return found
}

export function noSuchName(name: ByteString): TidegateError {
  return new TidegateError('NoSuchKey', `no file ${JSON.stringify(utf8Text(name))}`)
}
