/** Doubles that the tests of persistence share. */
import type { ContentId, Revision, SegmentId } from '../../../src/common/ids.ts'
import { segmentIdFrom } from '../../../src/common/ids.ts'
import type { StoredRun } from '../../../src/common/model.ts'
import { encodeFooter, encodeFrame, alignFrame, TRAILER_BYTES } from '../../../src/persist/journal/format.ts'
import type { IndexCommit, IndexedSegment, SegmentBody, SegmentIndex } from '../../../src/persist/ports.ts'
import { crc32 } from 'node:zlib'
import { Random } from '../../model/random.ts'
import { ForgetfulFileSystem } from '../../sim/forgetful-file-system.ts'
import { Scheduler } from '../../sim/scheduler.ts'

export const PLACES = { journal: '/data/journal', store: '/data/store' }

export function segmentNumber(number: number): SegmentId {
  return segmentIdFrom(number.toString(16).padStart(32, '0'))
}

/** A file system whose operations take no time, with the directories of a data directory. */
export function newFileSystem(options: { capacityBytes?: number; otherDevice?: string } = {}): ForgetfulFileSystem {
  const fileSystem = new ForgetfulFileSystem({ scheduler: new Scheduler(), random: new Random(1), ...options })
  for (const path of [PLACES.journal, `${PLACES.store}/segments`]) fileSystem.addDirectory(path)
  return fileSystem
}

export async function writeFile(fileSystem: ForgetfulFileSystem, path: string, bytes: Uint8Array): Promise<void> {
  const directory = path.slice(0, path.lastIndexOf('/'))
  await fileSystem.makeDirectory(directory)
  const file = await fileSystem.open(path, 'create')
  await file.write(bytes, 0)
  await file.sync()
  await file.close()
  await fileSystem.syncDirectory(directory)
  await fileSystem.syncDirectory(directory.slice(0, directory.lastIndexOf('/')))
}

export interface SegmentImage {
  readonly data: Buffer
  readonly bodies: readonly SegmentBody[]
  /** Data, footer and trailer. */
  readonly sealed: Buffer
}

/** The bytes of a shared segment that holds these bodies. */
export function segmentImage(segment: SegmentId, contents: readonly Uint8Array[], pageBytes = 64): SegmentImage {
  const pieces: Buffer[] = []
  const bodies: SegmentBody[] = []
  let at = 0
  contents.forEach((body, index) => {
    const label = `{"k":"key-${index}"}`
    const start = alignFrame(at)
    pieces.push(Buffer.alloc(start - at))
    pieces.push(
      encodeFrame(segment, {
        labelBytes: label.length,
        bodyBytes: body.length,
        labelCrc: crc32(label),
        bodyCrc: crc32(body),
        content: index + 1,
      }),
      Buffer.from(label),
      Buffer.from(body),
    )
    const offset = start + 48 + label.length
    bodies.push({ content: index + 1, offset, length: body.length, label })
    at = offset + body.length
  })
  const data = Buffer.concat(pieces)
  const pageCrcs = Uint32Array.from({ length: Math.ceil(data.length / pageBytes) }, (_, page) =>
    crc32(data.subarray(page * pageBytes, (page + 1) * pageBytes)),
  )
  const footer = encodeFooter({ segment, dataBytes: data.length, pageBytes, pageCrcs, bodies })
  return { data, bodies, sealed: Buffer.concat([data, footer]) }
}

/** A sealed segment as it was written when the page table had no checksum of its own ('TGT1'). */
export function withoutTableCrc(sealed: Buffer, dataBytes: number, pageBytes = 64): Buffer {
  const tableEnd = dataBytes + Math.ceil(dataBytes / pageBytes) * 4
  const old = Buffer.concat([sealed.subarray(0, tableEnd), sealed.subarray(tableEnd + 4)])
  const trailer = old.subarray(-TRAILER_BYTES)
  trailer.write('TGT1', 0, 'latin1')
  trailer.writeBigUInt64LE(trailer.readBigUInt64LE(16) - 4n, 16)
  const footer = old.subarray(dataBytes, old.length - TRAILER_BYTES)
  trailer.writeUInt32LE(crc32(trailer.subarray(8), crc32(footer)), 4)
  return old
}

