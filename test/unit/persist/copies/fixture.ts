/** Nodes in one process: each with a disk of its own, one metadata, and calls that can be cut. */
import { crc32 } from 'node:zlib'
import { MemoryLevel } from '../../../../src/cache-tier/memory-level.ts'
import { Slab } from '../../../../src/cache-tier/slab.ts'
import { must } from '../../../../src/common/assert.ts'
import { systemClock } from '../../../../src/common/clock.ts'
import { TidegateError } from '../../../../src/common/errors.ts'
import type { SegmentId } from '../../../../src/common/ids.ts'
import type {
  NodeCall,
  NodeCallOptions,
  NodeCalls,
  NodeHandler,
  NodeMethod,
  NodeReply,
} from '../../../../src/common/node-calls.ts'
import type { NodeMember, NodeView } from '../../../../src/common/node-view.ts'
import { NodeCopies } from '../../../../src/persist/copies/copies.ts'
import type { AdoptedCopy } from '../../../../src/persist/copies/take-over.ts'
import { createInlineHashing } from '../../../../src/persist/hashing/inline-hashing.ts'
import { createInlineDevice } from '../../../../src/persist/journal/device-threads.ts'
import { Journal, type AppendedBody } from '../../../../src/persist/journal/journal.ts'
import type { IndexCommit, IndexedSegment } from '../../../../src/persist/ports.ts'
import { SegmentFiles } from '../../../../src/persist/segment-files.ts'
import type { ForgetfulFileSystem } from '../../../sim/forgetful-file-system.ts'
import { Random } from '../../../model/random.ts'
import { TINY_LIMITS } from '../../../sim/life.ts'
import { FakeIndex, newFileSystem, PLACES } from '../fixtures.ts'

export const COPIES = '/data/copies'
export const GRACE_MS = 60

/** What a node is about to do to another. */
export interface SeenCall {
  readonly from: number
  readonly to: number
  readonly method: NodeMethod
  readonly head: Record<string, unknown>
}

/** Calls within the process. `intercept` may fail one, hold it back, or change its bytes. */
export class Wires {
  readonly #handlers = new Map<string, NodeHandler>()
  readonly #dead = new Set<number>()
  readonly seen: SeenCall[] = []
  intercept: (call: SeenCall, pieces: Uint8Array[]) => Promise<void> = () => Promise.resolve()

  kill(node: number): void {
    this.#dead.add(node)
  }

  revive(node: number): void {
    this.#dead.delete(node)
  }

  of(from: number): NodeCalls {
    return {
      call: (to, call, options) => this.#call({ from, to }, call, options),
      serve: (method, handler) => void this.#handlers.set(`${from} ${method}`, handler),
    }
  }

