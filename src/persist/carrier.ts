/**
 * How sealed segments get into the remote store and out of it again. Two twins: `AdoptingCarrier` for a store on local disk, which takes
 * the journal's file by renaming it (C21), and `UploadingCarrier` for one that is reached over a network.
 *
 * What is where, by the twin:
 *
 *   state of the segment          adopting                     uploading
 *   sealed, not persisted         journal                      journal
 *   persisted                     store/segments               remote store; perhaps the disk level, as cache
 *
 * Safe at every line: an upload that was not marked is done again under the same name with the same bytes; one whose segment was
 * reclaimed meanwhile is removed here, or by the collector if we die first. A persisted segment goes from the remote store before its record
 * goes from metadata, so a removal that was broken off is done again.
 */
import { dirname } from 'node:path'
import { TidegateError } from '../common/errors.ts'
import type { SegmentId } from '../common/ids.ts'
import type { FileSystem, IndexedSegment, SegmentIndex } from './ports.ts'
import type { LocalDiskStore } from './remote/local-disk.ts'
import { segmentObjectName, type RemoteStore } from './remote/ports.ts'
import { TRAILER_BYTES, type Footer } from './journal/format.ts'
import { readFooter, type SegmentFiles } from './segment-files.ts'

export interface SegmentCarrier {
  readonly kind: 'adopting' | 'uploading'
  start(): Promise<void>
  /** Durable in the remote store when it resolves. Safe to repeat. */
  persist(segment: SegmentId, signal: AbortSignal): Promise<void>
  /** Metadata says so too: the local copy may go where it likes. Never rejects for what only costs cache. */
  persisted(segment: SegmentId): Promise<void>
  /** Nothing refers to it any more: its bytes go, wherever they lie. */
  remove(record: IndexedSegment): Promise<void>
}

/** Whether the store is this node's: rejects when it is not, or is not known to be. */
export interface StoreGuard {
  /** Resolves once it was seen to be; nothing leaves before. */
  verified(): Promise<void>
  /** Resolves when it was a moment ago; before anything is removed there. */
  verifiedNow(): Promise<void>
}

export class AdoptingCarrier implements SegmentCarrier {
  readonly kind = 'adopting'
  readonly #localDisk: LocalDiskStore
  readonly #files: SegmentFiles
  readonly #guard: StoreGuard | undefined

  /** `guard`: of a store that may outlive this node. */
  constructor(localDisk: LocalDiskStore, files: SegmentFiles, guard?: StoreGuard) {
    this.#localDisk = localDisk
    this.#files = files
    this.#guard = guard
  }

  /**
   * Recovery, which follows, believes its eyes: of a directory that is not there now (not mounted, say) it would take all for lost, and of
   * one that is somebody else's by now all for orphans.
   */
  async start(): Promise<void> {
    await this.#guard?.verified()
    await this.#localDisk.start()
  }

  async persist(segment: SegmentId): Promise<void> {
    await this.#guard?.verifiedNow()
    await this.#localDisk.adopt(segment)
  }

  persisted(): Promise<void> {
    return Promise.resolve()
  }

  async remove({ segment, state }: IndexedSegment): Promise<void> {
    if (state === 'persisted') await this.#guard?.verifiedNow()
    await this.#files.remove(segment)
  }
}

/** Takes over the file of a persisted segment as cache; false: it does not want it. Satisfied by the disk level. */
export interface TakesSegments {
  adopt(
    segment: SegmentId,
    path: string,
    described: { readonly dataBytes: number; readonly pageBytes: number; readonly pageCrcs: Uint32Array },
  ): Promise<boolean>
  forget(segment: SegmentId): void
}

export interface UploadingCarrierOptions {
  readonly remote: RemoteStore
  readonly fileSystem: FileSystem
  readonly files: SegmentFiles
  readonly index: SegmentIndex
  readonly diskLevel: TakesSegments | undefined
  readonly guard: StoreGuard
}

export class UploadingCarrier implements SegmentCarrier {
  readonly kind = 'uploading'
  readonly #options: UploadingCarrierOptions

  constructor(options: UploadingCarrierOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    const { journal } = this.#options.files.places
    await this.#options.fileSystem.makeDirectory(journal)
    await this.#options.fileSystem.syncDirectory(dirname(journal))
  }

  async persist(segment: SegmentId, signal: AbortSignal): Promise<void> {
    await untilAborted(this.#options.guard.verifiedNow(), signal)
    const sealed = await this.#sealed(segment)
    // The store may take its time to answer that it gave up, or that it has it all the same.
    await untilAborted(this.#upload(segment, sealed, signal), signal)
  }

  async #upload(segment: SegmentId, { bytes, footer }: SealedFile, signal: AbortSignal): Promise<void> {
    const { remote, files, index } = this.#options
    const file = { path: files.journalPath(segment), bytes, pages: footer }
    await remote.putFile(segmentObjectName(segment), file, signal)
    // Reclaimed while it was on its way: nobody would look for it there.
    if (!(await index.segment(segment))) await remote.remove([segmentObjectName(segment)])
  }

  /** Only a file that is whole may be called persisted. @throws DataLost */
  async #sealed(segment: SegmentId): Promise<SealedFile> {
    const { fileSystem, files } = this.#options
    const path = files.journalPath(segment)
    const file = await fileSystem.open(path, 'read').catch((cause: NodeJS.ErrnoException) => {
      const code = cause.code === 'ENOENT' ? 'DataLost' : 'Unavailable'
      throw new TidegateError(code, `cannot open segment ${segment}: ${cause.message}`, { cause })
    })
    try {
      const footer = await readFooter(file, segment)
      if (!footer) throw new TidegateError('DataLost', `segment ${segment} has no valid footer`)
      const bytes = await file.size()
      if (bytes < footer.dataBytes + TRAILER_BYTES) throw new TidegateError('DataLost', `segment ${segment} is cut`)
      return { bytes, footer }
    } finally {
      await file.close()
    }
  }

  async persisted(segment: SegmentId): Promise<void> {
    const { files, diskLevel } = this.#options
    const taken = await this.#offer(segment, diskLevel).catch(() => false)
    if (taken) files.moved(segment)
    else await files.remove(segment)
  }

  async #offer(segment: SegmentId, diskLevel: TakesSegments | undefined): Promise<boolean> {
    if (!diskLevel) return false
    const { footer } = await this.#sealed(segment)
    return await diskLevel.adopt(segment, this.#options.files.journalPath(segment), footer)
  }

  async remove(record: IndexedSegment): Promise<void> {
    const { remote, files, diskLevel, guard } = this.#options
    const { segment, state } = record
    // One that is on its way right now is seen to by `persist`; what a crash leaves there, by the collector.
    if (state === 'persisted') {
      await guard.verifiedNow()
      await remote.remove([segmentObjectName(segment)])
    }
    diskLevel?.forget(segment)
    await files.remove(segment)
  }
}

interface SealedFile {
  readonly bytes: number
  readonly footer: Footer
}

/** Settles with the work, or rejects as soon as nobody wants it any more; the work then ends unheard. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
