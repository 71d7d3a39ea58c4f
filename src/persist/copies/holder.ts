/**
 * Keeps copies of other nodes' segments.
 *
 * A copy is begun only by the node whose the segment is, as its row says; written and sealed only by the node that began it. It stays, whatever becomes of that node, until a
 * read of metadata that began after the look at the directory says one of:
 *
 *   no row                          the segment is gone, or was never published: a row is durable before the first byte is sent
 *   the row names other copies      another took its place; but one that came whole is spared for a minute, until its owner has had the time to name it
 *   persisted where all reach it    nobody needs this one
 *
 * Whoever asks whether a copy is here (`copies`) is told so only if it is spared from then on for as long.
 */
import type { BackgroundJob } from '../../common/background.ts'
import type { Clock } from '../../common/clock.ts'
import { crc32 } from '../../common/crc32.ts'
import { TidegateError } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { NodeAnswer, NodeCalls, NodeRequest } from '../../common/node-calls.ts'
import type { NodeView } from '../../common/node-view.ts'
import type { JournalDevice } from '../journal/device.ts'
import type { FileSystem, IndexedSegment } from '../ports.ts'
import type { CopyFiles } from './copy-files.ts'
import { IncomingCopy } from './incoming-copy.ts'
import {
  decodeOpen,
  decodeSegments,
  decodeWrite,
  encodeHead,
  NOTHING,
  type CopyMode,
  type CopyName,
  type HeldCopy,
} from './messages.ts'
import type { CopyIndex } from './ports.ts'

const SPARED_MS = 60_000
const SWEEP_EVERY_MS = 30_000
/** One that nobody has written to for so long, and whose owner has sealed it meanwhile, is not written any more. */
const IDLE_MS_MAX = 60_000
/** Files that are open for writing; a sender that is refused finds another partner. */
const OPEN_COPIES_MAX = 512
const LOOKS_AT_ONCE = 32

export interface HolderOptions {
  readonly fileSystem: FileSystem
  readonly files: CopyFiles
  readonly device: JournalDevice
  readonly index: Pick<CopyIndex, 'segment'>
  readonly view: NodeView
  readonly clock: Clock
  readonly pageBytes: number
  /** Room on the disk. @throws StorageFull */
  readonly accept: (bytes: number) => Promise<void>
  readonly isReachedByAll: (record: IndexedSegment) => boolean
  /** Segments of this node's own that another wants copied. @throws Unavailable */
  readonly ensure: (segment: SegmentId) => Promise<void>
}

export class CopyHolder {
  readonly #options: HolderOptions
  readonly #open = new Map<string, IncomingCopy>()
  readonly #sparedUntilMs = new Map<SegmentId, number>()
  readonly #removing = new Set<SegmentId>()
  /** What the last sweep found. */
  #held = { segments: 0, bytes: 0 }
  #sweptMs = -Infinity
  readonly #unwatch: () => void

  constructor(options: HolderOptions) {
    this.#options = options
    this.#unwatch = options.view.onChange(() => void this.#closeGone())
  }

  get held(): { readonly segments: number; readonly bytes: number } {
    return this.#held
  }

  get job(): BackgroundJob {
    return { name: 'sweep-copies', pauseMs: 1000, round: () => this.round() }
  }

