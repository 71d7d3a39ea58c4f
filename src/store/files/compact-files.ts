/**
 * C30 in the background: files that lie in too many pieces, one after the other, a stretch at a time. The bytes of a stretch are read
 * through the cache, and so checked (C14), journaled and synced as one run, and put in the place of the pieces if those are still there.
 *
 * Bounded: one stretch in memory, so many bytes a second, nothing when the disk is short of room. A file that cannot be read is left
 * alone for a while. What a stop interrupts is an orphan in the journal; the file is marked in metadata until its pass has ended.
 */
import { crc32 } from 'node:zlib'
import type { BackgroundJob } from '../../common/background.ts'
import type { ContentId, InodeId } from '../../common/ids.ts'
import { encodeLabel } from '../labels.ts'
import type { CompactionPiece, CompactionPlan } from '../../common/file-contents.ts'
import type { FilesParts } from './file-parts.ts'
import { readStored } from './read-file.ts'

type CompactorParts = Pick<
  FilesParts,
  'metadata' | 'memory' | 'journal' | 'persisting' | 'acknowledgement' | 'readers' | 'limits' | 'clock'
>

/** Longest run; extents of half of it are long enough. */
const RUN_BYTES_MAX = 4 * 1024 * 1024
const BYTES_PER_SECOND = 32 * 1024 * 1024
const FILES_AT_ONCE = 64
const IDLE_PAUSE_MS = 2_000
const FAILED_PAUSE_MS = 600_000
const FAILED_MAX = 1024

interface Pass {
  readonly inode: InodeId
  at: number
  /** As all plans so far said; undefined once they differed, or some pieces had changed. */
  rows: ContentId | undefined
  isWhole: boolean
}

export class FileCompactor {
  readonly #parts: CompactorParts
  readonly #runBytesMax: number
  #found: InodeId[] = []
  #last: InodeId | undefined
  #pass: Pass | undefined
  /** Files that could not be compacted -> when they may be tried again, oldest first. */
  readonly #failed = new Map<InodeId, number>()

  constructor(parts: CompactorParts) {
    this.#parts = parts
    this.#runBytesMax = Math.min(RUN_BYTES_MAX, parts.limits.sharedBodyBytesMax)
  }

  get job(): BackgroundJob {
    return { name: 'compact-files', pauseMs: IDLE_PAUSE_MS, round: () => this.round() }
  }

  /** One stretch. True while there is more to do. */
  async round(): Promise<boolean> {
    this.#pass ??= await this.#nextPass()
    if (!this.#pass) return false
    const pass = this.#pass
    try {
      if (!(await this.#step(pass))) this.#pass = undefined
    } catch (error) {
      this.#pass = undefined
      this.#leaveAlone(pass.inode)
      throw error
    }
    return true
  }

  /** Undefined once all that are marked have had their turn. */
  async #nextPass(): Promise<Pass | undefined> {
    if (this.#found.length === 0) {
      const { inodes, last } = await this.#parts.metadata.fragmentedFiles(this.#last, FILES_AT_ONCE)
      this.#last = last
      this.#found = inodes.filter((inode) => !this.#isLeftAlone(inode))
    }
    const inode = this.#found.shift()
    return inode === undefined ? undefined : { inode, at: 0, rows: undefined, isWhole: true }
  }

  #isLeftAlone(inode: InodeId): boolean {
    const untilMs = this.#failed.get(inode)
    if (untilMs === undefined) return false
    if (this.#parts.clock.monotonicMs() < untilMs) return true
    this.#failed.delete(inode)
    return false
  }

  #leaveAlone(inode: InodeId): void {
    this.#failed.set(inode, this.#parts.clock.monotonicMs() + FAILED_PAUSE_MS)
    if (this.#failed.size <= FAILED_MAX) return
    for (const oldest of this.#failed.keys()) {
      this.#failed.delete(oldest)
      return
    }
  }

  /** False at the end of the file. */
  async #step(pass: Pass): Promise<boolean> {
    const { metadata, readers } = this.#parts
    // Before the look-up: what it names is not reclaimed while its bytes are read (C12).
    const reader = readers.begin(metadata.revision())
    try {
      const plan = await metadata.planCompaction(pass.inode, pass.at, this.#runBytesMax)
      if (!plan) {
        await metadata.settleCompaction(pass.inode, pass.isWhole ? pass.rows : undefined)
        return false
      }
      if (pass.at === 0) pass.rows = plan.rows
      else if (pass.rows !== plan.rows) pass.isWhole = false
      pass.at = plan.to
      if (!(await this.#carryOut(pass.inode, plan))) pass.isWhole = false
      return true
    } finally {
      readers.close(reader)
    }
  }

  async #carryOut(inode: InodeId, plan: CompactionPlan): Promise<boolean> {
    const { metadata } = this.#parts
    const { what, pieces, ack } = plan
    if (what === 'nothing') return true
    if (what === 'rewrite') return await this.#rewrite(inode, plan)
    return (await metadata.compactFile({ inode, pieces, run: undefined, ack })).value
  }

  async #rewrite(inode: InodeId, { pieces, ack }: CompactionPlan): Promise<boolean> {
    const { metadata, journal, persisting, acknowledgement, clock } = this.#parts
    const bytes = await this.#read(pieces)
    await persisting.accept(bytes.length)
    const place = (await metadata.keyOf(inode)) ?? { bucket: '', key: '' }
    const offset = pieces[0]?.offset ?? 0
    const label = encodeLabel({ ...place, modifiedMs: clock.nowMs(), file: { inode, offset } })
    const content = await metadata.allocateContentId()
    const { length } = bytes
    const bodyCrc = crc32(bytes)
    const copied = ack === 'replicated'
    const body = await journal.append({ content, label, pieces: [bytes], length, bodyCrc }, { copied })
    try {
      await body.sync()
      // What was in the remote store before is there again before anything refers to it.
      await acknowledgement.raised(ack, [body.run.segment])
      return (await metadata.compactFile({ inode, pieces, run: body.run, ack })).value
    } finally {
      body.settled()
      await clock.sleep((length / BYTES_PER_SECOND) * 1000)
    }
  }

  async #read(pieces: readonly CompactionPiece[]): Promise<Uint8Array> {
    const { memory, limits } = this.#parts
    const bytes = Buffer.allocUnsafe(pieces.reduce((sum, { length }) => sum + length, 0))
    let at = 0
    for (const { segment, segmentOffset, length } of pieces) {
      if (segment === undefined) continue
      await readStored({ memory, blockBytes: limits.blockBytes }, { segment, segmentOffset, length }, (part) => {
        bytes.set(part, at)
        at += part.length
      })
    }
    return bytes
  }
}
