/**
 * `Files` over a plain tree in memory: what the FUSE session needs to be tried through a real mount without a store. It keeps to the
 * errors of the seam. Directories at the root are directories like any other.
 */
import type { ByteString, InodeId } from '../../src/common/ids.ts'
import { TidegateError } from '../../src/common/errors.ts'
import type { Files } from '../../src/store/doors.ts'
import type { FileChange, FileKind, FileNode, FileTime, HandleId, NewFile } from '../../src/common/file-model.ts'

interface FakeNode {
  node: FileNode
  content: Buffer
  target: ByteString
  readonly parent: InodeId
  readonly names: Map<ByteString, InodeId>
  readonly attributes: Map<ByteString, Uint8Array>
}

const ROOT: InodeId = 0
const PERMISSIONS = 0o7777

export class FakeFileDoor implements Files {
  readonly #nodes = new Map<InodeId, FakeNode>()
  readonly #handles = new Map<HandleId, InodeId>()
  readonly #listeners = new Set<(changes: readonly FileChange[]) => void>()
  #nextInode = 1
  #nextHandle = 1
  /** Names of the methods called, in order. */
  readonly calls: string[] = []

  constructor(owner: { uid: number; gid: number }) {
    this.#add(ROOT, ROOT, { kind: 'directory', mode: 0o755, ...owner })
  }

  get openHandles(): number {
    return this.#handles.size
  }

  async node(inode: InodeId): Promise<FileNode> {
    return this.#get(inode).node
  }

  async find(parent: InodeId, name: ByteString): Promise<FileNode> {
    return this.#get(this.#named(parent, name)).node
  }

