/** Nodes in one process, by virtual time: the cache of each over its own files, what it asks the others, and one remote store that counts what it is asked. */
import { MemoryLevel } from '../../../../src/cache-tier/memory-level.ts'
import { BlockServer } from '../../../../src/cache-tier/neighbours/block-server.ts'
import { NeighbourLevel } from '../../../../src/cache-tier/neighbours/neighbour-level.ts'
import { Slab } from '../../../../src/cache-tier/slab.ts'
import { TidegateError } from '../../../../src/common/errors.ts'
import type { SegmentId } from '../../../../src/common/ids.ts'
import type { NodeAnswer, NodeCalls, NodeHandler, NodeReply } from '../../../../src/common/node-calls.ts'
import type { NodeMember, NodeView } from '../../../../src/common/node-view.ts'
import { BlockSource } from '../../../../src/persist/block-source.ts'
import { createInlineHashing } from '../../../../src/persist/hashing/inline-hashing.ts'
import type { DiskBlocks } from '../../../../src/persist/reading/ports.ts'
import { RemoteHealth } from '../../../../src/persist/reading/remote-health.ts'
import { RemoteSegments } from '../../../../src/persist/reading/remote-segments.ts'
import { MemoryStore } from '../../../../src/persist/remote/memory-store.ts'
import { segmentObjectName } from '../../../../src/persist/remote/ports.ts'
import { SegmentFiles } from '../../../../src/persist/segment-files.ts'
import type { ForgetfulFileSystem } from '../../../sim/forgetful-file-system.ts'
import { TINY_LIMITS } from '../../../sim/life.ts'
import { Scheduler } from '../../../sim/scheduler.ts'
import { FakeIndex, newFileSystem, PLACES, segmentImage, writeFile, type SegmentImage } from '../../persist/fixtures.ts'

const { blockBytes } = TINY_LIMITS
export const FLIGHT_MS = 1

export function member(number: number, change: Partial<NodeMember> = {}): NodeMember {
  const incarnation = number.toString(16).padStart(16, '0')
  const address = `127.0.0.1:${7000 + number}`
  const common = { weight: 1, labels: {}, state: 'serving', version: '0' } as const
  return { ...common, number, name: `n${number}`, incarnation, address, ...change }
}

type Fault =
  /** Never answers. */
  | 'silent'
  /** The connection is refused. */
  | 'refuses'
  /** A bit of the body flips on the way. */
  | 'spoils'
  /** Heads that mean nothing. */
  | 'garbage'

export interface Row {
  readonly state: 'open' | 'sealed' | 'persisted'
  readonly bytes: number
  readonly node: number
  readonly copies?: readonly number[]
}

export class Nodes {
  readonly scheduler: Scheduler = new Scheduler()
  readonly remote: MemoryStore
  readonly nodes: readonly TestNode[]
  readonly faults: Map<number, Fault> = new Map()
  readonly rows: Map<SegmentId, Row> = new Map()
  readonly handlers: Map<number, NodeHandler> = new Map()
  /** `from>to` of every call. */
  readonly calls: string[] = []
  /** `node:offset+length` of each request for data. */
  readonly remoteReads: string[] = []
  /** Reads of rows. */
  looks = 0
  remoteMs = 5
  alive: NodeMember[]
  /** What a node sees instead. */
  readonly seenBy: Map<number, NodeMember[]> = new Map()
  readonly #listeners = new Set<() => void>()

  constructor(count: number, { isRemoteShared = true, slots = 64 } = {}) {
    this.remote = new MemoryStore({ clock: this.scheduler.clock, fileSystem: newFileSystem(), pauseMs: () => 1 })
    this.alive = Array.from({ length: count }, (_, index) => member(index + 1))
    this.nodes = this.alive.map(({ number }) => new TestNode(this, number, { isRemoteShared, slots }))
  }

  node(number: number): TestNode {
    return this.nodes[number - 1] as TestNode
  }

  setAlive(members: NodeMember[]): void {
    this.alive = members
    for (const listener of this.#listeners) listener()
  }

  view(self: number): NodeView {
    return {
      self,
      members: () => this.seenBy.get(self) ?? this.alive,
      member: (number) => this.alive.find((one) => one.number === number),
      onChange: (listener) => {
        this.#listeners.add(listener)
        return () => this.#listeners.delete(listener)
      },
    }
  }

  callsOf(from: number): NodeCalls {
    return {
      serve: (_, handler) => this.handlers.set(from, handler),
      call: async (to, { head }, { timeoutMs, into, signal }) => {
        this.calls.push(`${from}>${to}`)
        const late = new AbortController()
        const answering = this.#answer({ from, to, head, signal: late.signal })
        const settled = new AbortController()
        const over = signal ? AbortSignal.any([signal, settled.signal]) : settled.signal
        const timeout = this.scheduler.clock.sleep(timeoutMs, over).then(() => {
          late.abort()
          throw new TidegateError('Unavailable', `node ${to} did not answer`, { details: { node: to } })
        })
        timeout.catch(() => undefined)
        answering.catch(() => undefined)
        const { body, ...reply } = await Promise.race([answering, timeout]).finally(() => settled.abort())
        if (body.length > (into?.length ?? 0)) throw new TidegateError('Unavailable', 'the body is too long')
        into?.set(body)
        return { ...reply, body: into?.subarray(0, body.length) ?? body }
      },
    }
  }

  async #answer(call: { from: number; to: number; head: Uint8Array; signal: AbortSignal }): Promise<NodeReply> {
    const { from, to, head, signal } = call
    const fault = this.faults.get(to)
    if (fault === 'refuses') throw new TidegateError('Unavailable', `node ${to} refuses`, { details: { node: to } })
    await this.scheduler.delay(FLIGHT_MS)
    if (fault === 'silent') await new Promise(() => undefined)
    const handler = this.handlers.get(to) as NodeHandler
    const answer: NodeAnswer = await handler({ from, head: Buffer.from(head), body: Buffer.alloc(0), signal })
    await this.scheduler.delay(FLIGHT_MS)
    const body = Buffer.concat(answer.pieces ?? [])
    answer.sent?.()
    if (fault === 'spoils' && body.length > 0) body.writeUInt8(body.readUInt8(0) ^ 1)
    return { head: fault === 'garbage' ? Buffer.from('what?') : answer.head, body }
  }

