/**
 * A file system that forgets: the twin of the FileSystem port (src/persist/ports.ts) for crash tests. It keeps apart what is
 * on the disk and what only the kernel knows.
 *
 * - Contents: `sync` of a file puts its writes on the disk, not its name. At a crash each write (and truncation) that was not
 *   synced is kept, dropped or torn at a random byte, independently of the others.
 * - Names: `syncDirectory` puts the creations, renames and removals in that directory on the disk. At a crash each one
 *   that was not synced is kept or dropped, independently of the others (no order is promised, unlike ext4). A rename is
 *   the one exception, as in the port: the file then has its old name, its new one or both, but never none.
 * - A directory's own name lies in its parent and is forgotten with all that is in it.
 * - A failed sync marks the writes as clean although they are not on the disk ("fsyncgate"): the next sync succeeds and
 *   saves nothing of them.
 * - After `crash` no operation that was under way ever settles, and the returned file system is what the machine finds
 *   when it starts again.
 */
import { dirname } from 'node:path'
import { must } from '../../src/common/assert.ts'
import type { FileSystem, OpenFile } from '../../src/persist/ports.ts'
import type { Random } from '../model/random.ts'
import type { Scheduler } from './scheduler.ts'

type ContentOperation =
  | { readonly kind: 'write'; readonly position: number; readonly bytes: Buffer }
  | { readonly kind: 'truncate'; readonly length: number }

interface FileNode {
  readonly kind: 'file'
  durable: Buffer
  current: Buffer
  unsynced: ContentOperation[]
}

interface NameOperation {
  readonly name: string
  /** Undefined removes the name. */
  readonly node: Node | undefined
  /** The other half of a rename. */
  twin?: { readonly directory: DirectoryNode; readonly operation: NameOperation }
}

interface DirectoryNode {
  readonly kind: 'directory'
  readonly durable: Map<string, Node>
  readonly current: Map<string, Node>
  unsynced: NameOperation[]
}

type Node = FileNode | DirectoryNode

export interface ForgetfulOptions {
  readonly scheduler: Scheduler
  readonly random: Random
  readonly capacityBytes?: number
  /** What lies under this path is another device: a rename into it fails with EXDEV. */
  readonly otherDevice?: string
}

/** What a test takes out on purpose. */
export interface Sabotage {
  fileSync: boolean
  directorySync: boolean
}

export interface FaultPlan {
  /** Writes fail with ENOSPC. */
  full: boolean
  /** Chance that a write or sync fails with EIO. */
  errorChance: number
  /** The n-th write or sync from now fails with EIO; counted down. */
  failNthWrite: number
  failNthSync: number
}

export class ForgetfulFileSystem implements FileSystem {
  readonly faults: FaultPlan = { full: false, errorChance: 0, failNthWrite: 0, failNthSync: 0 }
  readonly sabotage: Sabotage = { fileSync: false, directorySync: false }
  /** Longest time that one operation takes, in virtual ms; 0 makes all of them immediate. */
  latencyMsMax = 0
  /** Told of every change, for who looks into a failing seed. */
  trace: ((operation: string) => void) | undefined
  readonly counts = { writes: 0, syncs: 0, directorySyncs: 0 }
  readonly #options: ForgetfulOptions
  readonly #root: DirectoryNode
  #crashed = false

  constructor(options: ForgetfulOptions, root: DirectoryNode = emptyDirectory()) {
    this.#options = options
    this.#root = root
  }

  async #operation(): Promise<void> {
    const { scheduler, random } = this.#options
    if (this.latencyMsMax > 0) await scheduler.delay(random.next() * this.latencyMsMax)
    if (this.#crashed) await new Promise<never>(() => undefined)
  }

  async open(path: string, mode: 'read' | 'create' | 'write'): Promise<OpenFile> {
    await this.#operation()
    const directory = this.#directory(dirname(path))
    const name = nameOf(path)
    const known = directory.current.get(name)
    if (mode === 'create') {
      if (known) throw errno('EEXIST', path)
      const file: FileNode = { kind: 'file', durable: Buffer.alloc(0), current: Buffer.alloc(0), unsynced: [] }
      change(directory, { name, node: file })
      this.trace?.(`create ${path}`)
      return this.#opened(file, path)
    }
    if (known?.kind !== 'file') throw errno('ENOENT', path)
    return this.#opened(known, path)
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#operation()
    const source = this.#directory(dirname(from))
    const target = this.#directory(dirname(to))
    const node = source.current.get(nameOf(from))
    if (!node) throw errno('ENOENT', from)
    const { otherDevice } = this.#options
    if (otherDevice && from.startsWith(otherDevice) !== to.startsWith(otherDevice)) throw errno('EXDEV', to)
    const removed: NameOperation = { name: nameOf(from), node: undefined }
    const added: NameOperation = { name: nameOf(to), node }
    removed.twin = { directory: target, operation: added }
    added.twin = { directory: source, operation: removed }
    this.trace?.(`rename ${from} ${to}`)
    change(target, added)
    change(source, removed)
  }

