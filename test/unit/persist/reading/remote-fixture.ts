/** A remote store in memory, what reads from it, and a count of what was asked of it. */
import type { SegmentId } from '../../../../src/common/ids.ts'
import { Slab } from '../../../../src/cache-tier/slab.ts'
import { createInlineHashing } from '../../../../src/persist/hashing/inline-hashing.ts'
import type { Hashing } from '../../../../src/persist/hashing/ports.ts'
import type { DiskBlocks } from '../../../../src/persist/reading/ports.ts'
import { RemoteHealth } from '../../../../src/persist/reading/remote-health.ts'
import { RemoteSegments } from '../../../../src/persist/reading/remote-segments.ts'
import { FaultyStore } from '../../../../src/persist/remote/faulty-store.ts'
import { MemoryStore } from '../../../../src/persist/remote/memory-store.ts'
import { segmentObjectName, type ReadControl, type RemoteStore } from '../../../../src/persist/remote/ports.ts'
import type { ForgetfulFileSystem } from '../../../sim/forgetful-file-system.ts'
import { TINY_LIMITS } from '../../../sim/life.ts'
import { Scheduler } from '../../../sim/scheduler.ts'
import { FakeIndex, newFileSystem, segmentImage, type SegmentImage } from '../fixtures.ts'

const SLOTS = 64

/** A disk level that keeps everything. */
export class FakeDisk implements DiskBlocks {
  readonly blocks = new Map<string, { bytes: Buffer; pageCrcs: readonly number[] }>()
  failing = false
  readonly #slab: Slab

  constructor(slab: Slab) {
    this.#slab = slab
  }

  read(segment: SegmentId, block: number, slabOffset: number): Promise<number | undefined> {
    if (this.failing) return Promise.reject(new Error('EIO'))
    const found = this.blocks.get(`${segment}/${block}`)
    if (found) this.#slab.view(slabOffset, found.bytes.length).set(found.bytes)
    return Promise.resolve(found?.bytes.length)
  }

  keep(segment: SegmentId, block: number, bytes: Uint8Array, pageCrcs: Uint32Array): void {
    this.blocks.set(`${segment}/${block}`, { bytes: Buffer.from(bytes), pageCrcs: [...pageCrcs] })
  }
}

export class RemoteFixture {
  readonly scheduler: Scheduler = new Scheduler()
  readonly fileSystem: ForgetfulFileSystem = newFileSystem()
  readonly index: FakeIndex = new FakeIndex()
  readonly slab: Slab = new Slab({ bytes: SLOTS * 256, slotBytes: 256, poison: true })
  readonly verifier: Hashing = createInlineHashing({ slab: this.slab.buffer })
  readonly memory: MemoryStore
  readonly faulty: FaultyStore
  readonly health: RemoteHealth
  readonly disk: FakeDisk = new FakeDisk(this.slab)
  readonly remote: RemoteSegments
  readonly badBlocks: string[] = []
  /** `offset+length` of each request that reads. */
  readonly reads: string[] = []
  /** Changes what was read; by default nothing. */
  spoil: (offset: number, into: readonly Uint8Array[]) => void = () => undefined
  /** Reads in the store's place. */
  takeOver: ((into: readonly Uint8Array[], onFilled: ReadControl['onFilled']) => Promise<number>) | undefined

  constructor() {
    const { clock } = this.scheduler
    this.memory = new MemoryStore({ clock, fileSystem: this.fileSystem, pauseMs: () => 1 })
    this.faulty = new FaultyStore(this.memory, { clock, random: () => 0.5 })
    this.health = new RemoteHealth(clock)
    this.remote = new RemoteSegments({
      remote: this.#counted(),
      health: this.health,
      index: this.index,
      verifier: this.verifier,
      limits: TINY_LIMITS,
      slabView: (offset, length) => this.slab.view(offset, length),
      onBadBlock: (_, block) => this.badBlocks.push(String(block)),
      disk: this.disk,
    })
  }

  #counted(): Pick<RemoteStore, 'description' | 'read' | 'stat'> {
    return {
      description: 's3://bucket/prefix',
      stat: (name, control) => this.faulty.stat(name, control),
      read: async (name, offset, into, control) => {
        this.reads.push(`${offset}+${into.reduce((sum, { length }) => sum + length, 0)}`)
        if (this.takeOver) return await this.takeOver(into, control?.onFilled)
        const got = await this.faulty.read(name, offset, into, control)
        this.spoil(offset, into)
        return got
      },
    }
  }

  /** A segment of one body in the remote store, recorded as persisted. */
  async upload(segment: SegmentId, bytes: number, change = (sealed: Buffer): Buffer => sealed): Promise<SegmentImage> {
    const image = segmentImage(segment, [Buffer.from({ length: bytes } as ArrayLike<number>).map((_, at) => at % 251)])
    this.index.set(segment, { state: 'persisted', bytes: image.data.length, liveBytes: bytes })
    await this.finish(this.memory.put(segmentObjectName(segment), change(image.sealed)))
    return image
  }

  slots(count: number): number[] {
    return Array.from({ length: count }, () => this.slab.take() as number)
  }

  finish<T>(promise: Promise<T>): Promise<T> {
    return this.scheduler.until(promise, 'reading')
  }
}
