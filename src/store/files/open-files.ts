/**
 * The files that are open, or that hold something unpublished after their last handle was closed (a publish that failed and is
 * tried again). One `OpenFile` an inode, however many handles.
 */
import { TidegateError } from '../../common/errors.ts'
import type { InodeId } from '../../common/ids.ts'
import type { FileNode, HandleId } from '../../common/file-model.ts'
import type { DirtyMemory } from './dirty-memory.ts'
import { newHandle, OpenFile, type Handle } from './open-file.ts'
import { PublishedExtents, type PublishedParts } from './published-extents.ts'

export class OpenFiles {
  readonly #files = new Map<InodeId, OpenFile>()
  readonly #loading = new Map<InodeId, Promise<FileNode>>()
  readonly #handles = new Map<HandleId, Handle>()
  readonly #dirtyMemory: DirtyMemory
  readonly #published: PublishedParts
  readonly #load: (inode: InodeId) => Promise<FileNode>
  #nextHandle = 1

  constructor(options: {
    dirtyMemory: DirtyMemory
    published: PublishedParts
    load: (inode: InodeId) => Promise<FileNode>
  }) {
    this.#dirtyMemory = options.dirtyMemory
    this.#published = options.published
    this.#load = options.load
  }

  get count(): number {
    return this.#files.size
  }

  get handleCount(): number {
    return this.#handles.size
  }

  all(): readonly OpenFile[] {
    return [...this.#files.values()]
  }

  get(inode: InodeId): OpenFile | undefined {
    return this.#files.get(inode)
  }

  /** The file, if it is open and its size is known. */
  loaded(inode: InodeId): OpenFile | undefined {
    return this.#loading.has(inode) ? undefined : this.#files.get(inode)
  }

  allHandles(): readonly Handle[] {
    return [...this.#handles.values()]
  }

  /**
   * The file, counted as used until `leave`. Registered before its node is looked up, so that nothing is published behind the
   * look-up's back.
   */
  async use(inode: InodeId): Promise<{ file: OpenFile; node: FileNode }> {
    let file = this.#files.get(inode)
    if (!file) {
      file = new OpenFile(inode, this.#dirtyMemory, new PublishedExtents(this.#published, inode))
      this.#files.set(inode, file)
      this.#loading.set(inode, this.#loadInto(file))
    }
    file.guests++
    try {
      const loading = this.#loading.get(inode)
      if (loading) return { file, node: await loading }
      return { file, node: await this.look(file, () => this.#load(inode)) }
    } catch (error) {
      this.leave(file)
      throw error
    }
  }

  /** The node of a file that is open. What another node has made of it meanwhile is taken over (close-to-open). */
  async look(file: OpenFile, load: () => Promise<FileNode>): Promise<FileNode> {
    const { point } = file
    const node = await load()
    if (this.#published.metadata.isShared === true) file.learn(node, point)
    return node
  }

  /** The file that an inode is going to be, empty, counted as used until `leave`. */
  expect(inode: InodeId): OpenFile {
    const file = new OpenFile(inode, this.#dirtyMemory, new PublishedExtents(this.#published, inode))
    file.lies = 'inline'
    file.isPersistenceKnown = true
    file.guests++
    this.#files.set(inode, file)
    return file
  }

  async #loadInto(file: OpenFile): Promise<FileNode> {
    try {
      const node = await this.#load(file.inode)
      file.size = node.size
      file.publishedSize = node.size
      return node
    } catch (error) {
      this.#files.delete(file.inode)
      throw error
    } finally {
      this.#loading.delete(file.inode)
    }
  }

  /** True when nobody uses it any more. */
  leave(file: OpenFile): boolean {
    file.guests--
    this.forgetIfIdle(file)
    return !file.used
  }

  forgetIfIdle(file: OpenFile): void {
    if (file.used || file.dirty || file.publishing || file.unsure) return
    file.published.invalidate()
    if (this.#files.get(file.inode) === file) this.#files.delete(file.inode)
  }

  addHandle(file: OpenFile | undefined, write: boolean): Handle {
    const handle = newHandle(this.#nextHandle++, file, write)
    this.#handles.set(handle.id, handle)
    file?.handles.add(handle)
    return handle
  }

  removeHandle(handle: Handle): void {
    this.#handles.delete(handle.id)
    handle.file?.handles.delete(handle)
  }

  handle(id: HandleId): Handle {
    const handle = this.#handles.get(id)
    if (!handle) throw new TidegateError('InvalidRequest', `there is no open handle ${id}`)
    return handle
  }

  /** The file behind a handle. @throws IsADirectory, InvalidRequest when it was not opened for that */
  file(id: HandleId, to: 'read' | 'write'): { handle: Handle; file: OpenFile } {
    const handle = this.handle(id)
    if (!handle.file) throw new TidegateError('IsADirectory', `handle ${id} is of a directory`)
    if (to === 'write' && !handle.write) {
      throw new TidegateError('InvalidRequest', `handle ${id} was not opened for writing`)
    }
    return { handle, file: handle.file }
  }
}