  serve(calls: Pick<NodeCalls, 'serve'>): void {
    calls.serve('copy-open', (request) => this.#openCopy(request))
    calls.serve('copy-write', (request) => this.#write(request))
    calls.serve('copy-seal', (request) => this.#seal(request))
    calls.serve('copy-drop', (request) => this.#drop(request))
    calls.serve('copies', (request) => this.#copies(request))
  }

  /** Being written right now, by its owner. */
  writing(segment: SegmentId): IncomingCopy | undefined {
    return this.#open.get(nameOf({ segment, mode: 'live' }))
  }

  /** Nobody writes to it any more. */
  async close(segment: SegmentId): Promise<void> {
    for (const mode of ['live', 'whole'] as const) await this.#close({ segment, mode })
  }

  async stop(): Promise<void> {
    this.#unwatch()
    await Promise.all([...this.#open.values()].map((copy) => copy.close()))
    this.#open.clear()
  }

  async #openCopy({ from, head }: NodeRequest): Promise<NodeAnswer> {
    const name = decodeOpen(head)
    const { segment, mode } = name
    const { index, view, files, device, pageBytes, clock } = this.#options
    const record = await index.segment(segment)
    const mayWrite = record && (record.node ?? 0) === from && (mode === 'whole' || record.copies?.includes(view.self))
    if (!mayWrite) {
      throw new TidegateError('AccessDenied', `node ${from} may not write a copy of segment ${segment} here`)
    }
    if (this.#open.size >= OPEN_COPIES_MAX)
      throw new TidegateError('SlowDown', 'too many copies are being written here')
    await this.#options.accept(0)
    // What came live so far stays until the whole one is there.
    await this.close(segment)
    if (mode === 'whole') await files.remove(segment, 'whole')
    const incarnation = view.member(from)?.incarnation ?? ''
    const copy = new IncomingCopy(
      { device, pageBytes },
      { ...name, from, incarnation, path: files.path(segment, mode) },
    )
    copy.usedMs = clock.monotonicMs()
    this.#open.set(nameOf(name), copy)
    await copy.create(files.directory).catch((error: unknown) => {
      this.#open.delete(nameOf(name))
      throw error
    })
    return answer()
  }

  async #write({ from, head, body, signal }: NodeRequest): Promise<NodeAnswer> {
    const { position, crc, sync, ...name } = decodeWrite(head)
    const copy = this.#written(name, from)
    check(body, crc, name)
    await this.#options.accept(body.length)
    await copy.write(position, body, { sync, signal })
    return answer()
  }

  async #seal({ from, head, body, signal }: NodeRequest): Promise<NodeAnswer> {
    const { position, crc, ...name } = decodeWrite(head)
    const copy = this.#written(name, from)
    check(body, crc, name)
    await this.#options.accept(body.length)
    await copy.seal(position, body, signal)
    try {
      if (name.mode === 'whole') {
        this.#spare(name.segment)
        await this.#options.files.replace(name.segment)
      }
    } finally {
      // Not sooner: a sweep removes what comes whole and nobody writes.
      this.#open.delete(nameOf(name))
    }
    if (await this.#options.files.footer(name.segment)) return answer()
    throw new TidegateError('BadDigest', `the copy of segment ${name.segment} has no valid footer`)
  }

  #written(name: CopyName, from: number): IncomingCopy {
    const copy = this.#open.get(nameOf(name))
    if (!copy || copy.from !== from) {
      throw new TidegateError('Unavailable', `no copy of segment ${name.segment} is being written here by node ${from}`)
    }
    copy.usedMs = this.#options.clock.monotonicMs()
    return copy
  }

  async #drop({ head }: NodeRequest): Promise<NodeAnswer> {
    const { segments } = decodeSegments(head)
    // Its word is a hint: the row decides, as in a sweep.
    await this.#look(segments)
    return answer()
  }

  async #copies({ head }: NodeRequest): Promise<NodeAnswer> {
    const { segments, wanted } = decodeSegments(head)
    if (wanted) for (const segment of segments) await this.#options.ensure(segment)
    const held: HeldCopy[] = []
    for (const segment of wanted ? [] : segments) {
      this.#spare(segment)
      const bytes = this.#removing.has(segment) ? undefined : await this.#options.files.bytes(segment)
      if (bytes === undefined) {
        this.#sparedUntilMs.delete(segment)
        continue
      }
      const sealed = (await this.#options.files.footer(segment)) !== undefined
      held.push({ segment, bytes, sealed })
    }
    return answer({ held })
  }

  #spare(segment: SegmentId): void {
    this.#sparedUntilMs.set(segment, this.#options.clock.monotonicMs() + SPARED_MS)
  }

  #isSpared(segment: SegmentId): boolean {
    const untilMs = this.#sparedUntilMs.get(segment)
    if (untilMs === undefined) return false
    if (this.#options.clock.monotonicMs() < untilMs) return true
    this.#sparedUntilMs.delete(segment)
    return false
  }

  async round(): Promise<boolean> {
    const nowMs = this.#options.clock.monotonicMs()
    if (nowMs - this.#sweptMs < SWEEP_EVERY_MS) return false
    this.#sweptMs = nowMs
    await this.sweep()
    return false
  }

  async sweep(): Promise<void> {
    const { files } = this.#options
    const { copies, partial } = await files.find()
    for (const segment of partial) {
      if (!this.#open.has(nameOf({ segment, mode: 'whole' }))) await files.remove(segment, 'whole')
    }
    this.#held = await this.#look(copies)
    for (const segment of this.#sparedUntilMs.keys()) this.#isSpared(segment)
  }

  /** Removes those that are not needed; returns what is left of them. */
  async #look(segments: readonly SegmentId[]): Promise<{ segments: number; bytes: number }> {
    const left = { segments: 0, bytes: 0 }
    for (let from = 0; from < segments.length; from += LOOKS_AT_ONCE) {
      const some = segments.slice(from, from + LOOKS_AT_ONCE)
      const looks = await Promise.allSettled(some.map((segment) => this.#lookAt(segment)))
      for (const look of looks) {
        if (look.status === 'rejected') throw look.reason
        if (look.value === undefined) continue
        left.segments++
        left.bytes += look.value
      }
    }
    return left
  }

  /** Bytes of the copy; undefined if it went. */
  async #lookAt(segment: SegmentId): Promise<number | undefined> {
    const { index, view, files, isReachedByAll, clock } = this.#options
    const record = await index.segment(segment)
    // Ours by now: it is being moved to the journal (take-over.ts).
    const isHeir = record?.node === view.self
    const isNamed = record?.copies?.includes(view.self) === true
    // Its heir has the only other one as yet.
    const isWanted = record?.copies?.length === 0
    if (record && !isReachedByAll(record) && (isHeir || isNamed || isWanted || this.#isSpared(segment))) {
      const copy = this.writing(segment)
      const isIdle = copy !== undefined && clock.monotonicMs() - copy.usedMs > IDLE_MS_MAX
      if (isIdle && record.state !== 'open') await this.#close({ segment, mode: 'live' })
      return await files.bytes(segment)
    }
    this.#removing.add(segment)
    try {
      await this.#close({ segment, mode: 'live' })
      await files.remove(segment)
    } finally {
      this.#removing.delete(segment)
    }
    return undefined
  }

  async #close(name: { segment: SegmentId; mode: CopyMode }): Promise<void> {
    const copy = this.#open.get(nameOf(name))
    if (!copy) return
    this.#open.delete(nameOf(name))
    await copy.close()
  }

  /** A sender that has gone or begun anew writes no more of it; its bytes stay. */
  async #closeGone(): Promise<void> {
    const { view } = this.#options
    for (const copy of this.#open.values()) {
      if (copy.isClosed || view.member(copy.from)?.incarnation === copy.incarnation) continue
      // Kept in the table, for what it knows of its pages.
      await copy.close()
    }
  }
}

function nameOf({ segment, mode }: CopyName): string {
  return `${segment} ${mode}`
}

function answer(head?: object): NodeAnswer {
  return { head: head ? encodeHead(head) : NOTHING }
}

/** C33: before anything is done with them. */
function check(body: Uint8Array, crc: number, { segment }: CopyName): void {
  if (crc32(body) === crc) return
  throw new TidegateError('BadDigest', `bytes for a copy of segment ${segment} were changed on the way`)
}