  async entries(directory: InodeId, after: ByteString | undefined, limit: number): ReturnType<Files['entries']> {
    const listed = [...this.#directory(directory).names].map(([name, inode]) => {
      const { node } = this.#get(inode)
      return { name, node, key: node.kind === 'directory' ? `${name}/` : name }
    })
    const rest = listed.filter(({ key }) => after === undefined || key > after)
    rest.sort((a, b) => (a.key < b.key ? -1 : 1))
    return { entries: rest.slice(0, limit).map(({ name, node }) => ({ name, node })), more: rest.length > limit }
  }

  async parentOf(directory: InodeId): Promise<InodeId> {
    return this.#get(directory).parent
  }

  async makeFile(parent: InodeId, name: ByteString, made: Parameters<Files['makeFile']>[2]): Promise<FileNode> {
    const node = this.#make(parent, name, made)
    if (made.target === undefined) return node
    const fake = this.#get(node.inode)
    fake.target = made.target
    return this.#change(fake, { size: made.target.length })
  }

  async makeDirectory(parent: InodeId, name: ByteString, made: NewFile): Promise<FileNode> {
    return this.#make(parent, name, { ...made, kind: 'directory' })
  }

  async link(inode: InodeId, parent: InodeId, name: ByteString): Promise<FileNode> {
    const fake = this.#get(inode)
    const { names } = this.#directory(parent)
    if (names.has(name)) throw new TidegateError('FileExists', name)
    names.set(name, inode)
    this.#tell(parent, name)
    return this.#change(fake, { links: fake.node.links + 1 })
  }

  async linkTarget(inode: InodeId): Promise<ByteString> {
    return this.#get(inode).target
  }

  async remove(parent: InodeId, name: ByteString): Promise<void> {
    const fake = this.#get(this.#named(parent, name))
    if (fake.node.kind === 'directory') throw new TidegateError('IsADirectory', name)
    this.#directory(parent).names.delete(name)
    this.#unlinked(fake)
    this.#tell(parent, name)
  }

  async removeDirectory(parent: InodeId, name: ByteString): Promise<void> {
    const inode = this.#named(parent, name)
    if (this.#directory(inode).names.size > 0) throw new TidegateError('DirectoryNotEmpty', name)
    this.#directory(parent).names.delete(name)
    this.#nodes.delete(inode)
    this.#tell(parent, name)
  }

  async rename(
    from: { readonly parent: InodeId; readonly name: ByteString },
    to: { readonly parent: InodeId; readonly name: ByteString },
    mode: 'replace' | 'no-replace' | 'exchange',
  ): Promise<void> {
    const inode = this.#named(from.parent, from.name)
    const [source, target] = [this.#directory(from.parent).names, this.#directory(to.parent).names]
    const replaced = target.get(to.name)
    if (replaced !== undefined && mode === 'no-replace') throw new TidegateError('FileExists', to.name)
    source.delete(from.name)
    if (replaced !== undefined && mode === 'exchange') source.set(from.name, replaced)
    else if (replaced !== undefined) this.#unlinked(this.#get(replaced))
    target.set(to.name, inode)
    this.#tell(from.parent, from.name)
    this.#tell(to.parent, to.name)
  }

  async change(inode: InodeId, changes: Parameters<Files['change']>[1]): Promise<FileNode> {
    const fake = this.#get(inode)
    if (changes.size !== undefined) this.#resize(fake, changes.size)
    const mode = changes.mode ?? fake.node.mode
    return this.#change(fake, {
      mode: changes.dropPrivileges && fake.node.kind !== 'directory' ? mode & ~0o6000 : mode,
      uid: changes.uid ?? fake.node.uid,
      gid: changes.gid ?? fake.node.gid,
      accessed: timeOf(changes.accessed, fake.node.accessed),
      modified: timeOf(changes.modified, fake.node.modified),
    })
  }

  async open(
    inode: InodeId,
    options: { readonly write: boolean; readonly truncate: boolean },
  ): ReturnType<Files['open']> {
    this.calls.push('open')
    const fake = this.#get(inode)
    if (options.truncate) this.#resize(fake, 0)
    const handle = this.#nextHandle++
    this.#handles.set(handle, inode)
    return { handle, node: fake.node }
  }

  async create(
    parent: InodeId,
    name: ByteString,
    made: NewFile,
    { write }: { readonly write: boolean },
  ): ReturnType<Files['create']> {
    const { inode } = await this.makeFile(parent, name, { ...made, kind: 'file' })
    return await this.open(inode, { write, truncate: false })
  }

  isUnpublished(): boolean {
    return true
  }

  readNow(): undefined {
    return undefined
  }

  writeNow(): boolean {
    return false
  }

  async read(handle: HandleId, offset: number, length: number): ReturnType<Files['read']> {
    const { content } = this.#opened(handle)
    const bytes = content.subarray(offset, offset + length)
    return bytes.length === 0 ? [] : [{ kind: 'bytes', bytes }]
  }

  async write(handle: HandleId, offset: number, bytes: Uint8Array, append: boolean): Promise<void> {
    const fake = this.#opened(handle)
    const at = append ? fake.content.length : offset
    if (fake.content.length < at + bytes.length) this.#resize(fake, at + bytes.length)
    fake.content.set(bytes, at)
    this.#change(fake, { modified: now() })
  }

  async sync(handle: HandleId): Promise<void> {
    this.calls.push('sync')
    this.#opened(handle)
  }

  async flush(handle: HandleId): Promise<void> {
    this.calls.push('flush')
    this.#opened(handle)
  }

  async release(handle: HandleId): Promise<void> {
    this.calls.push('release')
    const fake = this.#opened(handle)
    this.#handles.delete(handle)
    this.#dropIfUnused(fake)
  }

  async allocate(
    handle: HandleId,
    { offset, length }: { readonly offset: number; readonly length: number },
    { kind, keepSize }: { readonly kind: 'allocate' | 'punch' | 'zero'; readonly keepSize: boolean },
  ): Promise<void> {
    const fake = this.#opened(handle)
    if (!keepSize && fake.content.length < offset + length) this.#resize(fake, offset + length)
    if (kind !== 'allocate') fake.content.fill(0, offset, offset + length)
    this.#change(fake, { modified: now() })
  }

  async copyRange(
    from: { readonly handle: HandleId; readonly offset: number },
    to: { readonly handle: HandleId; readonly offset: number },
    length: number,
  ): Promise<number> {
    const bytes = Buffer.from(this.#opened(from.handle).content.subarray(from.offset, from.offset + length))
    await this.write(to.handle, to.offset, bytes, false)
    return bytes.length
  }

  async seek(handle: HandleId, offset: number, what: 'data' | 'hole'): Promise<number | undefined> {
    const { content } = this.#opened(handle)
    if (offset >= content.length) return undefined
    return what === 'data' ? offset : content.length
  }

  async attribute(inode: InodeId, name: ByteString): Promise<Uint8Array> {
    const value = this.#get(inode).attributes.get(name)
    if (value === undefined) throw new TidegateError('NoSuchAttribute', name)
    return value
  }

  async attributeNames(inode: InodeId): Promise<readonly ByteString[]> {
    return [...this.#get(inode).attributes.keys()]
  }

  async setAttribute(
    inode: InodeId,
    name: ByteString,
    value: Uint8Array,
    mode: 'set' | 'create' | 'replace',
  ): Promise<void> {
    const { attributes } = this.#get(inode)
    if (mode === 'create' && attributes.has(name)) throw new TidegateError('FileExists', name)
    if (mode === 'replace' && !attributes.has(name)) throw new TidegateError('NoSuchAttribute', name)
    attributes.set(name, value)
  }

  async removeAttribute(inode: InodeId, name: ByteString): Promise<void> {
    if (!this.#get(inode).attributes.delete(name)) throw new TidegateError('NoSuchAttribute', name)
  }

  async findKey(bucket: string, key: ByteString): Promise<FileNode> {
    return await this.find(this.#named(ROOT, bucket as ByteString), key)
  }

  /** There are no keys but those in the bucket's own directory. */
  async keyEntries(bucket: string, after: ByteString | undefined, limit: number): ReturnType<Files['keyEntries']> {
    return await this.entries(this.#named(ROOT, bucket as ByteString), after, limit)
  }

  async describe(inode: InodeId): ReturnType<Files['describe']> {
    const { node, parent } = this.#get(inode)
    const name = [...this.#get(parent).names].find(([, each]) => each === inode)?.[0] ?? ''
    if (node.kind === 'directory') return { place: { bucket: name, key: '' }, object: undefined }
    const object = { etag: `etag-${inode}`, revision: inode, ack: 'journal' } as const
    return { place: { bucket: 'bucket', key: name }, object }
  }

  async residency(inode: InodeId): ReturnType<Files['residency']> {
    return { memory: this.#get(inode).node.size, dirty: 0, journal: 0, remote: 0, metadata: 0 }
  }

  async statistics(): ReturnType<Files['statistics']> {
    return {
      blockBytes: 4096,
      blocks: 1000,
      blocksFree: 600,
      blocksAvailable: 500,
      files: this.#nodes.size,
      nameBytesMax: 255,
    }
  }

  onChanges(listener: (changes: readonly FileChange[]) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** What another door does: like the mount's calls, but nobody at the mount asked for it. */
  put(parent: InodeId, name: string, content: string): void {
    const names = this.#directory(parent).names
    const old = names.get(name as ByteString)
    if (old !== undefined) this.#unlinked(this.#get(old))
    names.delete(name as ByteString)
    const node = this.#make(parent, name as ByteString, { kind: 'file', mode: 0o644, uid: 0, gid: 0 })
    const fake = this.#get(node.inode)
    this.#resize(fake, Buffer.byteLength(content))
    fake.content.write(content)
  }

  #make(parent: InodeId, name: ByteString, made: NewFile & { kind: FileKind; device?: number }): FileNode {
    const { names } = this.#directory(parent)
    if (names.has(name)) throw new TidegateError('FileExists', name)
    const inode = this.#nextInode++
    names.set(name, inode)
    const fake = this.#add(inode, parent, made)
    this.#tell(parent, name)
    return fake.node
  }

  #add(inode: InodeId, parent: InodeId, made: NewFile & { kind: FileKind; device?: number }): FakeNode {
    const time = now()
    const node: FileNode = {
      inode,
      kind: made.kind,
      mode: made.mode & PERMISSIONS,
      uid: made.uid,
      gid: made.gid,
      size: 0,
      links: 1,
      device: made.device ?? 0,
      accessed: time,
      modified: time,
      changed: time,
      storedBytes: 0,
    }
    const fake: FakeNode = {
      node,
      content: Buffer.alloc(0),
      target: '' as ByteString,
      parent,
      names: new Map(),
      attributes: new Map(),
    }
    this.#nodes.set(inode, fake)
    return fake
  }

  #resize(fake: FakeNode, size: number): void {
    const content = Buffer.alloc(size)
    fake.content.copy(content)
    fake.content = content
    this.#change(fake, { size, storedBytes: size, modified: now() })
  }

  #change(fake: FakeNode, changes: Partial<FileNode>): FileNode {
    fake.node = { ...fake.node, ...changes, changed: now() }
    this.#emit([{ kind: 'node', inode: fake.node.inode }])
    return fake.node
  }

  #unlinked(fake: FakeNode): void {
    this.#change(fake, { links: fake.node.links - 1 })
    this.#dropIfUnused(fake)
  }

  #dropIfUnused({ node }: FakeNode): void {
    if (node.links === 0 && ![...this.#handles.values()].includes(node.inode)) this.#nodes.delete(node.inode)
  }

  #tell(parent: InodeId, name: ByteString): void {
    this.#emit([
      { kind: 'entry', parent, name },
      { kind: 'node', inode: parent },
    ])
  }

  #emit(changes: readonly FileChange[]): void {
    for (const listener of this.#listeners) listener(changes)
  }

  #get(inode: InodeId): FakeNode {
    const fake = this.#nodes.get(inode)
    if (fake === undefined) throw new TidegateError('StaleFile', `inode ${inode}`)
    return fake
  }

  #directory(inode: InodeId): FakeNode {
    const fake = this.#get(inode)
    if (fake.node.kind !== 'directory') throw new TidegateError('NotADirectory', `inode ${inode}`)
    return fake
  }

  #named(parent: InodeId, name: ByteString): InodeId {
    const inode = this.#directory(parent).names.get(name)
    if (inode === undefined) throw new TidegateError('NoSuchKey', name)
    return inode
  }

  #opened(handle: HandleId): FakeNode {
    const inode = this.#handles.get(handle)
    if (inode === undefined) throw new TidegateError('InvalidArgument', `handle ${handle}`)
    return this.#get(inode)
  }
}

function now(): FileTime {
  const ms = Date.now()
  return { seconds: Math.floor(ms / 1000), nanoseconds: (ms % 1000) * 1e6 }
}

function timeOf(change: FileTime | 'now' | undefined, old: FileTime): FileTime {
  return change === 'now' ? now() : (change ?? old)
}
