/** One life of a node: the real engine over a forgetful file system and a metadata store in memory, until the power fails. */
import { COMPRESSES_INLINE } from './without-threads.ts'
import type { Engine } from '../../src/engine.ts'
import { startEngine } from '../../src/engine.ts'
import { assert } from '../../src/common/assert.ts'
import { checkLimits, DEFAULT_LIMITS, type Limits } from '../../src/common/limits.ts'
import { MemoryBackend, MemoryDisk } from '../../src/meta/memory/memory-backend.ts'
import { createMemoryStore } from '../../src/meta/memory/memory-store.ts'
import type { EngineEvent, EngineParts, EngineRemote } from '../../src/engine-parts.ts'
import { NAMES_KEY_LOG } from '../../src/meta/namespace/names-source.ts'
import type { RowChanges } from '../../src/meta/stage/ports.ts'
import { createInlineHashing } from '../../src/persist/hashing/inline-hashing.ts'
import { createInlineDevice } from '../../src/persist/journal/device-threads.ts'
import { FaultyStore } from '../../src/persist/remote/faulty-store.ts'
import { MemoryStore, type RemoteObjects } from '../../src/persist/remote/memory-store.ts'
import type { Random } from '../model/random.ts'
import { InlinePageReader } from '../support/inline-page-reader.ts'
import { ForgetfulFileSystem } from './forgetful-file-system.ts'
import { Scheduler } from './scheduler.ts'

assert(COMPRESSES_INLINE, 'no thread decides the order of things')

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
/** Few segments: what is cached goes, and is read from the remote store again. */
const DISK_LEVEL_BYTES_MAX = 64 * 1024
const REMOTE_MS_MAX = 2

/** Syncs and barriers that a test takes out on purpose. */
export type SabotageKind = 'file-sync' | 'directory-sync' | 'barrier' | 'metadata-commit' | 'upload'

/** Where segments end up: adopted on the machine's own disk, or uploaded to a store that outlives it. */
export type RemoteKind = 'local disk' | 'upload'

/** What the machine keeps between two lives. */
export interface Machine {
  readonly fileSystem: ForgetfulFileSystem
  readonly metadata: MemoryDisk
  readonly scheduler: Scheduler
  /** What an external store holds; undefined where segments are adopted. */
  readonly remote: RemoteObjects | undefined
}

/** Nobody else wants the external store. */
const OURS: EngineRemote['guard'] = {
  holder: '0123456789abcdef'.repeat(2),
  verified: () => Promise.resolve(),
  verifiedNow: () => Promise.resolve(),
  verifiedAfresh: () => Promise.resolve(),
  sinceMs: 1,
  job: { name: 'remote-guard', pauseMs: 60_000, round: () => Promise.resolve(false) },
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

export function newMachine(random: Random, sabotage: SabotageKind | undefined, kind: RemoteKind): Machine {
  const scheduler = new Scheduler()
  const metadata = sabotage === 'metadata-commit' ? new LyingDisk(random) : new MemoryDisk()
  const fileSystem = new ForgetfulFileSystem({ scheduler, random })
  fileSystem.addDirectory('/data')
  return { fileSystem, metadata, scheduler, remote: kind === 'upload' ? new Map() : undefined }
}

/** A store that says "done" and forgets. */
class LyingStore extends MemoryStore {
  override async putFile(...[name, file, signal]: Parameters<MemoryStore['putFile']>): Promise<void> {
    const before = this.objects.get(name)
    await super.putFile(name, file, signal)
    if (before) this.objects.set(name, before)
    else this.objects.delete(name)
  }
}

export class Life {
  readonly scheduler: Scheduler
  readonly fileSystem: ForgetfulFileSystem
  readonly backend: MemoryBackend
  readonly events: EngineEvent[] = []
  /** What the engine sees of the external store, with faults; undefined where segments are adopted. */
  remote: FaultyStore | undefined
  readonly #random: Random
  readonly #remoteObjects: RemoteObjects | undefined
  #engine: Engine | undefined

  constructor(machine: Machine, random: Random) {
    const { scheduler } = machine
    this.#random = random
    this.scheduler = scheduler
    this.fileSystem = machine.fileSystem
    const sync = (): Promise<void> => scheduler.delay(random.next() * 2)
    this.backend = new MemoryBackend({ disk: machine.metadata, sync })
    this.#remoteObjects = machine.remote
  }

  /** Names of what the external store holds. */
  get remoteNames(): string[] {
    return [...(this.#remoteObjects?.keys() ?? [])]
  }

  /** This machine's client of the external store. */
  #connectRemote(sabotage: SabotageKind | undefined, backups: boolean): EngineRemote | undefined {
    const objects = this.#remoteObjects
    if (!objects) return undefined
    const { clock } = this.scheduler
    const random = (): number => this.#random.next()
    const Store = sabotage === 'upload' ? LyingStore : MemoryStore
    const pauseMs = (): number => random() * REMOTE_MS_MAX
    this.remote = new FaultyStore(new Store({ clock, fileSystem: this.fileSystem, objects, pauseMs }), {
      clock,
      random,
    })
    this.remote.faults.chanceKinds = ['unavailable', 'slow-down', 'denied', 'torn', 'lost-acknowledgement']
    return {
      store: this.remote,
      carries: 'uploading',
      guard: OURS,
      names: { intervalMs: 20, backupIntervalMs: backups ? 500 : 0, backupsKept: 2, basedOnBytesMin: 1 },
      collectIntervalMs: 1000,
      drainMsMax: 60_000,
      disk: {
        directory: '/data/cache',
        bytesMax: DISK_LEVEL_BYTES_MAX,
        freeBytesMin: 0,
        createReader: (slab) => new InlinePageReader(this.fileSystem, slab),
      },
    }
  }

  get engine(): Engine {
    if (!this.#engine) throw new Error('the engine has not started')
    return this.#engine
  }

  /** Recovers; the recovery report is among `events`. */
  async start(
    sabotage: SabotageKind | undefined,
    {
      backups = true,
      limits = TINY_LIMITS,
      attach,
    }: { backups?: boolean; limits?: Limits; attach?: EngineParts['attach'] } = {},
  ): Promise<void> {
    const { clock } = this.scheduler
    const random = this.#random
    this.fileSystem.sabotage.fileSync = sabotage === 'file-sync'
    this.fileSystem.sabotage.directorySync = sabotage === 'directory-sync'
    const starting = startEngine({
      clock,
      limits,
      attach,
      fileSystem: this.fileSystem,
      places: { journal: '/data/journal', store: '/data/store' },
      remote: this.#connectRemote(sabotage, backups),
      slabBytes: SLOTS * limits.blockBytes,
      defaultAck: 'journal',
      diskReserveBytes: 0,
      createDevice: (memory) => createInlineDevice(this.fileSystem, memory),
      createHashing: (slab) => createInlineHashing({ slab }),
      createOrderedStore: (beforeCommit) =>
        createMemoryStore({
          backend: this.backend,
          clock,
          changeLogRevisionsMax: 0,
          ...(this.#remoteObjects && { keyLog: NAMES_KEY_LOG }),
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
      remote: this.#remoteObjects,
    }
  }
}
