/**
 * A namespace of files in memory, with a journal and a slab to go with it: an honest model of what the store's files need. Published
 * content is a list of extents over segments, spliced by each publish, and a read of it goes through the slab's leases.
 */
import { crc32 } from 'node:zlib'
import { TidegateError } from '../../src/common/errors.ts'
import type { ByteString, InodeId, Revision, SegmentId } from '../../src/common/ids.ts'
import type { AckLevel, BucketRecord, StoredRun } from '../../src/common/model.ts'
import type { JournaledBody, Journaling, LentSlot, Memory } from '../../src/store/byte-ports.ts'
import type { FileEdit, FileExtents, PublishFileRequest } from '../../src/common/file-contents.ts'
import type { MetadataFiles } from '../../src/store/file-ports.ts'
import type { FileChange, FileChanges, FileNode, FilePiece, FileTime } from '../../src/common/file-model.ts'
import type { FilesMetadata } from '../../src/store/files/file-parts.ts'
import type { Commit } from '../../src/store/ports.ts'

type Extent = FileExtents['extents'][number]

interface FakeInode {
  node: FileNode
  inline: Uint8Array | undefined
  extents: Extent[]
  attributes: Map<ByteString, Uint8Array>
  names: Set<string>
}

/** Called before something happens; may wait or throw. */
export type Hook = (what: string) => Promise<void> | void

/** Bytes of segments: what is journaled, what is synced, and what is still held by unpublished bodies. */
export class FakeJournal implements Journaling {
  readonly segments = new Map<SegmentId, Uint8Array>()
  readonly synced = new Set<SegmentId>()
  readonly unsyncedNamed = new Set<SegmentId>()
  /** Segments of which no sync can succeed any more. */
  readonly broken = new Set<SegmentId>()
  readonly log: string[] = []
  pending = 0
  bytes = 0
  hook: Hook = () => undefined
  /** False for streams that no one reads back. */
  keepsBytes = true
  #next = 1

  async append(body: Parameters<Journaling['append']>[0]): Promise<JournaledBody> {
    await this.hook('append')
    const bytes = Buffer.concat(body.pieces)
    if (bytes.length !== body.length || crc32(bytes) !== body.bodyCrc) throw new Error('the pieces are not the body')
    const segment = (this.#next++).toString(16).padStart(32, '0') as SegmentId
    // Not at the start of a block, as in a shared segment.
    const segmentOffset = 37
    if (this.keepsBytes) this.segments.set(segment, Buffer.concat([Buffer.alloc(segmentOffset), bytes]))
    this.pending++
    this.bytes += bytes.length
    this.log.push(`append ${body.label} ${bytes.length}`)
    let pending = true
    return {
      run: { content: body.content, segment, segmentOffset, length: bytes.length },
      sync: async () => {
        await this.hook('sync')
        if (this.broken.has(segment)) throw new TidegateError('Unavailable', `segment ${segment} is broken`)
        this.log.push('sync')
        this.synced.add(segment)
      },
      isLost: () => this.broken.has(segment),
      settled: () => {
        if (!pending) throw new Error('settled twice')
        pending = false
        this.pending--
      },
    }
  }

  stream(): never {
    throw new Error('files do not stream')
  }

  streamPublished(): void {}

  discardStream(): Promise<void> {
    return Promise.resolve()
  }

  nameUnsynced(run: StoredRun): void {
    this.unsyncedNamed.add(run.segment)
    this.log.push('name unsynced')
  }

  sealSoon(): void {}
}

/** A slab whose every lease has an address of its own. */
export class FakeSlab {
  readonly leases = new Map<number, Uint8Array>()
  readonly prefetched: string[] = []
  /** Which blocks are in memory. */
  here: (block: number) => boolean = () => true
  hook: Hook = () => undefined
  readonly #journal: FakeJournal
  readonly #blockBytes: number
  readonly #views = new Map<number, Uint8Array>()
  #nextLease = 1
  #nextAddress = 0

  constructor(journal: FakeJournal, blockBytes: number) {
    this.#journal = journal
    this.#blockBytes = blockBytes
  }