interface Row {
  state: 'open' | 'sealed' | 'persisted'
  bytes: number
  liveBytes: number
}

/** A segment index in memory. Commits are visible at once and durable when `durable` says so. */
export class FakeIndex implements SegmentIndex {
  readonly rows = new Map<SegmentId, Row>()
  readonly lost: { segment: SegmentId; from: number; to: number }[] = []
  readonly moved: { from: StoredRun; to: StoredRun }[] = []
  readonly liveContents = new Set<ContentId>()
  /** What `bytesLost` answers. */
  bytesLostAnswer: { removedMemory: number; lost: { bucket: string; key: string }[] } = { removedMemory: 0, lost: [] }
  emptied: SegmentId[] = []
  horizons: Revision[] = []
  visible = 1
  durableUpTo: Revision | undefined
  /** Settles the `durable` of every commit; replaced by tests that hold it back or let it fail. */
  durable: () => Promise<void> = () => Promise.resolve()

  set(segment: SegmentId, row: Partial<Row>): void {
    this.rows.set(segment, { state: 'open', bytes: 0, liveBytes: 0, ...row })
  }

  #commit<T>(value: T): Promise<IndexCommit<T>> {
    const durable = this.durable()
    durable.catch(() => undefined)
    return Promise.resolve({ value, revision: ++this.visible, durable })
  }

  segmentOpened(segment: SegmentId): Promise<IndexCommit<void>> {
    this.set(segment, {})
    return this.#commit(undefined)
  }

  segmentChanged(segment: SegmentId, state: 'sealed' | 'persisted', bytes: number): Promise<IndexCommit<void>> {
    const row = this.rows.get(segment)
    if (!row) return Promise.reject(new Error(`segment ${segment} is not recorded`))
    Object.assign(row, { state, bytes })
    return this.#commit(undefined)
  }

  segmentRemoved(segment: SegmentId): Promise<IndexCommit<void>> {
    this.rows.delete(segment)
    return this.#commit(undefined)
  }

  segment(segment: SegmentId): Promise<IndexedSegment | undefined> {
    const row = this.rows.get(segment)
    return Promise.resolve(row && { segment, ...row })
  }

  async decidedSegment(segment: SegmentId): Promise<IndexedSegment | undefined> {
    await this.durable()
    return await this.segment(segment)
  }

  segments(after: SegmentId | undefined, limit: number): Promise<IndexedSegment[]> {
    const ids = [...this.rows.keys()].sort().filter((id) => after === undefined || id > after)
    return Promise.resolve(ids.slice(0, limit).map((segment) => ({ segment, ...(this.rows.get(segment) as Row) })))
  }

  dismantle(horizon: Revision): Promise<IndexCommit<{ steps: number; emptied: readonly SegmentId[] }>> {
    this.horizons.push(horizon)
    const emptied = this.emptied.splice(0)
    return this.#commit({ steps: emptied.length, emptied })
  }

  contentLiesAt(run: StoredRun): Promise<boolean> {
    return Promise.resolve(this.liveContents.has(run.content))
  }

  contentMoved(from: StoredRun, to: StoredRun): Promise<IndexCommit<boolean>> {
    this.moved.push({ from, to })
    const row = this.rows.get(from.segment)
    if (row) row.liveBytes -= from.length
    return this.#commit(true)
  }

  bytesLost(segment: SegmentId, from: number, to: number): Promise<typeof this.bytesLostAnswer> {
    this.lost.push({ segment, from, to })
    return Promise.resolve(this.bytesLostAnswer)
  }

  revision(): Revision {
    return this.visible
  }

  durableRevision(): Revision {
    return this.durableUpTo ?? this.visible
  }

  flush(): Promise<void> {
    return this.durable()
  }
}
