/** Copies of segments put together: owner's side, holder's side, and what an heir does. See ports.ts. */
import type { BackgroundJob } from '../../common/background.ts'
import type { Clock } from '../../common/clock.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { NodeCalls } from '../../common/node-calls.ts'
import type { NodeView } from '../../common/node-view.ts'
import type { JournalDevice } from '../journal/device.ts'
import type { FileSystem, IndexedSegment, SegmentIndex } from '../ports.ts'
import type { PageVerifier } from '../reading/ports.ts'
import type { SegmentFiles } from '../segment-files.ts'
import { CopyFiles } from './copy-files.ts'
import { CopyReader } from './copy-reader.ts'
import { CopyHolder } from './holder.ts'
import { encodeHead } from './messages.ts'
import { OutgoingCopies } from './outgoing.ts'
import { Partners } from './partners.ts'
import type { Copies, CopiesStatus, CopyIndex, StartsCopies } from './ports.ts'
import { Recopier } from './recopier.ts'
import { TakeOver, type AdoptedCopy } from './take-over.ts'

const DROP_MS_MAX = 3000

export interface CopiesOptions {
  readonly calls: NodeCalls
  readonly view: NodeView
  readonly clock: Clock
  readonly random: () => number
  readonly fileSystem: FileSystem
  /** Made by `start`. */
  readonly directory: string
  readonly files: SegmentFiles
  readonly index: CopyIndex & Pick<SegmentIndex, 'bytesLost'>
  /** Writes what others send. Stopped by whoever made it. */
  readonly device: JournalDevice
  readonly verifier: PageVerifier
  readonly slabView: (slabOffset: number, length: number) => Uint8Array
  readonly pageBytes: number
  readonly blockBytes: number
  /** How long a node may be away before its copies do not count. */
  readonly graceMs: number
  readonly waitMsMax: number
  readonly accept: (bytes: number) => Promise<void>
  readonly isReachedByAll: (record: IndexedSegment) => boolean
  readonly journal: () => {
    /** Resolves when it is sealed; seals it if it is open. @throws Unavailable */
    sealed(segment: SegmentId): Promise<void>
    /** It is written, or being sealed or mended. */
    isOpen(segment: SegmentId): boolean
  }
  readonly onAdopted: (adopted: AdoptedCopy) => void
}

export class NodeCopies implements Copies {
  readonly #options: CopiesOptions
  readonly #partners: Partners
  readonly #outgoing: OutgoingCopies
  readonly #recopier: Recopier
  readonly #holder: CopyHolder
  readonly #takeOver: TakeOver
  readonly #reader: CopyReader
  readonly #files: CopyFiles
  readonly #unwatch: () => void

  constructor(options: CopiesOptions) {
    this.#options = options
    const { calls, view, clock, index, fileSystem } = options
    this.#files = new CopyFiles(fileSystem, options.directory)
    this.#partners = new Partners(options)
    const onWanting = (segment: SegmentId): void => this.#recopier.want(segment)
    this.#outgoing = new OutgoingCopies({ calls, view, index, partners: this.#partners, onWanting })
    this.#recopier = new Recopier({
      ...options,
      self: view.self,
      outgoing: this.#outgoing,
      partners: this.#partners,
      sealed: (segment) => options.journal().sealed(segment),
      isOpen: (segment) => options.journal().isOpen(segment),
    })
    const files = this.#files
    this.#holder = new CopyHolder({
      ...options,
      files,
      ensure: (segment) => this.#recopier.ensure(segment),
    })
    this.#reader = new CopyReader({ ...options, files, writing: (segment) => this.#holder.writing(segment) })
    this.#takeOver = new TakeOver({
      fileSystem,
      copies: files,
      files: options.files,
      index,
      clock,
      self: view.self,
      pageBytes: options.pageBytes,
      close: (segment) => this.#holder.close(segment),
      onAdopted: (adopted) => {
        this.#reader.forget(adopted.segment)
        if (adopted.liveBytes > 0) this.#recopier.want(adopted.segment)
        options.onAdopted(adopted)
      },
    })
    this.#holder.serve(calls)
    this.#unwatch = view.onChange(() => this.#recopier.lookSoon())
  }

  get starting(): StartsCopies {
    return this.#outgoing
  }

  get jobs(): readonly BackgroundJob[] {
    return [this.#recopier.job, this.#holder.job]
  }

  async copied(segment: SegmentId, through?: number): Promise<void> {
    const live = this.#outgoing.live(segment)
    if (live && !live.failed) {
      // What fails here is made up for below.
      const isThere = await live.sync(through ?? live.bytes).then(
        () => true,
        () => false,
      )
      if (isThere) return
    }
    const node = this.#outgoing.wholeOn(segment)
    if (node !== undefined && this.#partners.isThere(node)) return
    await this.#recopier.ensure(segment)
  }

  notNeeded(segment: SegmentId): void {
    const node = this.#outgoing.wholeOn(segment)
    this.#recopier.forget(segment)
    if (node === undefined || !this.#partners.isThere(node)) return
    const call = { method: 'copy-drop', head: encodeHead({ segments: [segment] }) } as const
    // A holder that does not hear of it finds out by itself.
    this.#options.calls.call(node, call, { timeoutMs: DROP_MS_MAX }).catch(() => undefined)
  }

  read(segment: SegmentId, block: number, slabOffset: number): Promise<number | undefined> {
    return this.#reader.read(segment, block, slabOffset)
  }

  adopt(segment: SegmentId): Promise<boolean> {
    return this.#takeOver.adopt(segment)
  }

  async holds(segment: SegmentId): Promise<boolean> {
    return (await this.#files.bytes(segment)) !== undefined
  }

  async keep(segment: SegmentId, path: string): Promise<boolean> {
    const { index, view, isReachedByAll } = this.#options
    const record = await index.segment(segment)
    if (!record || record.node === view.self || record.copies?.length !== 0 || isReachedByAll(record)) return false
    if (await this.holds(segment)) return false
    await this.#files.takeFrom(segment, path)
    return true
  }

  async recover(): Promise<void> {
    const { fileSystem, directory } = this.#options
    await fileSystem.makeDirectory(directory)
    await fileSystem.syncDirectory(directory.slice(0, directory.lastIndexOf('/')))
    await this.#takeOver.recover()
  }

  status(): CopiesStatus {
    const { segments, bytes } = this.#holder.held
    return {
      heldSegments: segments,
      heldBytes: bytes,
      openCopies: this.#outgoing.size,
      wantingCopies: this.#recopier.wanting,
      recopiedSegments: this.#recopier.recopied,
    }
  }

  async stop(): Promise<void> {
    this.#unwatch()
    this.#recopier.stop()
    this.#partners.stop()
    await this.#outgoing.stop()
    await this.#holder.stop()
    this.#files.close()
  }
}