  get memory(): Memory {
    return {
      lend: async (segment: SegmentId, block: number, needed: number) => {
        await this.hook('lend')
        return this.#lend(segment, block, needed)
      },
      lendNow: (segment: SegmentId, block: number, needed: number) =>
        this.here(block) ? this.#lend(segment, block, needed) : undefined,
      prefetch: (segment: SegmentId, firstBlock: number, count: number) =>
        this.prefetched.push(`${segment.slice(-2)}/${firstBlock}+${count}`) && count,
      giveBack: (lease: number) => {
        if (!this.leases.delete(lease)) throw new Error(`lease ${lease} is given back twice`)
      },
      view: (slabOffset: number, length: number) => this.view(slabOffset, length),
    } as unknown as Memory
  }

  #lend(segment: SegmentId, block: number, needed: number): LentSlot {
    const bytes = this.#journal.segments.get(segment)
    const whole = bytes?.subarray(block * this.#blockBytes, (block + 1) * this.#blockBytes)
    if (!whole || whole.length < needed) throw new TidegateError('DataLost', `${segment} block ${block}`)
    const lease = this.#nextLease++
    const slabOffset = this.#nextAddress
    this.#nextAddress += this.#blockBytes
    this.#views.set(slabOffset / this.#blockBytes, whole)
    this.leases.set(lease, whole)
    return { slabOffset, length: whole.length, lease }
  }

  view(slabOffset: number, length: number): Uint8Array {
    const within = slabOffset % this.#blockBytes
    const bytes = this.#views.get((slabOffset - within) / this.#blockBytes) as Uint8Array
    return bytes.subarray(within, within + length)
  }

  /** The bytes of what was read; gives every lease back. */
  collect(pieces: readonly FilePiece[]): Buffer {
    return Buffer.concat(
      pieces.map((piece) => {
        if (piece.kind === 'bytes') return piece.bytes
        if (piece.kind === 'hole') return Buffer.alloc(piece.length)
        const bytes = Buffer.from(this.view(piece.slabOffset, piece.length))
        if (!this.leases.delete(piece.lease)) throw new Error('not lent')
        return bytes
      }),
    )
  }
}

function notModelled(): never {
  throw new Error('not modelled')
}

const ROOT_MODE = { mode: 0o755, uid: 0, gid: 0 }

/** One bucket `b` with the root directory 1. */
export class FakeMetadataFiles implements FilesMetadata {
  readonly inodes = new Map<InodeId, FakeInode>()
  readonly publishes: PublishFileRequest[] = []
  readonly listeners = new Set<(changes: readonly FileChange[]) => void>()
  ack: AckLevel = 'journal'
  nowMs = 1_000
  flushes = 0
  #pending: Promise<void> = Promise.resolve()
  hook: Hook = () => undefined
  /** Settles `durable` of the next commits. */
  durable: () => Promise<void> = () => Promise.resolve()
  #isOpen: (inode: InodeId) => boolean = () => false
  #nextInode = 2
  #nextContent = 1
  #revision = 1

  constructor() {
    this.inodes.set(1, this.#newInode(1, { ...ROOT_MODE, kind: 'directory' }))
  }

  keepFiles(isOpen: (inode: InodeId) => boolean): void {
    this.#isOpen = isOpen
  }

  #newInode(inode: InodeId, made: { kind: FileNode['kind']; mode: number; uid: number; gid: number }): FakeInode {
    const time: FileTime = { seconds: Math.floor(this.nowMs / 1000), nanoseconds: (this.nowMs % 1000) * 1e6 }
    const { kind, mode, uid, gid } = made
    const times = { accessed: time, modified: time, changed: time }
    const node = { inode, kind, mode, uid, gid, size: 0, links: 0, device: 0, storedBytes: 0, ...times }
    return { node, inline: undefined, extents: [], attributes: new Map(), names: new Set() }
  }

  #get(inode: InodeId): FakeInode {
    const found = this.inodes.get(inode)
    if (!found) throw new TidegateError('StaleFile', `inode ${inode} is gone`)
    return found
  }

