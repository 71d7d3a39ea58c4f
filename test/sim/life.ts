/** One life of a node: the real engine over a forgetful file system and a metadata store in memory, until the power fails. */
import type { Engine, EngineEvent } from '../../src/engine.ts'
import { startEngine } from '../../src/engine.ts'
import { checkLimits, DEFAULT_LIMITS, type Limits } from '../../src/common/limits.ts'
import { MemoryBackend, MemoryDisk } from '../../src/meta/memory/memory-backend.ts'
import { createMemoryStore } from '../../src/meta/memory/memory-store.ts'
import type { RowChanges } from '../../src/meta/stage/ports.ts'
import { createInlineHashing } from '../../src/persist/hashing/inline-hashing.ts'
import { createInlineDevice } from '../../src/persist/journal/device-threads.ts'
import type { Random } from '../model/random.ts'
import { ForgetfulFileSystem } from './forgetful-file-system.ts'
import { Scheduler } from './scheduler.ts'

/** So small that every boundary is met thousands of times. */
export const TINY_LIMITS: Limits = checkLimits({
  ...DEFAULT_LIMITS,
  pageBytes: 64,
  blockBytes: 256,
  inlineBytesMax: 32,
  hashInlineBytesMax: 128,
  sharedBodyBytesMax: 1024,
  segmentBytesMax: 4096,
  segmentAgeMsMax: 20,
  streamBlocksInFlightMax: 2,
  admissionWaitMsMax: 500,
  partBytesMin: 1,
})

const SLOTS = 48

/** Syncs and barriers that a test takes out on purpose. */
export type SabotageKind = 'file-sync' | 'directory-sync' | 'barrier' | 'metadata-commit'

/** What the machine keeps between two lives. */
export interface Machine {
  readonly fileSystem: ForgetfulFileSystem
  readonly metadata: MemoryDisk
  readonly scheduler: Scheduler
}

/** A disk for metadata that says "done" before it has written. */
export class LyingDisk extends MemoryDisk {
  readonly written: MemoryDisk = new MemoryDisk()
  #kept: (readonly RowChanges[])[] = []
  readonly #random: Random

  constructor(random: Random) {
    super()
    this.#random = random
  }

  override write(parts: readonly RowChanges[]): void {
    super.write(parts)
    this.#kept.push(parts)
    if (this.#random.chance(0.5)) for (const kept of this.#kept.splice(0)) this.written.write(kept)
  }

  /** What is left of it after a power cut. */
  forget(): LyingDisk {
    const found = new LyingDisk(this.#random)
    const rows = new Map(this.written.rows.rows)
    MemoryDisk.prototype.write.call(found, [rows])
    found.written.write([rows])
    return found
  }
}

export function newMachine(random: Random, sabotage: SabotageKind | undefined): Machine {
  const scheduler = new Scheduler()
  const metadata = sabotage === 'metadata-commit' ? new LyingDisk(random) : new MemoryDisk()
  const fileSystem = new ForgetfulFileSystem({ scheduler, random })
  fileSystem.addDirectory('/data')
  return { fileSystem, metadata, scheduler }
}

export class Life {
  readonly scheduler: Scheduler
  readonly fileSystem: ForgetfulFileSystem
  readonly backend: MemoryBackend
  readonly events: EngineEvent[] = []
  readonly #random: Random
  #engine: Engine | undefined

  constructor(machine: Machine, random: Random) {
    const { scheduler } = machine
    this.#random = random
    this.scheduler = scheduler
    this.fileSystem = machine.fileSystem
    const sync = (): Promise<void> => scheduler.delay(random.next() * 2)
    this.backend = new MemoryBackend({ disk: machine.metadata, sync })
  }

  get engine(): Engine {
    if (!this.#engine) throw new Error('the engine has not started')
    return this.#engine
  }

  /** Recovers; the recovery report is among `events`. */
  async start(sabotage: SabotageKind | undefined): Promise<void> {
    const { clock } = this.scheduler
    const random = this.#random
    this.fileSystem.sabotage.fileSync = sabotage === 'file-sync'
    this.fileSystem.sabotage.directorySync = sabotage === 'directory-sync'
    const starting = startEngine({
      clock,
      limits: TINY_LIMITS,
      fileSystem: this.fileSystem,
      places: { journal: '/data/journal', store: '/data/store' },
      slabBytes: SLOTS * TINY_LIMITS.blockBytes,
      defaultAck: 'journal',
      diskReserveBytes: 0,
      createDevice: (memory) => createInlineDevice(this.fileSystem, memory),
      createHashing: (slab) => createInlineHashing({ slab }),
      createOrderedStore: (beforeCommit) =>
        createMemoryStore({
          backend: this.backend,
          clock,
          changeLogRevisionsMax: 0,
          ...(sabotage === 'barrier' ? {} : { beforeCommit }),
        }),
      fillRandom: (bytes) => {
        for (let at = 0; at < bytes.length; at++) bytes[at] = random.below(256)
      },
      random: () => random.next(),
      onEvent: (event) => this.events.push(event),
      poison: true,
      backgroundJobs: false,
    })
    this.#engine = await this.scheduler.until(starting, 'the start of the engine')
  }

  /** The power fails; nothing of this life goes on. */
  cut(): Machine {
    const random = this.#random
    const disk = this.backend.crash(() => random.chance(0.5))
    const scheduler = new Scheduler(this.scheduler.nowMs + 1)
    return {
      fileSystem: this.fileSystem.crash(random, { scheduler, random }),
      metadata: disk instanceof LyingDisk ? disk.forget() : disk,
      scheduler,
    }
  }
}