  async #call(
    { from, to }: { from: number; to: number },
    { method, head, pieces = [] }: NodeCall,
    { signal = new AbortController().signal }: NodeCallOptions,
  ): Promise<NodeReply> {
    const unavailable = (): TidegateError => new TidegateError('Unavailable', `node ${to} does not answer`)
    if (this.#dead.has(to) || this.#dead.has(from)) throw unavailable()
    const seen = { from, to, method, head: JSON.parse(Buffer.from(head).toString()) as Record<string, unknown> }
    this.seen.push(seen)
    // Copied when it is sent, as by a socket.
    const sent = pieces.map((piece) => Uint8Array.from(piece))
    const gone = new Promise<never>((_, reject) => {
      if (signal.aborted) reject(unavailable())
      signal.addEventListener('abort', () => reject(unavailable()), { once: true })
    })
    gone.catch(() => undefined)
    await Promise.race([this.intercept(seen, sent), gone])
    if (this.#dead.has(to)) throw unavailable()
    const handler = must(this.#handlers.get(`${to} ${method}`), `handler of ${method}`)
    const answered = handler({ from, head, body: Buffer.concat(sent), signal })
    answered.catch(() => undefined)
    const answer = await Promise.race([answered, gone])
    if (this.#dead.has(to)) throw unavailable()
    answer.sent?.()
    return { head: answer.head, body: Buffer.concat(answer.pieces ?? []) }
  }
}

export function member(number: number, over: Partial<NodeMember> = {}): NodeMember {
  return {
    number,
    name: `node-${number}`,
    incarnation: `${number}`.padStart(16, '0'),
    address: `127.0.0.1:${number}`,
    weight: 1,
    labels: {},
    state: 'serving',
    version: 'test',
    ...over,
  }
}

export class Members {
  readonly #members = new Map<number, NodeMember>()
  readonly #listeners = new Set<() => void>()

  set(number: number, over: Partial<NodeMember> = {}): void {
    this.#members.set(number, member(number, over))
    this.#tell()
  }

  leave(number: number): void {
    this.#members.delete(number)
    this.#tell()
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }

  view(self: number): NodeView {
    return {
      self,
      members: () => [...this.#members.values()].sort((one, two) => one.number - two.number),
      member: (number) => this.#members.get(number),
      onChange: (listener) => {
        this.#listeners.add(listener)
        return () => this.#listeners.delete(listener)
      },
    }
  }
}

type Row = Omit<IndexedSegment, 'segment' | 'copies'> & { copies?: readonly number[] }

/** One table of segments, as one node sees it. */
export class NodeIndex extends FakeIndex {
  readonly #self: number
  readonly table: Map<SegmentId, Row>

  constructor(self: number, table: Map<SegmentId, Row>) {
    super()
    this.#self = self
    this.table = table
  }

  #done<T>(value: T): Promise<IndexCommit<T>> {
    return Promise.resolve({ value, revision: ++this.visible, durable: this.durable() })
  }

  override segmentOpened(segment: SegmentId, copies?: readonly number[]): Promise<IndexCommit<void>> {
    const row = { state: 'open', bytes: 0, liveBytes: 1, node: this.#self } as const
    this.table.set(segment, { ...row, ...(copies && { copies }) })
    return this.#done(undefined)
  }

  #own(segment: SegmentId): Row {
    const row = this.table.get(segment)
    if (row?.node === this.#self) return row
    throw new TidegateError('ConditionalRequestConflict', `segment ${segment} is not node ${this.#self}'s`)
  }

  override async segmentChanged(
    segment: SegmentId,
    state: 'sealed' | 'persisted',
    bytes: number,
  ): Promise<IndexCommit<void>> {
    this.table.set(segment, { ...this.#own(segment), state, bytes })
    return await this.#done(undefined)
  }

  async copiesChanged(segment: SegmentId, copies: readonly number[]): Promise<IndexCommit<void>> {
    this.table.set(segment, { ...this.#own(segment), copies })
    return await this.#done(undefined)
  }

  /** As the lost-node job does it. */
  inherit(segment: SegmentId): void {
    this.table.set(segment, { ...must(this.table.get(segment), 'row'), node: this.#self, copies: [] })
  }

  override segmentRemoved(segment: SegmentId): Promise<IndexCommit<void>> {
    this.table.delete(segment)
    return this.#done(undefined)
  }

  override segment(segment: SegmentId): Promise<IndexedSegment | undefined> {
    const row = this.table.get(segment)
    return Promise.resolve(row && { segment, ...row })
  }

  override segments(after: SegmentId | undefined, limit: number): Promise<IndexedSegment[]> {
    const own = [...this.table].filter(([id, { node }]) => node === this.#self && (after === undefined || id > after))
    const sorted = own.sort(([one], [two]) => (one < two ? -1 : 1)).slice(0, limit)
    return Promise.resolve(sorted.map(([segment, row]) => ({ segment, ...row })))
  }
}

export interface TestNode {
  readonly number: number
  readonly fileSystem: ForgetfulFileSystem
  readonly index: NodeIndex
  readonly journal: Journal
  readonly copies: NodeCopies
  readonly files: SegmentFiles
  readonly memory: MemoryLevel
  readonly slab: Slab
  readonly sealed: SegmentId[]
  readonly broken: SegmentId[]
  readonly adopted: AdoptedCopy[]
  append(bytes: Uint8Array, options?: { copied: boolean }): Promise<AppendedBody>
  stop(): Promise<void>
}

export class TestCluster {
  readonly wires = new Wires()
  readonly members = new Members()
  readonly table = new Map<SegmentId, Row>()
  reachedByAll = false
  readonly #nodes: TestNode[] = []
  #contents = 0
  #ids = 0

  /** `fileSystem`: what a node finds on its disk when it starts again. */
  async start(number: number, fileSystem: ForgetfulFileSystem = newFileSystem()): Promise<TestNode> {
    const index = new NodeIndex(number, this.table)
    const slab = new Slab({ bytes: 128 * 256, slotBytes: 256, poison: true })
    const limits = TINY_LIMITS
    const memory = new MemoryLevel({ slab, limits, clock: systemClock })
    const files = new SegmentFiles(fileSystem, PLACES)
    const slabView = (offset: number, length: number): Buffer => slab.view(offset, length)
    const device = { slab: slabView, blockBytes: 256, pageBytes: 64 }
    const [sealed, broken, adopted]: [SegmentId[], SegmentId[], AdoptedCopy[]] = [[], [], []]
    const copies: NodeCopies = new NodeCopies({
      calls: this.wires.of(number),
      view: this.members.view(number),
      clock: systemClock,
      random: () => 0.5,
      fileSystem,
      directory: COPIES,
      files,
      index,
      device: createInlineDevice(fileSystem, device),
      verifier: createInlineHashing({ slab: slab.buffer }),
      slabView,
      pageBytes: 64,
      blockBytes: 256,
      graceMs: GRACE_MS,
      waitMsMax: 1000,
      accept: () => Promise.resolve(),
      isReachedByAll: ({ state }) => this.reachedByAll && state === 'persisted',
      journal: () => ({
        sealed: (segment) => journal.sealed(segment),
        isOpen: (segment) => journal.isUnsealed(segment),
      }),
      onAdopted: (one) => adopted.push(one),
    })
    const journal: Journal = new Journal({
      files,
      index,
      memory,
      sharedDevice: createInlineDevice(fileSystem, device),
      streamDevice: createInlineDevice(fileSystem, device),
      limits,
      clock: systemClock,
      fillRandom: (bytes) => bytes.fill(++this.#ids),
      onSealed: ({ segment }) => sealed.push(segment),
      onBroken: (segment) => broken.push(segment),
      slabView,
      copies: copies.starting,
    })
    await copies.recover()
    this.wires.revive(number)
    this.members.set(number)
    const append: TestNode['append'] = (bytes, options = { copied: true }) => {
      const body = { content: ++this.#contents, label: '{}', pieces: [bytes], length: bytes.length }
      return journal.append({ ...body, bodyCrc: crc32(bytes) }, options)
    }
    const parts = { number, fileSystem, index, journal, copies, files, memory, slab, sealed, broken, adopted, append }
    const node: TestNode = { ...parts, stop: () => copies.stop() }
    this.#nodes.push(node)
    return node
  }

  /** The process is gone, and its member row with it. */
  lose(number: number): void {
    this.wires.kill(number)
    this.members.leave(number)
  }

  /** The power fails: what the machine finds when it starts again. */
  cutPower(node: TestNode, seed: number): ForgetfulFileSystem {
    this.lose(node.number)
    this.#nodes.splice(this.#nodes.indexOf(node), 1)
    return node.fileSystem.crash(new Random(seed))
  }

  async stop(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.stop()))
  }
}

export function copyPath(segment: SegmentId): string {
  return `${COPIES}/${segment}.seg`
}

/** As `ack=replicated` waits for it. */
export async function replicated(node: TestNode, body: AppendedBody): Promise<void> {
  const { segment, segmentOffset, length } = body.run
  await Promise.all([body.sync(), node.copies.copied(segment, segmentOffset + length)])
}
