/**
 * What becomes of a copy whose segment this node has inherited (its row says so, durably):
 *
 *   copies/<id>.seg  --rename, both directories synced-->  journal/<id>.seg  --cut, sealed-->  sealed in metadata  --> flusher, and a copy of its own
 *
 * A crash between the row and the rename leaves the file among the copies of a segment that is ours: `recover` moves it before recovery would take the segment for lost. From there on it is
 * an unsealed segment of the journal like any other.
 *
 * The cut: a copy may end in the middle of a frame, and it may hold more than the owner sealed; what lies behind the end that its row tells was never acknowledged. What lies before that
 * end and is not here was not either, but at the level `memory`: it is reported as such (C18).
 */
import type { Clock } from '../../common/clock.ts'
import { segmentCreatedMs, type SegmentId } from '../../common/ids.ts'
import { pagesMatch, sealScanned } from '../journal/scan.ts'
import type { FileSystem, IndexedSegment, SegmentIndex } from '../ports.ts'
import { readFooter, type SegmentFiles } from '../segment-files.ts'
import type { CopyFiles } from './copy-files.ts'
import type { CopyIndex } from './ports.ts'

export interface AdoptedCopy {
  readonly segment: SegmentId
  readonly bytes: number
  readonly liveBytes: number
  readonly ageMs: number
  /** What was named at the level `memory` and never came here. */
  readonly removedMemory: number
  readonly lost: readonly { readonly bucket: string; readonly key: string }[]
}

export interface TakeOverOptions {
  readonly fileSystem: FileSystem
  readonly copies: CopyFiles
  readonly files: SegmentFiles
  readonly index: CopyIndex & Pick<SegmentIndex, 'bytesLost'>
  readonly clock: Clock
  readonly self: number
  readonly pageBytes: number
  /** Nobody writes to it any more. */
  readonly close: (segment: SegmentId) => Promise<void>
  /** It lies here now, sealed: to be flushed or reclaimed, and copied again. */
  readonly onAdopted: (adopted: AdoptedCopy) => void
}

const PAGE_OF_SEGMENTS = 1000

export class TakeOver {
  readonly #options: TakeOverOptions
  readonly #adopting = new Map<SegmentId, Promise<boolean>>()

  constructor(options: TakeOverOptions) {
    this.#options = options
  }

  adopt(segment: SegmentId): Promise<boolean> {
    const known = this.#adopting.get(segment)
    if (known) return known
    const adopting = this.#adopt(segment).finally(() => this.#adopting.delete(segment))
    this.#adopting.set(segment, adopting)
    return adopting
  }

  async #adopt(segment: SegmentId): Promise<boolean> {
    const { index, self, files, close } = this.#options
    const record = await index.segment(segment)
    if (!record || record.node !== self || record.state === 'persisted') return false
    await close(segment)
    if (!(await this.#moved(segment))) return false
    // Readers may have looked for it in vain.
    files.moved(segment)
    const sealed = await this.#seal(record)
    const { onAdopted, clock } = this.#options
    const ageMs = Math.max(0, clock.nowMs() - segmentCreatedMs(segment))
    onAdopted({ segment, liveBytes: record.liveBytes, ageMs, ...sealed })
    return true
  }

  /** Whether it lies in the journal now. */
  async #moved(segment: SegmentId): Promise<boolean> {
    const { copies, files } = this.#options
    if (!(await this.#exists(copies.path(segment)))) return await this.#exists(files.journalPath(segment))
    await copies.moveTo(segment, files.journalPath(segment), files.places.journal)
    return true
  }

  async #exists(path: string): Promise<boolean> {
    const file = await this.#options.fileSystem.open(path, 'read').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
    await file?.close()
    return file !== undefined
  }

  async #seal(record: IndexedSegment): Promise<Pick<AdoptedCopy, 'bytes' | 'removedMemory' | 'lost'>> {
    const { fileSystem, files, index, pageBytes } = this.#options
    const { segment } = record
    const path = files.journalPath(segment)
    let bytes = await this.#sealedBytes(record, path)
    let lost: Awaited<ReturnType<SegmentIndex['bytesLost']>> = { removedMemory: 0, lost: [] }
    if (bytes === undefined) {
      const cut = record.state === 'open' ? {} : { cutAt: record.bytes }
      const target = { segment, path, directory: files.places.journal }
      bytes = (await sealScanned(fileSystem, target, { pageBytes, ...cut })).dataBytes
      lost = await index.bytesLost(segment, bytes, Number.MAX_SAFE_INTEGER)
    }
    if (record.state === 'open') await (await index.segmentChanged(segment, 'sealed', bytes)).durable
    return { bytes, ...lost }
  }

  /** Of a file that is whole; as in recovery, a footer that is not known to have been synced is held against the pages. */
  async #sealedBytes(record: IndexedSegment, path: string): Promise<number | undefined> {
    const file = await this.#options.fileSystem.open(path, 'read')
    try {
      const footer = await readFooter(file, record.segment)
      if (!footer) return undefined
      // A large body has no frames to cut it at. It was named only once all of it was synced here: a page that is bad now costs that page.
      const isOneBody = footer.bodies[0]?.offset === 0
      if (!isOneBody && !(await pagesMatch(file, footer))) return undefined
      return footer.dataBytes
    } finally {
      await file.close()
    }
  }

  async recover(): Promise<void> {
    const { copies, files, index } = this.#options
    const here = new Set((await copies.find()).copies)
    if (here.size === 0) return
    const own = new Set((await files.find()).map(({ segment }) => segment))
    let after: SegmentId | undefined
    for (;;) {
      const page = await index.segments(after, PAGE_OF_SEGMENTS)
      for (const { segment } of page) {
        if (!here.has(segment)) continue
        if (own.has(segment)) await copies.remove(segment)
        else await copies.moveTo(segment, files.journalPath(segment), files.places.journal)
      }
      if (page.length < PAGE_OF_SEGMENTS) return
      after = page.at(-1)?.segment
    }
  }
}
