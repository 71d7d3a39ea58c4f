/**
 * Sees to it that segments which should have a copy have a whole one: at once where somebody waits for it (`ensure`), else in the background.
 *
 * The whole file is sent, once the segment is sealed; so what waited in a segment whose partner failed is made safe without being written again, and what refers to it need
 * not change. Until the new copy is whole and the row says so, the row goes on naming the old one, which has everything that was acknowledged on its strength.
 *
 *   wanting -> sealed here -> sent to a node -> row names it, durably -> that node says it (still) has it -> whole
 *
 * Asked again after the row, since the holder removes what no row names for a minute (holder.ts): from the row on it does not.
 *
 * What wants a copy is told by whoever saw one fail, and found by looking at this node's segments: at the start, after a node has gone, and now and then.
 */
import type { BackgroundJob } from '../../common/background.ts'
import type { Clock } from '../../common/clock.ts'
import { isTidegateError, TidegateError } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { NodeCalls } from '../../common/node-calls.ts'
import type { IndexedSegment } from '../ports.ts'
import type { SegmentFiles } from '../segment-files.ts'
import { decodeHeld, encodeHead, SEGMENTS_A_CALL_MAX } from './messages.ts'
import type { OutgoingCopies } from './outgoing.ts'
import type { Partners } from './partners.ts'
import type { CopyIndex } from './ports.ts'
import { sendFile } from './send-file.ts'

const ASK_MS_MAX = 3000
/** Between two tries of one that somebody waits for. */
const RETRY_MS = 250
const LOOK_EVERY_MS = 300_000
const PAGE_OF_SEGMENTS = 1000
/** Files that are on their way at once. */
const SENDS_MAX = 2

export interface RecopierOptions {
  readonly calls: Pick<NodeCalls, 'call'>
  readonly clock: Clock
  readonly self: number
  readonly index: CopyIndex
  readonly files: SegmentFiles
  readonly outgoing: OutgoingCopies
  readonly partners: Partners
  /** Resolves when the journal has it sealed; it is sealed now if it is open. @throws Unavailable when its seal failed: it is mended, later */
  readonly sealed: (segment: SegmentId) => Promise<void>
  /** Not sealed yet: it is still written. */
  readonly isOpen: (segment: SegmentId) => boolean
  /** It is where every node reaches it. */
  readonly isReachedByAll: (record: IndexedSegment) => boolean
  /** How long a partner may be away before its copies do not count. */
  readonly graceMs: number
  readonly waitMsMax: number
}

export class Recopier {
  readonly #options: RecopierOptions
  readonly #wanting = new Set<SegmentId>()
  readonly #ensuring = new Map<SegmentId, Promise<void>>()
  readonly #turns: (() => void)[] = []
  #sending = 0
  #lookedMs = -Infinity
  /** Nodes that a look found away: their segments are looked at again once the grace is over. */
  #lookAgainMs = Infinity
  #stopped = false
  recopied = 0

  constructor(options: RecopierOptions) {
    this.#options = options
  }

  get wanting(): number {
    return this.#wanting.size
  }

  get job(): BackgroundJob {
    return { name: 'copy-again', pauseMs: 1000, round: () => this.round() }
  }

  want(segment: SegmentId): void {
    this.#wanting.add(segment)
  }

  forget(segment: SegmentId): void {
    this.#wanting.delete(segment)
    this.#options.outgoing.notWhole(segment)
  }

  /** A node has come or gone. */
  lookSoon(): void {
    const { clock, graceMs } = this.#options
    this.#lookAgainMs = Math.min(this.#lookAgainMs, clock.monotonicMs() + graceMs)
  }

  stop(): void {
    this.#stopped = true
  }

  /** Resolves when a copy is whole, or none is needed; shared by all who wait. @throws Unavailable */
  ensure(segment: SegmentId): Promise<void> {
    const known = this.#ensuring.get(segment)
    if (known) return known
    const ensuring = this.#ensure(segment).finally(() => this.#ensuring.delete(segment))
    this.#ensuring.set(segment, ensuring)
    return ensuring
  }

