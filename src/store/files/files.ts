/**
 * The namespace as a file system (doors.ts, Files): metadata's answers with what is not published laid over them, and open files.
 *
 * An open file is kept when its last name goes, whoever takes it: metadata asks here (`keepFiles`), and the last `release` drops
 * the inode (C27). What was open when the process ended is dropped by `recover`.
 */
import { TidegateError } from '../../common/errors.ts'
import { must } from '../../common/assert.ts'
import type { ByteString, InodeId } from '../../common/ids.ts'
import type { BackgroundJob } from '../../common/background.ts'
import type { SharedFileLocks } from '../../common/file-locks.ts'
import type { Files } from '../doors.ts'
import type {
  FileChange,
  FileChanges,
  FileNode,
  FilePiece,
  FileResidency,
  FileSystemStatistics,
  HandleId,
  NewFile,
  OpenedFile,
} from '../../common/file-model.ts'
import { FileCompactor } from './compact-files.ts'
import { copyRange } from './copy-range.ts'
import { DirtyMemory } from './dirty-memory.ts'
import type { FilesParts } from './file-parts.ts'
import { FileNames } from './file-names.ts'
import { DirtyJournal } from './journal-dirty.ts'
import type { Handle, OpenFile } from './open-file.ts'
import { OpenFiles } from './open-files.ts'
import { FilePublisher, isFinal, type PublishGoal } from './publish-file.ts'
import { prefetch, readPieces, readPiecesNow, type ReaderParts } from './read-file.ts'
import { residencyOf } from './residency.ts'
import { seek } from './seek.ts'
import { FileWriter } from './write-file.ts'

const STATFS_BLOCK_BYTES = 4096
const NAME_BYTES_MAX = 255
const ORPHANS_AT_ONCE = 256
const BACKGROUND_PAUSE_MS = 500
/** Publishes of different files that run at once in the background and at shutdown. */
const PUBLISHES_AT_ONCE = 16
/** A file whose publishes fail may gather so many times as many edits as one publish takes before its writers are refused. */
const EDITS_EXCESS_MAX = 4

export class StoreFiles extends FileNames implements Files {
  readonly #parts: FilesParts
  readonly #reader: ReaderParts
  readonly #listeners = new Set<(changes: readonly FileChange[]) => void>()
  readonly #dirtyMemory: DirtyMemory
  readonly #files: OpenFiles
  readonly #writer: FileWriter
  readonly #publisher: FilePublisher
  /** C30; the engine runs its job. */
  readonly compactor: FileCompactor

