/** Names, nodes and attributes: metadata's answers with what is not published laid over the nodes of open files. */
import type { ByteString, InodeId } from '../../common/ids.ts'
import type { Files } from '../doors.ts'
import type { FileDescription, FileEntry, FileKind, FileNode, NewFile } from '../../common/file-model.ts'
import type { FilesMetadata } from './file-parts.ts'
import type { OpenFiles } from './open-files.ts'

interface Name {
  readonly parent: InodeId
  readonly name: ByteString
}

type NamesAndAttributes = Pick<
  Files,
  | 'node'
  | 'find'
  | 'entries'
  | 'parentOf'
  | 'findKey'
  | 'keyEntries'
  | 'describe'
  | 'makeFile'
  | 'makeDirectory'
  | 'link'
  | 'linkTarget'
  | 'remove'
  | 'removeDirectory'
  | 'rename'
  | 'attribute'
  | 'attributeNames'
  | 'setAttribute'
  | 'removeAttribute'
>

export class FileNames implements NamesAndAttributes {
  readonly #metadata: FilesMetadata
  readonly #open: OpenFiles
  /** S3 owner of what the mount makes. */
  protected readonly owner: string

  constructor(metadata: FilesMetadata, open: OpenFiles, owner: string) {
    this.#metadata = metadata
    this.#open = open
    this.owner = owner
  }

  /**
   * Metadata asks when an inode loses its last name, by whatever door: an open one is kept, and its last `release` looks whether
   * it has any left.
   */
  protected isOpen(inode: InodeId): boolean {
    const file = this.#open.get(inode)
    if (!file) return false
    file.maybeUnlinked = true
    return true
  }

  protected shown(node: FileNode): FileNode {
    return this.#open.loaded(node.inode)?.shown(node) ?? node
  }

  async node(inode: InodeId): Promise<FileNode> {
    // Known before the look-up: one that is closed meanwhile knew its size better than the look-up may.
    const file = this.#open.loaded(inode)
    if (!file) return this.shown(await this.#metadata.fileNode(inode))
    return file.shown(await this.#open.look(file, () => this.#metadata.fileNode(inode)))
  }

  async find(parent: InodeId, name: ByteString): Promise<FileNode> {
    return this.shown(await this.#metadata.findFile(parent, name))
  }

  async entries(
    directory: InodeId,
    after: ByteString | undefined,
    limit: number,
  ): Promise<{ readonly entries: readonly FileEntry[]; readonly more: boolean }> {
    const page = await this.#metadata.fileEntries(directory, after, limit)
    if (this.#open.count === 0) return page
    return { more: page.more, entries: page.entries.map(({ name, node }) => ({ name, node: this.shown(node) })) }
  }

  async findKey(bucket: string, key: ByteString): Promise<FileNode> {
    return this.shown(await this.#metadata.findKey(bucket, key))
  }

  async keyEntries(
    bucket: string,
    after: ByteString | undefined,
    limit: number,
  ): Promise<{ readonly entries: readonly FileEntry[]; readonly more: boolean }> {
    const { entries, more } = await this.#metadata.keyEntries(bucket, after, limit)
    return { more, entries: entries.map(({ name, node }) => ({ name, node: this.shown(node) })) }
  }

  describe(inode: InodeId): Promise<FileDescription> {
    return this.#metadata.describeFile(inode)
  }

  parentOf(directory: InodeId): Promise<InodeId> {
    return this.#metadata.parentOf(directory)
  }

  async makeFile(
    parent: InodeId,
    name: ByteString,
    made: NewFile & {
      readonly kind: Exclude<FileKind, 'directory'>
      readonly target?: ByteString
      readonly device?: number
    },
  ): Promise<FileNode> {
    return (await this.#metadata.makeFile(parent, name, { ...made, owner: this.owner })).value
  }

  async makeDirectory(parent: InodeId, name: ByteString, made: NewFile): Promise<FileNode> {
    return (await this.#metadata.makeDirectory(parent, name, { ...made, owner: this.owner })).value
  }

  async link(inode: InodeId, parent: InodeId, name: ByteString): Promise<FileNode> {
    return this.shown((await this.#metadata.linkFile(inode, parent, name)).value)
  }

  linkTarget(inode: InodeId): Promise<ByteString> {
    return this.#metadata.linkTarget(inode)
  }

  async remove(parent: InodeId, name: ByteString): Promise<void> {
    // An open one is kept all the same: metadata asks (`keepFiles`) once it knows which it is.
    await this.#metadata.removeFile(parent, name, { keep: false, owner: this.owner })
  }

  async removeDirectory(parent: InodeId, name: ByteString): Promise<void> {
    await this.#metadata.removeDirectory(parent, name)
  }

  async rename(from: Name, to: Name, mode: 'replace' | 'no-replace' | 'exchange'): Promise<void> {
    await this.#metadata.renameFile(from, to, { mode, keep: (inode) => this.isOpen(inode) })
  }

  attribute(inode: InodeId, name: ByteString): Promise<Uint8Array> {
    return this.#metadata.fileAttribute(inode, name)
  }

  attributeNames(inode: InodeId): Promise<readonly ByteString[]> {
    return this.#metadata.fileAttributeNames(inode)
  }

  async setAttribute(
    inode: InodeId,
    name: ByteString,
    value: Uint8Array,
    mode: 'set' | 'create' | 'replace',
  ): Promise<void> {
    await this.#metadata.setFileAttribute(inode, name, value, mode)
  }

  async removeAttribute(inode: InodeId, name: ByteString): Promise<void> {
    await this.#metadata.removeFileAttribute(inode, name)
  }
}
