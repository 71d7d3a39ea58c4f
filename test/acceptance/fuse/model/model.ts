/** What each operation does to the model, and what it answers: the value, or the errno as the message of an error. */
import type { Operation, Outcome } from './operations.ts'
import { ModelDirectory, ModelFile, ModelSymlink, ModelTree, refuse, type ModelNode, type Place } from './tree.ts'

export interface ModelHandle {
  readonly file: ModelFile
  readonly read: boolean
  readonly write: boolean
  readonly append: boolean
}

export interface ModelMapping {
  readonly file: ModelFile
  readonly length: number
}

type Of<Name extends Operation['do']> = Operation & { readonly do: Name }

/** Answers that a file system may choose are checked here instead of being foretold. */
export type Expected = Outcome | { readonly check: (outcome: Outcome) => boolean; readonly described: string }

const LINKS_MAX = 64
const DONE: unknown = null

export class MountModel {
  readonly tree = new ModelTree()
  readonly handles = new Map<number, ModelHandle>()
  readonly mappings = new Map<number, ModelMapping>()
  readonly #inodes = new Map<unknown, ModelNode>()

  apply(operation: Operation): Expected {
    if (operation.do === 'seek') return this.#seek(operation)
    if (operation.do === 'status') return this.#status(operation)
    try {
      return { value: this.#value(operation) }
    } catch (error) {
      if (!(error instanceof Error) || !/^E[A-Z]+$/.test(error.message)) throw error
      return { error: error.message }
    }
  }

  #value(operation: Exclude<Operation, Of<'seek' | 'status'>>): unknown {
    switch (operation.do) {
      case 'open':
        return this.#open(operation)
      case 'close':
        this.handles.delete(operation.handle)
        return DONE
      case 'sync':
      case 'lock':
      case 'mapSync':
      case 'dropCaches':
        return DONE
      case 'publish':
        this.tree.find(operation.path, true)
        return DONE
      case 'read':
        return this.#readable(operation.handle).slice(operation.offset, operation.length).toString('base64')
      case 'write':
      case 'append':
        return this.#write(operation)
      case 'truncate':
        return this.#truncate(operation)
      case 'punch':
        this.#writable(operation.handle).zero(operation.offset, operation.length)
        return DONE
      case 'allocate':
        return this.#allocate(operation)
      case 'copy':
        return this.#copy(operation)
      case 'map':
        this.mappings.set(operation.mapping, { file: this.#readable(operation.handle), length: operation.length })
        return DONE
      case 'mapRead':
        return this.#mapped(operation.mapping).slice(operation.offset, operation.length).toString('base64')
      case 'mapWrite':
        this.#mapped(operation.mapping).write(operation.offset, Buffer.from(operation.data, 'base64'))
        return DONE
      case 'unmap':
        this.mappings.delete(operation.mapping)
        return DONE
      case 'makeDirectory':
        return this.#add(operation.path, (parent) => new ModelDirectory(parent))
      case 'symlink':
        return this.#add(operation.path, () => new ModelSymlink(operation.target))
      case 'link':
        return this.#link(operation)
      case 'removeDirectory':
        return this.#removeDirectory(operation.path)
      case 'unlink':
        return this.#unlink(operation.path)
      case 'rename':
        return this.#rename(operation)
      case 'readLink':
        return this.#readLink(operation.path)
      case 'list':
        return this.#list(operation.path)
      case 'setAttribute':
        return this.#setAttribute(operation)
      case 'attribute':
      case 'removeAttribute':
        return this.#attribute(operation)
      case 'attributes':
        return [...this.tree.find(operation.path, false).attributes.keys()].sort()
    }
  }

  #readable(handle: number): ModelFile {
    const opened = this.handles.get(handle)
    return opened?.read ? opened.file : refuse('EBADF')
  }

  #writable(handle: number): ModelFile {
    const opened = this.handles.get(handle)
    return opened?.write ? opened.file : refuse('EBADF')
  }

