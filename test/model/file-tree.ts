/** A file system kept the simplest way: maps of names in memory. Refuses with errors whose message is the code. */
import { utf8Text, type InodeId } from '../../src/common/ids.ts'
import type { FileKind } from '../../src/common/file-model.ts'

export interface TreeNode {
  kind: Exclude<FileKind, 'directory'>
  inode: InodeId
  links: number
  mode: number
  uid: number
  size: number
}

export interface TreeDirectory {
  readonly kind: 'directory'
  inode: InodeId
  parent: TreeDirectory | undefined
  readonly entries: Map<string, TreeNode | TreeDirectory>
}

export interface TreeRename {
  readonly from: TreeDirectory
  readonly fromName: string
  readonly to: TreeDirectory
  readonly toName: string
  readonly mode: 'replace' | 'no-replace' | 'exchange'
}

export class FileTree {
  readonly root: TreeDirectory

  constructor(inode: InodeId) {
    this.root = { kind: 'directory', inode, parent: undefined, entries: new Map() }
  }

  directories(): TreeDirectory[] {
    const found = [this.root]
    for (const directory of found) {
      for (const node of directory.entries.values()) if (node.kind === 'directory') found.push(node)
    }
    return found
  }

  files(): TreeNode[] {
    const found = new Set<TreeNode>()
    for (const directory of this.directories()) {
      for (const node of directory.entries.values()) if (node.kind !== 'directory') found.add(node)
    }
    return [...found]
  }

  size(): number {
    return this.directories().reduce((sum, directory) => sum + directory.entries.size, 0)
  }

  keyOf(directory: TreeDirectory, name: string): string {
    let key = name
    for (let at = directory; at.parent; at = at.parent) {
      const { parent } = at
      const [above] = [...parent.entries].find(([, node]) => node === at) ?? refuse('no name')
      key = `${above}/${key}`
    }
    return utf8Text(key)
  }

  add(parent: TreeDirectory, name: string, node: TreeNode | TreeDirectory): void {
    if (parent.entries.has(name)) refuse('FileExists')
    parent.entries.set(name, node)
  }

  link(parent: TreeDirectory, name: string, file: TreeNode): void {
    if (file.links >= 64) refuse('TooManyLinks')
    this.add(parent, name, file)
    file.links++
  }

  remove(parent: TreeDirectory, name: string): void {
    const node = parent.entries.get(name) ?? refuse('NoSuchKey')
    if (node.kind === 'directory') return refuse('IsADirectory')
    parent.entries.delete(name)
    node.links--
  }

  removeDirectory(parent: TreeDirectory, name: string): void {
    const node = parent.entries.get(name) ?? refuse('NoSuchKey')
    if (node.kind !== 'directory') return refuse('NotADirectory')
    if (node.entries.size > 0) refuse('DirectoryNotEmpty')
    parent.entries.delete(name)
  }

  /** A new inode under a name that may be another's. */
  put(parent: TreeDirectory, name: string, node: TreeNode): void {
    if (parent.entries.has(name)) this.remove(parent, name)
    parent.entries.set(name, node)
  }

  rename({ from, fromName, to, toName, mode }: TreeRename): void {
    const moved = from.entries.get(fromName) ?? refuse('NoSuchKey')
    const existing = to.entries.get(toName)
    if (mode === 'exchange' && !existing) refuse('NoSuchKey')
    if (mode === 'no-replace' && existing) refuse('FileExists')
    if (moved === existing) return
    if (isWithin(moved, to)) refuse('InvalidArgument')
    if (mode === 'exchange' && existing) {
      if (isWithin(existing, from)) refuse('InvalidArgument')
      place(from, fromName, existing)
      place(to, toName, moved)
      return
    }
    if (existing && moved.kind === 'directory') {
      if (existing.kind !== 'directory') refuse('NotADirectory')
      else this.removeDirectory(to, toName)
    } else if (existing) {
      this.remove(to, toName)
    }
    from.entries.delete(fromName)
    place(to, toName, moved)
  }
}

function place(parent: TreeDirectory, name: string, node: TreeNode | TreeDirectory): void {
  parent.entries.set(name, node)
  if (node.kind === 'directory') node.parent = parent
}

function isWithin(node: TreeNode | TreeDirectory, directory: TreeDirectory): boolean {
  for (let at: TreeDirectory | undefined = directory; at; at = at.parent) if (at === node) return true
  return false
}

function refuse(code: string): never {
  throw new Error(code)
}