  #named(parent: InodeId, name: string): FakeInode {
    for (const found of this.inodes.values()) if (found.names.has(`${parent}/${name}`)) return found
    throw new TidegateError('NoSuchKey', name)
  }

  #commit<T>(value: T, ...changes: FileChange[]): Commit<T> {
    for (const listener of this.listeners) listener(changes)
    const durable = this.durable()
    const isOver = (): void => {
      if (this.#pending === durable) this.#pending = Promise.resolve()
    }
    this.#pending = durable
    durable.then(isOver, isOver)
    return { value, revision: ++this.#revision, durable }
  }

  #unname(found: FakeInode, path: string, keep: boolean): boolean {
    found.names.delete(path)
    found.node = { ...found.node, links: found.names.size }
    if (found.names.size > 0) return false
    if (keep || this.#isOpen(found.node.inode)) return false
    this.inodes.delete(found.node.inode)
    return true
  }

  /** What a PUT of another door over a file does (C27). */
  replace(parent: InodeId, name: string): FileNode {
    const old = this.#named(parent, name)
    const fresh = this.#newInode(this.#nextInode++, old.node)
    this.#unname(old, `${parent}/${name}`, false)
    this.inodes.set(fresh.node.inode, fresh)
    fresh.names.add(`${parent}/${name}`)
    return fresh.node
  }

  async fileNode(inode: InodeId): Promise<FileNode> {
    await this.hook('fileNode')
    return this.#get(inode).node
  }

  findFile(parent: InodeId, name: ByteString): Promise<FileNode> {
    return Promise.resolve().then(() => this.#named(parent, name).node)
  }

  fileEntries(directory: InodeId): ReturnType<MetadataFiles['fileEntries']> {
    const entries = [...this.inodes.values()].flatMap(({ names, node }) =>
      [...names]
        .filter((path) => path.startsWith(`${directory}/`))
        .map((path) => ({ name: path.slice(path.indexOf('/') + 1) as ByteString, node })),
    )
    return Promise.resolve({ entries, more: false })
  }

  parentOf(): Promise<InodeId> {
    return Promise.resolve(0)
  }

  async makeFile(...[parent, name, made]: Parameters<MetadataFiles['makeFile']>): Promise<Commit<FileNode>> {
    await this.hook('makeFile')
    const fresh = this.#newInode(this.#nextInode++, made)
    fresh.names.add(`${parent}/${name}`)
    fresh.node = { ...fresh.node, links: 1 }
    made.willBe?.(fresh.node.inode, 'b')
    this.inodes.set(fresh.node.inode, fresh)
    await this.hook('makeFile committed')
    return this.#commit(fresh.node, { kind: 'entry', parent, name })
  }

  makeDirectory(): never {
    throw new Error('not modelled')
  }

  linkFile(inode: InodeId, parent: InodeId, name: ByteString): Promise<Commit<FileNode>> {
    const found = this.#get(inode)
    found.names.add(`${parent}/${name}`)
    found.node = { ...found.node, links: found.names.size }
    return Promise.resolve(this.#commit(found.node))
  }

  removeFile(
    ...[parent, name, { keep }]: Parameters<MetadataFiles['removeFile']>
  ): ReturnType<MetadataFiles['removeFile']> {
    return Promise.resolve().then(() => {
      const found = this.#named(parent, name)
      const gone = this.#unname(found, `${parent}/${name}`, keep)
      return this.#commit({ inode: found.node.inode, gone })
    })
  }

  removeDirectory(): never {
    throw new Error('not modelled')
  }

  renameFile(
    ...[from, to, { keep }]: Parameters<MetadataFiles['renameFile']>
  ): ReturnType<MetadataFiles['renameFile']> {
    return Promise.resolve().then(() => {
      const moved = this.#named(from.parent, from.name)
      let replaced: InodeId | undefined
      let gone = false
      for (const other of this.inodes.values()) {
        if (!other.names.has(`${to.parent}/${to.name}`)) continue
        replaced = other.node.inode
        gone = this.#unname(other, `${to.parent}/${to.name}`, keep(replaced))
      }
      moved.names.delete(`${from.parent}/${from.name}`)
      moved.names.add(`${to.parent}/${to.name}`)
      return this.#commit({ replaced, gone })
    })
  }

  dropFile(inode: InodeId): Promise<Commit<void>> {
    this.#get(inode)
    this.inodes.delete(inode)
    return Promise.resolve(this.#commit(undefined))
  }

  orphanedFiles(limit: number): Promise<readonly InodeId[]> {
    const orphans = [...this.inodes.values()].filter(({ node, names }) => node.kind === 'file' && names.size === 0)
    return Promise.resolve(orphans.slice(0, limit).map(({ node }) => node.inode))
  }

  changeFile(inode: InodeId, changes: Omit<FileChanges, 'size'>): Promise<Commit<FileNode>> {
    const found = this.#get(inode)
    const { modified, mode } = changes
    if (modified !== undefined && modified !== 'now') found.node = { ...found.node, modified }
    if (mode !== undefined) found.node = { ...found.node, mode }
    return Promise.resolve(this.#commit(found.node, { kind: 'node', inode }))
  }

  async publishFile(request: PublishFileRequest): Promise<Commit<FileNode>> {
    await this.hook('publishFile')
    const { inode, edits, inline, size, modified } = request
    const found = this.#get(inode)
    this.publishes.push(request)
    if (inline) {
      if (inline.length !== size) throw new Error('inline content is the whole content')
      found.inline = new Uint8Array(inline)
      found.extents = []
    } else {
      if (found.inline && found.inline.length > 0) spliceOver(found.inline, edits, size)
      found.inline = undefined
      for (const edit of edits) found.extents = spliced(found.extents, edit)
      found.extents = cut(found.extents, size)
    }
    found.node = { ...found.node, size, modified: modified ?? found.node.modified }
    await this.hook('published')
    return this.#commit(found.node, { kind: 'node', inode })
  }

  async fileExtents(inode: InodeId, offset: number, length: number): Promise<FileExtents> {
    await this.hook('fileExtents')
    const { inline, extents, node } = this.#get(inode)
    const end = Math.min(node.size, offset + length)
    const within = extents.flatMap((extent) => trimmed(extent, offset, end))
    return { inline, extents: within, size: node.size }
  }

  findKey(_bucket: string, key: ByteString): Promise<FileNode> {
    return Promise.reject(new TidegateError('NoSuchKey', key))
  }

  keyEntries(): ReturnType<FilesMetadata['keyEntries']> {
    return Promise.resolve({ entries: [], more: false })
  }

  describeFile(inode: InodeId): ReturnType<FilesMetadata['describeFile']> {
    this.#get(inode)
    const object = { etag: '', revision: 0, ack: 'journal' } as const
    return Promise.resolve({ place: undefined, object })
  }

  linkTarget(): Promise<ByteString> {
    return Promise.resolve('' as ByteString)
  }

  fileAttribute(inode: InodeId, name: ByteString): Promise<Uint8Array> {
    const value = this.#get(inode).attributes.get(name)
    return value ? Promise.resolve(value) : Promise.reject(new TidegateError('NoSuchAttribute', name))
  }

  fileAttributeNames(inode: InodeId): Promise<readonly ByteString[]> {
    return Promise.resolve([...this.#get(inode).attributes.keys()])
  }

  setFileAttribute(inode: InodeId, name: ByteString, value: Uint8Array): Promise<Commit<void>> {
    this.#get(inode).attributes.set(name, value)
    return Promise.resolve(this.#commit(undefined))
  }

  removeFileAttribute(inode: InodeId, name: ByteString): Promise<Commit<void>> {
    this.#get(inode).attributes.delete(name)
    return Promise.resolve(this.#commit(undefined))
  }

  onFileChanges(listener: (changes: readonly FileChange[]) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  keyOf(inode: InodeId): Promise<{ bucket: string; key: string } | undefined> {
    const [name] = this.inodes.get(inode)?.names ?? []
    return Promise.resolve(name === undefined ? undefined : { bucket: 'b', key: name.slice(name.indexOf('/') + 1) })
  }

  bucket(name: string): Promise<BucketRecord> {
    if (name !== 'b') return Promise.reject(new TidegateError('NoSuchBucket', name))
    const fixed = { id: 1, root: 1, owner: 'root', createdMs: 0, region: 'us-east-1', versioning: 'off' } as const
    return Promise.resolve({ name, ...fixed, ack: this.ack })
  }

  async cloneRange(...[request]: Parameters<MetadataFiles['cloneRange']>): ReturnType<MetadataFiles['cloneRange']> {
    await this.hook('cloneRange')
    const [source, target] = [this.#get(request.source.inode), this.#get(request.target.inode)]
    const [from, to] = [request.source.offset, request.target.offset]
    const length = Math.max(0, Math.min(request.length, source.node.size - from))
    if (length > 0 && (source.inline || target.inline?.length)) return this.#commit(undefined)
    const cloned = source.extents.flatMap((extent) => trimmed(extent, from, from + length))
    target.inline = undefined
    const moved = cloned.map((extent) => ({ ...extent, offset: extent.offset + to - from }))
    target.extents = [...spliced(target.extents, { offset: to, length, run: undefined }), ...moved]
    target.extents.sort((a, b) => a.offset - b.offset)
    const size = Math.max(target.node.size, to + length)
    target.node = { ...target.node, size, modified: request.modified, changed: request.modified }
    const segments = [...new Set(cloned.map(({ segment }) => segment))]
    return this.#commit({ node: target.node, length, segments }, { kind: 'node', inode: request.target.inode })
  }

  async seekFile(inode: InodeId, offset: number, what: 'data' | 'hole'): Promise<number | undefined> {
    await this.hook('seekFile')
    const { node, inline, extents } = this.#get(inode)
    if (offset >= node.size || inline) return offset >= node.size ? undefined : what === 'data' ? offset : node.size
    let at = offset
    for (const extent of extents) {
      const end = extent.offset + extent.length
      if (end <= at) continue
      if (what === 'data') return Math.max(at, extent.offset)
      if (extent.offset > at) return at
      at = end
    }
    return what === 'hole' ? Math.min(at, node.size) : undefined
  }

  fragmentedFiles(): ReturnType<MetadataFiles['fragmentedFiles']> {
    return Promise.resolve({ inodes: [], last: undefined })
  }

  readonly planCompaction = notModelled
  readonly compactFile = notModelled
  readonly settleCompaction = notModelled

  allocateContentId(): Promise<number> {
    return Promise.resolve(this.#nextContent++)
  }

  revision(): Revision {
    return this.#revision
  }

  flush(): Promise<void> {
    this.flushes++
    return this.#pending
  }
}

function trimmed(extent: Extent, from: number, to: number): Extent[] {
  const offset = Math.max(from, extent.offset)
  const length = Math.min(to, extent.offset + extent.length) - offset
  if (length <= 0) return []
  return [{ ...extent, offset, length, segmentOffset: extent.segmentOffset + offset - extent.offset }]
}

function cut(extents: readonly Extent[], size: number): Extent[] {
  return extents.flatMap((extent) => trimmed(extent, 0, size))
}

function spliced(extents: readonly Extent[], { offset, length, run, runOffset = 0 }: FileEdit): Extent[] {
  const kept = extents.flatMap((extent) => [
    ...trimmed(extent, 0, offset),
    ...trimmed(extent, offset + length, Infinity),
  ])
  if (run) {
    if (runOffset + length > run.length) throw new Error('an edit lies within its run')
    kept.push({ offset, length, segment: run.segment, segmentOffset: run.segmentOffset + runOffset })
  }
  return kept.sort((a, b) => a.offset - b.offset)
}

/** What lay inline must be taken along by whoever publishes extents over it. */
function spliceOver(inline: Uint8Array, edits: readonly FileEdit[], size: number): void {
  let covered = 0
  for (const { offset, length } of edits) {
    if (offset > covered) break
    covered = Math.max(covered, offset + length)
  }
  if (covered < Math.min(inline.length, size)) throw new Error('inline bytes are left behind')
}