  #mapped(mapping: number): ModelFile {
    return (this.mappings.get(mapping) ?? refuse('EFAULT')).file
  }

  #open({ path, flags, handle }: Of<'open'>): unknown {
    const has = (flag: (typeof flags)[number]): boolean => flags.includes(flag)
    const exclusive = has('CREAT') && has('EXCL')
    const place = this.tree.walk(path, !exclusive)
    if (place.node && exclusive) refuse('EEXIST')
    if (!place.node && !has('CREAT')) refuse('ENOENT')
    const file = place.node ?? new ModelFile()
    const write = !has('RDONLY')
    if (file.kind === 'directory') refuse('EISDIR')
    if (file.kind === 'symlink') throw new Error('a link is followed')
    place.parent.entries.set(place.name, file)
    if (has('TRUNC')) file.resize(0)
    this.handles.set(handle, { file, read: !has('WRONLY'), write, append: has('APPEND') })
    return DONE
  }

  #write(operation: Of<'write' | 'append'>): number {
    const file = this.#writable(operation.handle)
    const data = Buffer.from(operation.data, 'base64')
    // Linux appends whatever pwrite says.
    const atEnd = operation.do === 'append' || this.handles.get(operation.handle)?.append === true
    file.write(atEnd ? file.size : operation.offset, data)
    return data.length
  }

  #truncate(operation: Of<'truncate'>): unknown {
    if ('handle' in operation) {
      const opened = this.handles.get(operation.handle)
      if (!opened?.write) refuse('EINVAL')
      opened.file.resize(operation.size)
      return DONE
    }
    const node = this.tree.find(operation.path, true)
    if (node.kind === 'directory') refuse('EISDIR')
    if (node.kind === 'file') node.resize(operation.size)
    return DONE
  }

  #allocate({ handle, offset, length }: Pick<Of<'read'>, 'handle' | 'offset' | 'length'>): unknown {
    const file = this.#writable(handle)
    if (offset + length > file.size) file.resize(offset + length)
    return DONE
  }

  #copy({ handle, offset, target, targetOffset, length }: Of<'copy'>): number {
    const source = this.#readable(handle)
    const to = this.#writable(target)
    if (this.handles.get(target)?.append) refuse('EBADF')
    const count = Math.max(0, Math.min(length, source.size - offset))
    if (source === to && targetOffset + count > offset && targetOffset < offset + count) refuse('EINVAL')
    to.write(targetOffset, Buffer.from(source.slice(offset, count)))
    return count
  }

  /** Where zeros are a hole is the file system's choice; that a hole holds zeros is not. */
  #seek({ handle, offset, what }: Of<'seek'>): Expected {
    const { file } = this.handles.get(handle) ?? refuse('EBADF')
    const rest = file.slice(offset, file.size)
    const firstData = rest.findIndex((byte) => byte !== 0)
    const check = (outcome: Outcome): boolean => {
      if ('error' in outcome)
        return outcome.error === 'ENXIO' && (rest.length === 0 || (what === 'data' && firstData < 0))
      const found = (outcome.value as number) - offset
      if (rest.length === 0 || found < 0 || found > rest.length) return false
      if (what === 'hole') return found === rest.length || rest[found] === 0
      return found < rest.length && (firstData < 0 || found <= firstData)
    }
    return { check, described: `${what} from ${offset} of ${file.size} bytes, the first not zero at +${firstData}` }
  }

  /** The inode's number is learned when it is first seen, and belongs to that node from then on. */
  #status(operation: Of<'status'>): Expected {
    let node: ModelNode
    try {
      node =
        'handle' in operation
          ? (this.handles.get(operation.handle) ?? refuse('EBADF')).file
          : this.tree.find(operation.path, false)
    } catch (error) {
      return { error: (error as Error).message }
    }
    const size = node.kind === 'file' ? node.size : node.kind === 'symlink' ? Buffer.byteLength(node.target) : undefined
    const wanted = node.kind === 'directory' ? { kind: node.kind } : { kind: node.kind, size, links: node.links }
    const check = (outcome: Outcome): boolean => {
      if ('error' in outcome) return false
      const { inode, ...rest } = outcome.value as { readonly inode: number } & Record<string, unknown>
      const known = this.#inodes.get(inode)
      if (known && known !== node && this.#lives(known)) return false
      for (const [number, of] of this.#inodes) if (of === node && number !== inode) return false
      this.#inodes.set(inode, node)
      return Object.entries(wanted).every(([key, value]) => rest[key] === value)
    }
    return { check, described: JSON.stringify(wanted) }
  }

  #lives(node: ModelNode): boolean {
    if (node.kind !== 'directory') return node.links > 0
    return this.tree.directories().some(({ directory }) => directory === node)
  }

  #add(path: string, make: (parent: ModelDirectory) => ModelNode): unknown {
    const { parent, name, node } = this.tree.walk(path, false)
    if (node) refuse('EEXIST')
    parent.entries.set(name, make(parent))
    return DONE
  }

  #link({ path, to }: Of<'link'>): unknown {
    const linked = this.tree.find(path, false)
    return this.#add(to, () => {
      if (linked.kind === 'directory') refuse('EPERM')
      if (linked.links === LINKS_MAX) refuse('EMLINK')
      linked.links++
      return linked
    })
  }

  #removeDirectory(path: string): unknown {
    const { parent, name, node } = this.tree.walk(path, false)
    if (!node) refuse('ENOENT')
    if (node.kind !== 'directory') refuse('ENOTDIR')
    if (node.entries.size > 0) refuse('ENOTEMPTY')
    parent.entries.delete(name)
    return DONE
  }

  #unlink(path: string): unknown {
    const place = this.tree.walk(path, false)
    if (!place.node) refuse('ENOENT')
    if (place.node.kind === 'directory') refuse('EISDIR')
    this.#drop(place)
    return DONE
  }

  #drop({ parent, name, node }: Place): void {
    parent.entries.delete(name)
    if (node && node.kind !== 'directory') node.links--
  }

  /** In the order of Linux's do_renameat2 and vfs_rename. */
  #rename({ path, to, mode }: Of<'rename'>): unknown {
    const from = this.tree.walk(path, false)
    const into = this.tree.walk(to, false)
    if (!from.node) refuse('ENOENT')
    if (mode === 'no-replace' && into.node) refuse('EEXIST')
    if (mode === 'exchange' && !into.node) refuse('ENOENT')
    if (isWithin(into.parent, from.node)) refuse('EINVAL')
    if (into.node && isWithin(from.parent, into.node)) refuse(mode === 'exchange' ? 'EINVAL' : 'ENOTEMPTY')
    if (from.node === into.node) return DONE
    if (mode === 'exchange' && into.node) put(from, into.node)
    else {
      if (into.node) this.#replace(from.node, into)
      from.parent.entries.delete(from.name)
    }
    put(into, from.node)
    return DONE
  }

  #replace(source: ModelNode, target: Place): void {
    if (source.kind === 'directory' && target.node?.kind !== 'directory') refuse('ENOTDIR')
    if (source.kind !== 'directory' && target.node?.kind === 'directory') refuse('EISDIR')
    if (target.node?.kind === 'directory' && target.node.entries.size > 0) refuse('ENOTEMPTY')
    this.#drop(target)
  }

  #readLink(path: string): string {
    const node = this.tree.find(path, false)
    return node.kind === 'symlink' ? node.target : refuse('EINVAL')
  }

  #list(path: string): unknown {
    const node = path === '.' ? this.tree.root : this.tree.find(path, true)
    if (node.kind !== 'directory') refuse('ENOTDIR')
    return [...node.entries].map(([name, { kind }]) => [name, kind]).sort(byCodePoint)
  }

  #setAttribute({ path, name, data, mode }: Of<'setAttribute'>): unknown {
    const node = this.tree.find(path, false)
    if (node.kind === 'symlink') refuse('EPERM')
    if (mode === 'create' && node.attributes.has(name)) refuse('EEXIST')
    if (mode === 'replace' && !node.attributes.has(name)) refuse('ENODATA')
    node.attributes.set(name, data)
    return DONE
  }

  #attribute(operation: Of<'attribute' | 'removeAttribute'>): unknown {
    const node = this.tree.find(operation.path, false)
    if (node.kind === 'symlink') refuse(operation.do === 'attribute' ? 'ENODATA' : 'EPERM')
    const data = node.attributes.get(operation.name) ?? refuse('ENODATA')
    if (operation.do === 'attribute') return data
    node.attributes.delete(operation.name)
    return DONE
  }
}

/** Whether the directory is the node or lies below it. */
function isWithin(directory: ModelDirectory, node: ModelNode): boolean {
  for (let at: ModelDirectory | undefined = directory; at; at = at.parent) if (at === node) return true
  return false
}

function put({ parent, name }: Place, node: ModelNode): void {
  parent.entries.set(name, node)
  if (node.kind === 'directory') node.parent = parent
}

/** As Python sorts: by code point, not by UTF-16 unit. */
function byCodePoint([a = '']: readonly string[], [b = '']: readonly string[]): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}