  /** A segment in the remote store. */
  async upload(segment: SegmentId, bytes: number): Promise<SegmentImage> {
    const image = imageOf(segment, bytes)
    this.rows.set(segment, { state: 'persisted', bytes: image.data.length, node: 99 })
    await this.finish(this.remote.put(segmentObjectName(segment), image.sealed))
    return image
  }

  finish<T>(promise: Promise<T>): Promise<T> {
    return this.scheduler.until(promise, 'reading')
  }
}

export function imageOf(segment: SegmentId, bytes: number): SegmentImage {
  return segmentImage(segment, [Buffer.from({ length: bytes } as ArrayLike<number>).map((_, at) => at % 251)])
}

export function blockOf({ data }: SegmentImage, block: number): Buffer {
  return data.subarray(block * blockBytes, (block + 1) * blockBytes)
}

export class TestNode {
  readonly slab: Slab
  readonly memory: MemoryLevel
  readonly fileSystem: ForgetfulFileSystem = newFileSystem()
  readonly files: SegmentFiles = new SegmentFiles(this.fileSystem, PLACES)
  readonly source: BlockSource
  readonly level: NeighbourLevel
  readonly server: BlockServer
  readonly kept: string[] = []
  /** Copies of other nodes' segments, by `segment/block`. */
  readonly copies: Map<string, Buffer> = new Map()
  readonly #nodes: Nodes

  constructor(nodes: Nodes, number: number, { isRemoteShared, slots }: { isRemoteShared: boolean; slots: number }) {
    this.#nodes = nodes
    const { clock } = nodes.scheduler
    const slab = new Slab({ bytes: slots * blockBytes, slotBytes: blockBytes, poison: true })
    this.slab = slab
    this.memory = new MemoryLevel({ slab, limits: TINY_LIMITS, clock })
    const hashing = createInlineHashing({ slab: slab.buffer })
    const slabView = (offset: number, length: number): Buffer => slab.view(offset, length)
    const index = Object.assign(new FakeIndex(), {
      segment: (segment: SegmentId) => {
        nodes.looks++
        const row = nodes.rows.get(segment)
        return Promise.resolve(row && { segment, liveBytes: 0, ...row })
      },
    })
    const disk: DiskBlocks = {
      read: () => Promise.resolve(undefined),
      keep: (segment, block) => this.kept.push(`${segment}/${block}`),
    }
    const common = { limits: TINY_LIMITS, slabView, clock, hashing }
    const reading = { verifier: hashing, limits: TINY_LIMITS, slabView, onBadBlock: () => undefined }
    const calls = nodes.callsOf(number)
    const view = nodes.view(number)
    this.level = new NeighbourLevel({ ...common, calls, view, segment: index.segment, isRemoteShared })
    const remote = new RemoteSegments({
      remote: {
        description: 's3://bucket',
        stat: (name) => nodes.remote.stat(name),
        read: async (name, offset, into, control) => {
          nodes.remoteReads.push(`${number}:${offset}+${into.reduce((sum, { length }) => sum + length, 0)}`)
          await nodes.scheduler.delay(nodes.remoteMs)
          return await nodes.remote.read(name, offset, into, control)
        },
      },
      health: new RemoteHealth(clock),
      index,
      disk,
      ...reading,
    })
    this.source = new BlockSource({
      fileSystem: this.fileSystem,
      files: this.files,
      journal: () => ({ unsealed: () => undefined }),
      ...reading,
      neighbours: this.level,
      copies: {
        read: (segment, block, slabOffset) => {
          const copy = this.copies.get(`${segment}/${block}`)
          if (copy) slab.view(slabOffset, copy.length).set(copy)
          return Promise.resolve(copy?.length)
        },
      },
      behind: isRemoteShared ? { index, remote, disk } : undefined,
    })
    const read: BlockSource['readHere'] = (place, mayFetch) => this.source.readHere(place, mayFetch)
    this.server = new BlockServer({ ...common, memory: this.memory, level: this.level, read })
    calls.serve('block', this.server.handler)
  }

  async hold(segment: SegmentId, sealed: Uint8Array): Promise<void> {
    await writeFile(this.fileSystem, this.files.journalPath(segment), sealed)
  }

  /** The bytes of a block as a reader on this node gets them. */
  async read(segment: SegmentId, block: number, needed = 1): Promise<Buffer> {
    const lent = await this.memory.lend(segment, block, needed, (...where) => this.source.read(...where))
    const bytes = Buffer.from(this.slab.view(lent.slabOffset, lent.length))
    this.memory.giveBack(lent.lease)
    return bytes
  }

  /** `read`, to the end of it. */
  get(segment: SegmentId, block: number, needed = 1): Promise<Buffer> {
    return this.#nodes.finish(this.read(segment, block, needed))
  }
}