  async remove(path: string): Promise<void> {
    await this.#operation()
    const directory = this.#directory(dirname(path), 'optional')
    this.trace?.(`remove ${path}`)
    if (directory?.current.has(nameOf(path))) change(directory, { name: nameOf(path), node: undefined })
  }

  async list(path: string): Promise<string[]> {
    await this.#operation()
    return [...(this.#directory(path, 'optional')?.current.keys() ?? [])]
  }

  async makeDirectory(path: string): Promise<void> {
    await this.#operation()
    let directory = this.#root
    for (const name of path.split('/').filter(Boolean)) {
      let next = directory.current.get(name)
      if (!next) {
        next = emptyDirectory()
        change(directory, { name, node: next })
      }
      if (next.kind !== 'directory') throw errno('ENOTDIR', path)
      directory = next
    }
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#operation()
    const directory = this.#directory(path)
    this.#failSync(path)
    this.counts.directorySyncs++
    if (this.sabotage.directorySync) return
    for (const operation of directory.unsynced.splice(0)) {
      settleName(directory, operation)
      // The old name is gone for good, so the new one must be there: a rename never leaves a file without a name.
      const { twin } = operation
      if (twin && operation.node === undefined) {
        const at = twin.directory.unsynced.indexOf(twin.operation)
        if (at >= 0) settleName(twin.directory, must(twin.directory.unsynced.splice(at, 1)[0], 'twin'))
      }
    }
  }

  async space(): Promise<{ freeBytes: number; totalBytes: number }> {
    await this.#operation()
    const { capacityBytes = 2 ** 40 } = this.#options
    return { freeBytes: this.faults.full ? 0 : capacityBytes - this.usedBytes(), totalBytes: capacityBytes }
  }

  /** A directory that was there before the story begins. */
  addDirectory(path: string): void {
    let directory = this.#root
    for (const name of path.split('/').filter(Boolean)) {
      const next = directory.current.get(name) ?? emptyDirectory()
      if (next.kind !== 'directory') throw errno('ENOTDIR', path)
      directory.current.set(name, next)
      directory.durable.set(name, next)
      directory = next
    }
  }

  usedBytes(): number {
    let used = 0
    for (const { file } of filesIn(this.#root, '')) used += file.current.length
    return used
  }

  /** Paths of all files, as programs see them now. */
  paths(): string[] {
    return [...filesIn(this.#root, '')].map(({ path }) => path)
  }

  /** Contents of a file as programs see them now; for tests that look or meddle. */
  contents(path: string): Buffer {
    const node = this.#directory(dirname(path)).current.get(nameOf(path))
    if (node?.kind !== 'file') throw errno('ENOENT', path)
    return node.current
  }

  /** The power fails. Returns what is found afterwards, on the same disk with new surroundings. */
  crash(random: Random, surroundings: ForgetfulOptions = this.#options): ForgetfulFileSystem {
    this.#crashed = true
    settleRenames(this.#root, random)
    const found = new ForgetfulFileSystem(surroundings, surviving(this.#root, random, new Map()))
    Object.assign(found.sabotage, this.sabotage)
    found.trace = this.trace
    this.trace = undefined
    return found
  }

  #directory(path: string): DirectoryNode
  #directory(path: string, missing: 'optional'): DirectoryNode | undefined
  #directory(path: string, missing?: 'optional'): DirectoryNode | undefined {
    let directory = this.#root
    for (const name of path.split('/').filter(Boolean)) {
      const next = directory.current.get(name)
      if (next?.kind !== 'directory') {
        if (missing) return undefined
        throw errno('ENOENT', path)
      }
      directory = next
    }
    return directory
  }

  #opened(file: FileNode, path: string): OpenFile {
    return {
      read: async (into, position) => {
        await this.#operation()
        const part = file.current.subarray(position, position + into.length)
        into.set(part)
        return part.length
      },
      write: async (bytes, position) => {
        const copy = Buffer.from(bytes)
        await this.#operation()
        this.#failWrite(copy.length)
        this.counts.writes++
        this.trace?.(`write ${path} ${position}+${copy.length}`)
        apply(file, { kind: 'write', position, bytes: copy })
      },
      truncate: async (length) => {
        await this.#operation()
        this.trace?.(`truncate ${path} ${length}`)
        apply(file, { kind: 'truncate', length })
      },
      sync: async () => {
        await this.#operation()
        try {
          this.#failSync('file')
        } catch (error) {
          // The kernel marks the pages as clean: no later sync writes them.
          file.unsynced = []
          this.trace?.(`sync fails ${path}`)
          throw error
        }
        this.counts.syncs++
        this.trace?.(`sync ${path}`)
        if (this.sabotage.fileSync) return
        for (const operation of file.unsynced.splice(0)) file.durable = applied(file.durable, operation)
      },
      size: async () => {
        await this.#operation()
        return file.current.length
      },
      close: () => this.#operation(),
    }
  }

  #failWrite(bytes: number): void {
    const { capacityBytes } = this.#options
    if (this.faults.full || (capacityBytes !== undefined && this.usedBytes() + bytes > capacityBytes)) {
      throw errno('ENOSPC', 'write')
    }
    if (this.faults.failNthWrite > 0 && --this.faults.failNthWrite === 0) throw errno('EIO', 'write')
    this.#failByChance('write')
  }

  #failSync(what: string): void {
    if (this.faults.failNthSync > 0 && --this.faults.failNthSync === 0) throw errno('EIO', what)
    this.#failByChance(what)
  }

  #failByChance(what: string): void {
    const { errorChance } = this.faults
    if (errorChance > 0 && this.#options.random.chance(errorChance)) throw errno('EIO', what)
  }
}

function errno(code: string, what: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${what}`), { code })
}

function emptyDirectory(): DirectoryNode {
  return { kind: 'directory', durable: new Map(), current: new Map(), unsynced: [] }
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

function change(directory: DirectoryNode, operation: NameOperation): void {
  if (operation.node) directory.current.set(operation.name, operation.node)
  else directory.current.delete(operation.name)
  directory.unsynced.push(operation)
}

function settleName(directory: DirectoryNode, { name, node }: NameOperation): void {
  if (node) directory.durable.set(name, node)
  else directory.durable.delete(name)
}

function apply(file: FileNode, operation: ContentOperation): void {
  file.current = applied(file.current, operation)
  file.unsynced.push(operation)
}

function applied(before: Buffer, operation: ContentOperation): Buffer {
  if (operation.kind === 'truncate') {
    const after = Buffer.alloc(operation.length)
    before.copy(after)
    return after
  }
  const { position, bytes } = operation
  const after = Buffer.alloc(Math.max(before.length, position + bytes.length))
  before.copy(after)
  bytes.copy(after, position)
  return after
}

function* filesIn(directory: DirectoryNode, path: string): Generator<{ path: string; file: FileNode }> {
  for (const [name, node] of directory.current) {
    if (node.kind === 'file') yield { path: `${path}/${name}`, file: node }
    else yield* filesIn(node, `${path}/${name}`)
  }
}

/** Decides the renames of which neither half is on the disk: the old name, the new one, or both. */
function settleRenames(directory: DirectoryNode, random: Random): void {
  for (const removed of directory.unsynced.slice()) {
    const { twin } = removed
    if (!twin || removed.node !== undefined || !twin.directory.unsynced.includes(twin.operation)) continue
    const outcome = random.pick(['old', 'new', 'both'])
    takeOut(directory, removed)
    takeOut(twin.directory, twin.operation)
    if (outcome !== 'old') settleName(twin.directory, twin.operation)
    if (outcome === 'new') settleName(directory, removed)
    // The old name itself may not be on the disk yet.
    else if (outcome === 'old') settleName(directory, { name: removed.name, node: twin.operation.node })
  }
  for (const node of directory.current.values()) if (node.kind === 'directory') settleRenames(node, random)
}

function takeOut(directory: DirectoryNode, operation: NameOperation): void {
  directory.unsynced.splice(directory.unsynced.indexOf(operation), 1)
}

/** A node that has two names after the crash stays one node. */
function surviving(directory: DirectoryNode, random: Random, known: Map<Node, Node>): DirectoryNode {
  const names = new Map(directory.durable)
  for (const { name, node } of directory.unsynced) {
    if (random.chance(0.5)) continue
    if (node) names.set(name, node)
    else names.delete(name)
  }
  const found = emptyDirectory()
  for (const [name, node] of names) {
    let copy = known.get(node)
    copy ??= node.kind === 'file' ? survivingFile(node, random) : surviving(node, random, known)
    known.set(node, copy)
    found.durable.set(name, copy)
    found.current.set(name, copy)
  }
  return found
}

function survivingFile(file: FileNode, random: Random): FileNode {
  let contents = file.durable
  for (const operation of file.unsynced) {
    const fate = random.pick(['kept', 'dropped', 'torn'])
    if (fate === 'dropped') continue
    if (fate === 'kept' || operation.kind === 'truncate') contents = applied(contents, operation)
    else {
      const bytes = operation.bytes.subarray(0, random.below(operation.bytes.length + 1))
      contents = applied(contents, { ...operation, bytes })
    }
  }
  return { kind: 'file', durable: contents, current: contents, unsynced: [] }
}