  async #ensure(segment: SegmentId): Promise<void> {
    const { clock, waitMsMax } = this.#options
    const deadlineMs = clock.monotonicMs() + waitMsMax
    const tried = new Set<number>()
    for (;;) {
      try {
        return await this.#ensureOnce(segment, tried)
      } catch (error) {
        const isWorthATry = isTidegateError(error, 'Unavailable') || isTidegateError(error, 'StorageFull')
        if (!isWorthATry || this.#stopped || clock.monotonicMs() + RETRY_MS > deadlineMs) throw error
        await clock.sleep(RETRY_MS)
      }
    }
  }

  async #ensureOnce(segment: SegmentId, tried: Set<number>): Promise<void> {
    const { index, self, partners, isReachedByAll, sealed } = this.#options
    const record = await index.segment(segment)
    if (!record) throw gone(segment)
    if (isReachedByAll(record)) return
    if ((record.node ?? self) !== self) return await this.#askOwner(record)
    if (record.state === 'open') await sealed(segment)
    for (const node of record.copies ?? []) if (await this.#hasWhole(segment, node)) return
    const node = this.#nextPartner(record, tried)
    try {
      await this.#inTurn(() => sendFile(this.#options, segment, node))
    } catch (error) {
      // While it waited for its turn it may have been carried to where every node reaches it, and its file removed.
      const now = await index.segment(segment)
      if (!now) throw gone(segment)
      if (isReachedByAll(now)) return
      // What is bad here is not that node's fault, and no other will take it.
      if (isTidegateError(error, 'DataLost')) throw error
      tried.add(node)
      partners.failed(node)
      throw refusedBy(node, segment, error)
    }
    await (
      await index.copiesChanged(segment, [node])
    ).durable
    if (!(await this.#asked(segment, node)))
      throw new TidegateError('Unavailable', `node ${node} lost segment ${segment}`, { details: { node } })
    this.#wanting.delete(segment)
    this.recopied++
  }

  /** Once all were tried in vain, all are tried again. */
  #nextPartner(record: IndexedSegment, tried: Set<number>): number {
    try {
      return this.#options.partners.choose(tried)
    } catch (error) {
      if (tried.size === 0) throw error
      tried.clear()
      return this.#options.partners.choose()
    }
  }

  async #hasWhole(segment: SegmentId, node: number): Promise<boolean> {
    const { partners, outgoing } = this.#options
    if (!partners.isThere(node)) return false
    if (outgoing.wholeOn(segment) === node) return true
    // It may have it all the same; to send it elsewhere is sooner done than to wait for its answer.
    if (partners.isFailing(node)) return false
    return await this.#asked(segment, node).catch(() => false)
  }

  async #asked(segment: SegmentId, node: number): Promise<boolean> {
    const isWhole = (await this.#wholeAt(node, [segment])).has(segment)
    if (isWhole) this.#options.outgoing.nowWhole(segment, node)
    return isWhole
  }