  constructor(parts: FilesParts) {
    const { metadata, clock, limits, fileLimits } = parts
    const dirtyMemory = new DirtyMemory({
      bytesMax: fileLimits.dirtyBytesMax,
      accountBytesMax: fileLimits.fileDirtyBytesMax,
      waitMsMax: limits.admissionWaitMsMax,
      clock,
    })
    const files = new OpenFiles({ dirtyMemory, published: parts, load: (inode) => metadata.fileNode(inode) })
    super(metadata, files, parts.owner)
    this.#parts = parts
    this.#reader = { memory: parts.memory, blockBytes: parts.limits.blockBytes }
    this.#dirtyMemory = dirtyMemory
    this.#files = files
    const dirtyJournal = new DirtyJournal(parts)
    this.#writer = new FileWriter({ ...parts, dirtyMemory, dirtyJournal, holders: new Set() })
    this.#publisher = new FilePublisher({
      ...parts,
      dirtyMemory,
      dirtyJournal,
      onPutBack: () => {
        if (dirtyMemory.waiting > 0) this.#writer.relieve()
      },
      onSure: (file) => files.forgetIfIdle(file),
      onReverted: ({ inode }) => {
        for (const listener of this.#listeners) listener([{ kind: 'content', inode }])
      },
    })
    this.compactor = new FileCompactor(parts)
    metadata.keepFiles((inode) => this.isOpen(inode))
  }

  get locks(): SharedFileLocks | undefined {
    return this.#parts.metadata.locks
  }

  get activity(): { readonly files: number; readonly handles: number; readonly dirtyBytes: number } {
    const { count: files, handleCount: handles } = this.#files
    return { files, handles, dirtyBytes: this.#dirtyMemory.used }
  }

  async change(inode: InodeId, changes: FileChanges): Promise<FileNode> {
    const { size, ...rest } = changes
    if (size !== undefined) await this.#changeSize(inode, size)
    const others = Object.values(rest).some((value) => value !== undefined)
    const { metadata } = this.#parts
    const file = this.#files.get(inode)
    if (!others) return await this.node(inode)
    // A time that somebody sets counts from then on: neither what is being published nor what is still to be may set another.
    const change = async (): Promise<FileNode> => {
      if (file && rest.modified !== undefined) file.modified = undefined
      return (await metadata.changeFile(inode, rest)).value
    }
    const node = file && rest.modified !== undefined ? await file.exclusive(change) : await change()
    return file ? file.shown(node) : this.shown(node)
  }

  async #changeSize(inode: InodeId, size: number): Promise<void> {
    this.#writer.checkSize(size)
    const { file, node } = await this.#files.use(inode)
    try {
      if (node.kind === 'directory') throw new TidegateError('IsADirectory', `inode ${inode} is a directory`)
      if (node.kind !== 'file') throw new TidegateError('InvalidArgument', `inode ${inode} is a ${node.kind}`)
      file.resize(size)
      this.#writer.touch(file)
      // Nobody has it open whose close would publish it: that of a reader does not.
      if (![...file.handles].some(({ write }) => write)) await this.#publisher.publish(file, 'visible')
    } finally {
      this.#files.leave(file)
    }
  }

  async open(inode: InodeId, options: { readonly write: boolean; readonly truncate: boolean }): Promise<OpenedFile> {
    const { file, node } = await this.#files.use(inode)
    try {
      if (node.kind === 'directory') {
        if (options.write) throw new TidegateError('IsADirectory', `inode ${inode} is a directory`)
        return { handle: this.#files.addHandle(undefined, false).id, node }
      }
      if (node.kind !== 'file') throw new TidegateError('InvalidArgument', `inode ${inode} is a ${node.kind}`)
      const handle = this.#files.addHandle(file, options.write)
      if (options.truncate) {
        file.resize(0)
        this.#writer.touch(file)
        handle.wrote = true
      }
      return { handle: handle.id, node: file.shown(node) }
    } finally {
      this.#files.leave(file)
    }
  }

  async create(
    parent: InodeId,
    name: ByteString,
    made: NewFile,
    options: { readonly write: boolean },
  ): Promise<OpenedFile> {
    const request = { ...made, kind: 'file' as const, owner: this.owner }
    let file: OpenFile | undefined
    const willBe = (inode: InodeId, bucket: string): void => {
      // A run that is run again may come to another one.
      if (file && file.inode !== inode) this.#files.leave(file)
      if (file?.inode !== inode) file = this.#files.expect(inode)
      file.bucket = bucket
    }
    try {
      const { value: node } = await this.#parts.metadata.makeFile(parent, name, { ...request, willBe })
      const known = must(file, 'file of the inode that was made')
      return { handle: this.#files.addHandle(known, options.write).id, node: known.shown(node) }
    } finally {
      if (file) this.#files.leave(file)
    }
  }

  readNow(handle: HandleId, offset: number, length: number): readonly FilePiece[] | undefined {
    const { handle: reader, file } = this.#files.file(handle, 'read')
    const end = Math.min(offset + length, file.size)
    if (end <= offset) return []
    const pieces = readPiecesNow(this.#reader, file, offset, end)
    if (pieces) this.#readAhead(reader, file, { offset, end })
    return pieces
  }

  async read(handle: HandleId, offset: number, length: number): Promise<readonly FilePiece[]> {
    const { handle: reader, file } = this.#files.file(handle, 'read')
    const end = Math.min(offset + length, file.size)
    if (end <= offset) return []
    const pieces = await readPieces(this.#reader, file, offset, end)
    this.#readAhead(reader, file, { offset, end })
    return pieces
  }

  #readAhead(reader: Handle, file: OpenFile, { offset, end }: { offset: number; end: number }): void {
    const ahead = reader.readAhead.next(offset, end - offset, this.#parts.fileLimits.readAheadBytesMax)
    if (ahead) prefetch(this.#reader, file, ahead.from, ahead.to)
  }

  writeNow(handle: HandleId, offset: number, bytes: Uint8Array, append: boolean): boolean {
    const { handle: writer, file } = this.#files.file(handle, 'write')
    if (file.overlay.count >= this.#parts.fileLimits.editsMax) return false
    if (!this.#writer.writeNow(file, append ? 'end' : offset, bytes)) return false
    writer.wrote = true
    return true
  }

  async write(handle: HandleId, offset: number, bytes: Uint8Array, append: boolean): Promise<void> {
    const { handle: writer, file } = this.#files.file(handle, 'write')
    if (file.overlay.count >= this.#parts.fileLimits.editsMax) await this.#publishCrowded(file)
    await this.#writer.write(file, append ? 'end' : offset, bytes)
    writer.wrote = true
  }

  async #publishCrowded(file: OpenFile): Promise<void> {
    try {
      await this.#publisher.publish(file, 'visible')
    } catch (error) {
      if (file.overlay.count >= EDITS_EXCESS_MAX * this.#parts.fileLimits.editsMax) throw error
    }
  }

  isUnpublished(handle: HandleId): boolean {
    const { file } = this.#files.handle(handle)
    return file !== undefined && (file.dirty || file.publishing !== undefined)
  }

  async sync(handle: HandleId): Promise<void> {
    const opened = this.#files.handle(handle)
    if (!opened.file) return await this.#parts.metadata.flush()
    const { file } = opened
    file.guests++
    try {
      await this.#publisher.publish(file, 'synced')
    } catch (error) {
      // Told now: the same loss is not told again.
      opened.lost = undefined
      throw error
    } finally {
      this.#files.leave(file)
    }
    const { lost } = opened
    opened.lost = undefined
    if (lost !== undefined) throw lost as Error
  }

  async flush(handle: HandleId): Promise<void> {
    const { file, write, wrote } = this.#files.handle(handle)
    // Who opened it to read may have cut it by that (O_TRUNC).
    if (file && (write || wrote) && (file.dirty || file.publishing)) await this.#publisher.publish(file, 'visible')
  }

  async release(handle: HandleId): Promise<void> {
    const opened = this.#files.handle(handle)
    this.#files.removeHandle(opened)
    const { file } = opened
    if (!file) return
    file.guests++
    try {
      if (file.handles.size === 0 && file.maybeUnlinked) await this.#dropUnlinked(file)
      // What a close could not publish is tried again by age; nobody is left to be told.
      if ((opened.write || opened.wrote) && file.dirty) await this.#publishQuietly(file)
    } finally {
      this.#files.leave(file)
    }
  }

  /** Of a file that lost its last name while it was open nothing is published any more. */
  async #dropUnlinked(file: OpenFile): Promise<void> {
    const { metadata, onFailure } = this.#parts
    try {
      await file.exclusive(async () => {
        const node = await metadata.fileNode(file.inode).catch((error: unknown) => {
          if (isFinal(error)) return undefined
          throw error
        })
        // Somebody may have opened or linked it meanwhile.
        if (file.handles.size > 0 || (node && node.links > 0)) return
        file.discard()
        if (node) await metadata.dropFile(file.inode)
      })
    } catch (cause) {
      // The next start finds it (`recover`).
      onFailure({ inode: file.inode, doing: 'drop', cause })
    }
  }

  async allocate(
    handle: HandleId,
    range: { readonly offset: number; readonly length: number },
    what: { readonly kind: 'allocate' | 'punch' | 'zero'; readonly keepSize: boolean },
  ): Promise<void> {
    const { handle: writer, file } = this.#files.file(handle, 'write')
    const end = range.offset + range.length
    if (!what.keepSize) this.#writer.checkSize(end)
    if (what.kind === 'allocate') await this.#parts.persisting.reserve(range.length)
    else if (range.offset < file.size) file.hole(range.offset, Math.min(end, file.size))
    if (!what.keepSize && end > file.size) file.resize(end)
    else if (what.kind === 'allocate') return
    this.#writer.touch(file)
    writer.wrote = true
  }

  async copyRange(
    from: { readonly handle: HandleId; readonly offset: number },
    to: { readonly handle: HandleId; readonly offset: number },
    length: number,
  ): Promise<number> {
    const source = { ...this.#files.file(from.handle, 'read'), offset: from.offset }
    const target = { ...this.#files.file(to.handle, 'write'), offset: to.offset }
    const copying = { parts: this.#parts, publisher: this.#publisher, writer: this.#writer, door: this }
    try {
      return await copyRange(copying, source, target, length)
    } finally {
      for (const { file } of [source, target]) this.#files.forgetIfIdle(file)
    }
  }

  async seek(handle: HandleId, offset: number, what: 'data' | 'hole'): Promise<number | undefined> {
    return await seek(this.#parts.metadata, this.#files.file(handle, 'read').file, offset, what)
  }

  async residency(inode: InodeId): Promise<FileResidency> {
    return await residencyOf(this.#parts, inode, this.#files.loaded(inode))
  }

  async statistics(): Promise<FileSystemStatistics> {
    const { totalBytes, freeBytes, availableBytes, files } = await this.#parts.space.space()
    return {
      blockBytes: STATFS_BLOCK_BYTES,
      blocks: Math.floor(totalBytes / STATFS_BLOCK_BYTES),
      blocksFree: Math.floor(freeBytes / STATFS_BLOCK_BYTES),
      blocksAvailable: Math.floor(availableBytes / STATFS_BLOCK_BYTES),
      files,
      nameBytesMax: NAME_BYTES_MAX,
    }
  }

  onChanges(listener: (changes: readonly FileChange[]) => void): () => void {
    this.#listeners.add(listener)
    const end = this.#parts.metadata.onFileChanges(listener)
    return () => {
      this.#listeners.delete(listener)
      end()
    }
  }

  /** Drops what was unlinked and open when the process ended. Before the doors open. */
  async recover(): Promise<{ readonly dropped: number }> {
    const { metadata } = this.#parts
    let dropped = 0
    for (;;) {
      const orphans = await metadata.orphanedFiles(ORPHANS_AT_ONCE)
      if (orphans.length === 0) return { dropped }
      for (const inode of orphans) await metadata.dropFile(inode)
      dropped += orphans.length
    }
  }

  /** What the engine runs: publishes by age, and lets go what idle files hold. */
  get job(): BackgroundJob {
    return { name: 'publish-files', pauseMs: BACKGROUND_PAUSE_MS, round: () => this.publishAged() }
  }

  /** One round; never rejects for a publish that fails. */
  async publishAged(): Promise<boolean> {
    const { clock, fileLimits } = this.#parts
    const nowMs = clock.monotonicMs()
    const due: OpenFile[] = []
    for (const file of this.#files.all()) {
      file.published.sweep()
      if (file.sinceMs === undefined || nowMs < file.retryMs) continue
      // What nobody has open any more was to be published at its close.
      if (nowMs - file.sinceMs >= fileLimits.publishAgeMsMax || !file.used) due.push(file)
    }
    for (let from = 0; from < due.length; from += PUBLISHES_AT_ONCE) {
      await Promise.all(due.slice(from, from + PUBLISHES_AT_ONCE).map((file) => this.#publishQuietly(file)))
    }
    return false
  }

  async #publishQuietly(file: OpenFile, goal: PublishGoal = 'visible'): Promise<unknown> {
    file.guests++
    try {
      await this.#publisher.publish(file, goal)
      return undefined
    } catch (cause) {
      this.#parts.onFailure({ inode: file.inode, doing: 'publish', cause })
      file.retryMs = this.#parts.clock.monotonicMs() + this.#parts.fileLimits.publishAgeMsMax
      if (isFinal(cause)) await this.#giveUp(file, cause)
      return cause
    } finally {
      this.#files.leave(file)
    }
  }

  /** The inode is gone: what was written can go nowhere. Readers of it keep what they see. */
  async #giveUp(file: OpenFile, cause: unknown): Promise<void> {
    file.lose(cause)
    file.retryMs = Infinity
    if (file.handles.size === 0) await file.exclusive(() => Promise.resolve(file.discard()))
  }

  /**
   * Publishes and syncs everything; the mount is gone. Each file is tried until the admission time has passed.
   * @throws the last failure when something stays unpublished
   */
  async drain(): Promise<void> {
    const { clock, limits, metadata } = this.#parts
    const deadlineMs = clock.monotonicMs() + limits.admissionWaitMsMax
    for (;;) {
      let failure: unknown
      const dirty = this.#files.all().filter((file) => file.dirty || file.publishing)
      for (let from = 0; from < dirty.length; from += PUBLISHES_AT_ONCE) {
        const some = dirty.slice(from, from + PUBLISHES_AT_ONCE)
        const outcomes = await Promise.all(some.map((file) => this.#publishQuietly(file, 'synced')))
        failure = outcomes.find((outcome) => outcome !== undefined && !isFinal(outcome)) ?? failure
      }
      // What this undoes is put back, and so is dirty at the next attempt.
      failure ??= await metadata.flush().catch((error: unknown) => error)
      if (failure === undefined) return
      if (clock.monotonicMs() >= deadlineMs) throw failure as Error
      await clock.sleep(BACKGROUND_PAUSE_MS)
    }
  }

  /** What the mount left open; after `drain`. */
  async stop(): Promise<void> {
    await Promise.all(this.#files.allHandles().map((handle) => this.release(handle.id).catch(() => undefined)))
  }
}