  /** Which of these the node has whole. @throws Unavailable */
  async #wholeAt(node: number, segments: readonly SegmentId[]): Promise<ReadonlySet<SegmentId>> {
    const head = encodeHead({ segments, wanted: false })
    const reply = await this.#options.calls.call(node, { method: 'copies', head }, { timeoutMs: ASK_MS_MAX })
    return new Set(decodeHeld(reply.head).flatMap(({ segment, sealed }) => (sealed ? [segment] : [])))
  }

  /** Only its owner can have it copied. */
  async #askOwner({ segment, node = 0, copies = [] }: IndexedSegment): Promise<void> {
    const { calls, partners, waitMsMax } = this.#options
    if (!partners.isThere(node)) {
      // What it had copied is read from the copy, until somebody inherits it.
      if (copies.some((copy) => copy === this.#options.self || partners.isThere(copy))) return
      throw new TidegateError('Unavailable', `the bytes lie on node ${node} alone, which is away`, {
        details: { node },
      })
    }
    const head = encodeHead({ segments: [segment], wanted: true })
    await calls.call(node, { method: 'copies', head }, { timeoutMs: waitMsMax })
  }

  /** One bounded round: looks if that is due, then has one segment copied. */
  async round(): Promise<boolean> {
    await this.#lookIfDue()
    const { isOpen, index, isReachedByAll, self } = this.#options
    for (const segment of this.#wanting) {
      if (isOpen(segment) || this.#ensuring.has(segment)) continue
      const record = await index.segment(segment)
      // Open, and not the journal's: about to be mended, or removed.
      if (record?.state === 'open') continue
      if (!record || (record.node ?? self) !== self || isReachedByAll(record)) {
        this.#wanting.delete(segment)
        continue
      }
      // One that fails, perhaps for good, must not keep the others from their turn.
      this.#wanting.delete(segment)
      await this.#ensureOnce(segment, new Set()).catch((error: unknown) => {
        this.#wanting.add(segment)
        throw error
      })
      return this.#wanting.size > 0
    }
    return false
  }

  async #lookIfDue(): Promise<void> {
    const nowMs = this.#options.clock.monotonicMs()
    if (nowMs < this.#lookAgainMs && nowMs - this.#lookedMs < LOOK_EVERY_MS) return
    this.#lookedMs = nowMs
    this.#lookAgainMs = Infinity
    const { index, isReachedByAll } = this.#options
    let after: SegmentId | undefined
    for (;;) {
      const page = await index.segments(after, PAGE_OF_SEGMENTS)
      await this.#judge(page.filter((record) => record.copies && !isReachedByAll(record)))
      if (page.length < PAGE_OF_SEGMENTS) return
      after = page.at(-1)?.segment
    }
  }

  async #judge(records: readonly IndexedSegment[]): Promise<void> {
    const { partners, graceMs, outgoing, isOpen } = this.#options
    const toAsk = new Map<number, SegmentId[]>()
    for (const { segment, state, copies = [] } of records) {
      if (state === 'open' || isOpen(segment) || outgoing.live(segment)) continue
      const [node] = copies
      if (node === undefined) this.want(segment)
      else if (partners.isThere(node)) {
        if (outgoing.wholeOn(segment) !== node) toAsk.set(node, [...(toAsk.get(node) ?? []), segment])
      } else if (partners.awayMs(node) >= graceMs) this.want(segment)
      else this.lookSoon()
    }
    for (const [node, segments] of toAsk) {
      for (let from = 0; from < segments.length; from += SEGMENTS_A_CALL_MAX) {
        await this.#judgeBy(node, segments.slice(from, from + SEGMENTS_A_CALL_MAX))
      }
    }
  }

  async #judgeBy(node: number, segments: readonly SegmentId[]): Promise<void> {
    const whole = await this.#wholeAt(node, segments).catch(() => undefined)
    if (!whole) return this.lookSoon()
    for (const segment of segments) {
      if (whole.has(segment)) this.#options.outgoing.nowWhole(segment, node)
      else this.want(segment)
    }
  }

  /** @throws Unavailable when it takes too long until it is its turn: others' files may be large */
  async #inTurn<T>(send: () => Promise<T>): Promise<T> {
    const { clock, waitMsMax } = this.#options
    const deadlineMs = clock.monotonicMs() + waitMsMax
    while (this.#sending >= SENDS_MAX) {
      const leftMs = deadlineMs - clock.monotonicMs()
      if (leftMs <= 0) throw new TidegateError('Unavailable', `other segments were copied for ${waitMsMax} ms`)
      const over = new AbortController()
      const turn = Promise.withResolvers<void>()
      this.#turns.push(turn.resolve)
      await Promise.race([turn.promise, clock.sleep(leftMs, over.signal).catch(() => undefined)])
      over.abort(new Error('it is its turn'))
      const at = this.#turns.indexOf(turn.resolve)
      if (at >= 0) this.#turns.splice(at, 1)
    }
    this.#sending++
    try {
      return await send()
    } finally {
      this.#sending--
      this.#turns.shift()?.()
    }
  }
}

function gone(segment: SegmentId): TidegateError {
  return new TidegateError('Unavailable', `segment ${segment} is gone`)
}

/** Whatever it had against a copy: another node may take it, and it is nothing that a client has done. */
function refusedBy(node: number, segment: SegmentId, error: unknown): unknown {
  if (isTidegateError(error, 'Unavailable') || isTidegateError(error, 'StorageFull')) return error
  const why = error instanceof Error ? error.message : String(error)
  const message = `node ${node} did not take segment ${segment}: ${why}`
  return new TidegateError('Unavailable', message, { details: { node }, cause: error })
}
