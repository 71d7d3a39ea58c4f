/**
 * The engine: metadata, journal, memory and store put together, in one thread (docs/ARCHITECTURE.md, threads). Part of the
 * composition root, beside main.ts; apart from it, so that the crash simulation and the benchmarks run the very same
 * engine over other twins of its parts.
 */
import { crc32 } from 'node:zlib'
import { MemoryLevel } from './cache-tier/memory-level.ts'
import { Slab } from './cache-tier/slab.ts'
import { assert } from './common/assert.ts'
import { BackgroundRunner, type BackgroundJob, type BackgroundStatus } from './common/background.ts'
import type { Clock } from './common/clock.ts'
import type { SegmentId } from './common/ids.ts'
import type { Limits } from './common/limits.ts'
import type { AckLevel } from './common/model.ts'
import { createNamespace, type Namespace } from './meta/namespace/namespace.ts'
import type { EmbeddedStore } from './meta/stage/ports.ts'
import { BlockSource } from './persist/block-source.ts'
import { AdoptingCarrier, type SegmentCarrier } from './persist/carrier.ts'
import { DiskSpace } from './persist/disk-space.ts'
import { Flusher } from './persist/flusher.ts'
import type { Hashing } from './persist/hashing/ports.ts'
import type { DeviceMemory, JournalDevice } from './persist/journal/device.ts'
import { Journal, type AppendedBody } from './persist/journal/journal.ts'
import { sealScanned } from './persist/journal/scan.ts'
import { noNames } from './persist/names/ports.ts'
import type { FileSystem, SegmentBody } from './persist/ports.ts'
import { Reclaimer } from './persist/reclaimer.ts'
import { recover, type RecoveryReport } from './persist/recovery.ts'
import { LocalDiskStore } from './persist/remote/local-disk.ts'
import { SegmentFiles, type SegmentPlaces } from './persist/segment-files.ts'
import type { Memory as StoreMemory } from './store/byte-ports.ts'
import { createStore, type RunningStore } from './store/store.ts'

export interface EngineParts {
  readonly clock: Clock
  readonly limits: Limits
  readonly fileSystem: FileSystem
  readonly places: SegmentPlaces
  readonly slabBytes: number
  readonly defaultAck: AckLevel
  readonly diskReserveBytes: number | undefined
  /** Twins: threads in production, inline in the simulation. */
  readonly createDevice: (memory: DeviceMemory & { buffer: SharedArrayBuffer }) => JournalDevice
  readonly createHashing: (slab: SharedArrayBuffer) => Hashing
  /** `beforeCommit` is to be awaited before every metadata sync (C15). */
  readonly createOrderedStore: (beforeCommit: () => Promise<void>) => EmbeddedStore
  readonly fillRandom: (bytes: Uint8Array) => void
  readonly random: () => number
  readonly onEvent: (event: EngineEvent) => void
  /** Scribble over slots that are given back; for tests. */
  readonly poison?: boolean
  /** The simulation drives the rounds itself. */
  readonly backgroundJobs?: boolean
}

export type EngineEvent =
  | { readonly kind: 'recovered'; readonly report: RecoveryReport }
  | { readonly kind: 'segment-broken'; readonly segment: SegmentId; readonly cause: unknown }
  | {
      readonly kind: 'persist-failed'
      readonly segment: SegmentId
      readonly action: string
      readonly attempt: number
      readonly cause: unknown
    }
  | { readonly kind: 'bad-block'; readonly segment: SegmentId; readonly block: number }
  | { readonly kind: 'job-failed'; readonly job: string; readonly cause: unknown }

export interface Engine {
  readonly store: RunningStore
  readonly namespace: Namespace
  readonly orderedStore: EmbeddedStore
  readonly memory: MemoryLevel
  readonly journal: Journal
  readonly flusher: Flusher
  readonly reclaimer: Reclaimer
  readonly disk: DiskSpace
  readonly hashing: Hashing
  jobs(): readonly BackgroundStatus[]
  /** Seals and persists what is there; the doors have drained. */
  drain(): Promise<void>
  stop(): Promise<void>
}

/** Share of the slots that bodies under way may hold together; the rest stays for readers and the journal. */
const BODY_SLOTS_SHARE = 0.5
const SLOTS_MIN = 32
/** S3 owner of what is made through the mount: the id of the root user. */
const MOUNT_OWNER = 'root'
/** What S3 or KV made, and the mount's root, belong to who runs the gateway, who could do nothing in a mount of his own otherwise. */
const SHOWN_FILES = {
  fileMode: 0o644,
  directoryMode: 0o755,
  uid: process.geteuid?.() ?? 0,
  gid: process.getegid?.() ?? 0,
} as const
const COMPACT_BELOW_LIVE_SHARE = 0.5

/** Recovers what is on disk and resolves with an engine that serves. */
export async function startEngine(parts: EngineParts): Promise<Engine> {
  const built = buildEngine(parts)
  try {
    await bringUp(parts, built)
    return built.engine
  } catch (error) {
    await built.engine.stop().catch(() => undefined)
    throw error
  }
}

async function bringUp(parts: EngineParts, { engine, files, carrier, runners }: BuiltEngine): Promise<void> {
  await carrier.start()
  await engine.hashing.start()
  await engine.orderedStore.start()
  const recovered = await recover({
    fileSystem: parts.fileSystem,
    files,
    index: engine.namespace,
    pageBytes: parts.limits.pageBytes,
    carries: carrier.kind,
  })
  parts.onEvent({ kind: 'recovered', report: recovered.report })
  for (const segment of recovered.uploaded) await carrier.persisted(segment)
  for (const segment of recovered.toPersist) engine.flusher.add(segment, 'adopt')
  engine.reclaimer.emptied(recovered.empty)
  await engine.store.files.recover()
  await engine.disk.look()
  if (parts.backgroundJobs !== false) for (const runner of runners) runner.start()
}

interface BuiltEngine {
  readonly engine: Engine
  readonly files: SegmentFiles
  readonly carrier: SegmentCarrier
  readonly runners: readonly BackgroundRunner[]
}

function buildEngine(parts: EngineParts): BuiltEngine {
  const { clock, limits, fileSystem } = parts
  const bytes = buildBytes(parts)
  const { memory, files, hashing } = bytes
  const carrier = new AdoptingCarrier(new LocalDiskStore(fileSystem, files), files)
  const disk = new DiskSpace({ fileSystem, path: parts.places.journal, clock, reserveBytes: parts.diskReserveBytes })
  const orderedStore = parts.createOrderedStore(() => journal.barrier())
  const namespace: Namespace = createNamespace({
    store: orderedStore,
    clock,
    limits,
    fillRandom: parts.fillRandom,
    files: SHOWN_FILES,
  })
  const { journal, flusher } = buildJournal(parts, bytes, { namespace, carrier })
  const fetch = buildFetch(parts, bytes, journal)
  const store: RunningStore = createStore({
    metadata: namespace,
    journal,
    hashing,
    limits,
    clock,
    defaultAck: parts.defaultAck,
    persisting: {
      persisted: (segment) => flusher.persisted(segment),
      isLocal: (segment) => journal.isUnsealed(segment) || flusher.isWaiting(segment),
      accept: (length) => disk.accept(length),
      acceptNow: (length) => disk.acceptNow(length),
    },
    memory: storeMemory(bytes, fetch),
    files: {
      metadata: namespace.files,
      space: { space: () => fileSpace(parts, disk, namespace) },
      owner: MOUNT_OWNER,
      onFailure: ({ inode, doing, cause }) =>
        parts.onEvent({ kind: 'job-failed', job: `${doing} file ${inode}`, cause }),
    },
  })
  const reclaimer = buildReclaimer(parts, bytes, { namespace, journal, store, fetch, carrier })
  const runners = [
    ...backgroundJobs({ namespace, journal, reclaimer }),
    store.files.job,
    store.files.compactor.job,
  ].map(
    (job) =>
      new BackgroundRunner(job, {
        clock,
        onFailure: (name, cause) => parts.onEvent({ kind: 'job-failed', job: name, cause }),
      }),
  )
  const engine: Engine = {
    store,
    namespace,
    orderedStore,
    memory,
    journal,
    flusher,
    reclaimer,
    disk,
    hashing,
    jobs: () => runners.map((runner) => runner.status),
    async drain() {
      await store.stop()
      await journal.drain()
      await flusher.drain()
      await orderedStore.flush()
    },
    async stop() {
      await Promise.all(runners.map((runner) => runner.stop()))
      await flusher.stop()
      await orderedStore.drain()
      await orderedStore.stop()
      await bytes.sharedDevice.stop()
      await bytes.streamDevice.stop()
      await hashing.stop()
      files.close()
    },
  }
  return { engine, files, carrier, runners }
}

/** For statfs(2). */
async function fileSpace(
  { fileSystem, places }: EngineParts,
  disk: DiskSpace,
  namespace: Namespace,
): Promise<{ totalBytes: number; freeBytes: number; availableBytes: number; files: number }> {
  await disk.look()
  const { totalBytes } = await fileSystem.space(places.journal)
  const { freeBytes, availableBytes } = disk
  return { totalBytes, freeBytes, availableBytes, files: await namespace.files.fileCount() }
}

/** What holds and moves bytes and knows nothing of names. */
interface Bytes {
  readonly slab: Slab
  readonly slabView: (offset: number, length: number) => Buffer
  readonly memory: MemoryLevel
  readonly sharedDevice: JournalDevice
  readonly streamDevice: JournalDevice
  readonly hashing: Hashing
  readonly files: SegmentFiles
}

type Fetch = (segment: SegmentId, block: number, slabOffset: number) => Promise<number>

function buildBytes(parts: EngineParts): Bytes {
  const { clock, limits } = parts
  const { blockBytes, pageBytes } = limits
  const slab = new Slab({ bytes: parts.slabBytes, slotBytes: blockBytes, poison: parts.poison ?? false })
  assert(slab.slots >= SLOTS_MIN, `${slab.slots} slots of memory are at least ${SLOTS_MIN}`)
  const slabView = (offset: number, length: number): Buffer => slab.view(offset, length)
  const deviceMemory = { buffer: slab.buffer, slab: slabView, blockBytes, pageBytes }
  return {
    slab,
    slabView,
    memory: new MemoryLevel({ slab, limits, clock }),
    sharedDevice: parts.createDevice(deviceMemory),
    streamDevice: parts.createDevice(deviceMemory),
    hashing: parts.createHashing(slab.buffer),
    files: new SegmentFiles(parts.fileSystem, parts.places),
  }
}

function buildJournal(
  parts: EngineParts,
  bytes: Bytes,
  { namespace, carrier }: { namespace: Namespace; carrier: SegmentCarrier },
): { journal: Journal; flusher: Flusher } {
  const { clock, limits, fileSystem, fillRandom } = parts
  const { files, memory, sharedDevice, streamDevice, slabView } = bytes
  /** Cuts a segment whose write failed at its last good sync and seals it there. */
  const mend = async (segment: SegmentId): Promise<number> => {
    const unsealed = journal.unsealed(segment)
    await sharedDevice.submit([{ kind: 'close', segment }])
    const target = { segment, path: files.journalPath(segment), directory: parts.places.journal }
    const cut = unsealed ? { cutAt: unsealed.durableBytes } : {}
    const { dataBytes } = await sealScanned(fileSystem, target, { pageBytes: limits.pageBytes, ...cut })
    await (
      await namespace.segmentChanged(segment, 'sealed', dataBytes)
    ).durable
    journal.mended(segment)
    return dataBytes
  }
  const flusher = new Flusher({
    index: namespace,
    clock,
    random: parts.random,
    adopt: (segment) => carrier.persist(segment, new AbortController().signal),
    mend,
    waitMsMax: limits.persistWaitMsMax,
    onFailure: (failure) => parts.onEvent({ kind: 'persist-failed', ...failure }),
  })
  const journal: Journal = new Journal({
    files,
    index: namespace,
    memory,
    sharedDevice,
    streamDevice,
    limits,
    clock,
    slabView,
    fillRandom,
    onSealed: (segment) => flusher.add(segment, 'adopt'),
    onBroken: (segment, cause) => {
      parts.onEvent({ kind: 'segment-broken', segment, cause })
      flusher.add(segment, 'mend')
    },
  })
  return { journal, flusher }
}

/** Where the memory level gets what it does not hold. */
function buildFetch(parts: EngineParts, bytes: Bytes, journal: Journal): Fetch {
  const source = new BlockSource({
    fileSystem: parts.fileSystem,
    files: bytes.files,
    journal: () => journal,
    verifier: bytes.hashing,
    limits: parts.limits,
    slabView: bytes.slabView,
    onBadBlock: (segment, block) => parts.onEvent({ kind: 'bad-block', segment, block }),
  })
  return (segment, block, slabOffset) => source.read(segment, block, slabOffset)
}

/** The memory level as the store sees it. */
function storeMemory({ memory, slab, slabView }: Bytes, fetch: Fetch): StoreMemory {
  return {
    acquire: (purpose) => memory.acquire(purpose),
    release: (slabOffset) => memory.release(slabOffset),
    publish: (segment, block, slabOffset, length) => memory.publish(segment, block, slabOffset, length),
    settle: (segment, block) => memory.settle(segment, block),
    lend: (segment, block, needed) => memory.lend(segment, block, needed, fetch),
    lendNow: (segment, block, needed) => memory.lendNow(segment, block, needed),
    prefetch: (segment, block) => memory.prefetch(segment, block, fetch),
    residentBytes: (segment, offset, length) => memory.residentBytes(segment, offset, length),
    giveBack: (lease) => memory.giveBack(lease),
    view: slabView,
    pin: (pin, untilMs) => memory.pin(pin, untilMs),
    unpin: (pin) => memory.unpin(pin),
    pinnedBytesMax: memory.bytesPinnedMax,
    bodySlotsMax: Math.floor(slab.slots * BODY_SLOTS_SHARE),
  }
}

function buildReclaimer(
  parts: EngineParts,
  { files, memory, slabView }: Bytes,
  engine: { namespace: Namespace; journal: Journal; store: RunningStore; fetch: Fetch; carrier: SegmentCarrier },
): Reclaimer {
  const { namespace, journal, store, fetch, carrier } = engine
  const { blockBytes } = parts.limits
  return new Reclaimer({
    index: namespace,
    horizon: () => store.horizon(),
    hasPending: (segment) => journal.hasPending(segment),
    isUnsealed: (segment) => journal.isUnsealed(segment),
    compactBelow: COMPACT_BELOW_LIVE_SHARE,
    names: noNames,
    remove: async (record) => {
      await carrier.remove(record)
      memory.forget(record.segment)
    },
    bodies: (segment) => files.use(segment, ({ footer }) => Promise.resolve(footer.bodies)),
    copyBody: (segment, body) => copyBody({ memory, journal, fetch, slabView, blockBytes }, segment, body),
  })
}

function backgroundJobs({
  namespace,
  journal,
  reclaimer,
}: {
  namespace: Namespace
  journal: Journal
  reclaimer: Reclaimer
}): BackgroundJob[] {
  return [
    {
      name: 'seal',
      pauseMs: 1000,
      round: () => {
        journal.sealAged()
        return Promise.resolve(false)
      },
    },
    // Often enough that a prefix whose last key has expired is gone within a second (C31).
    { name: 'expire', pauseMs: 250, round: async () => (await namespace.expire()).value.expired > 0 },
    { name: 'reclaim', pauseMs: 200, round: () => reclaimer.step() },
    { name: 'compact', pauseMs: 30_000, round: () => reclaimer.compactSome() },
  ]
}

/** Appends a copy of one body to the open segment, read through the cache and so checked (C14). */
async function copyBody(
  parts: {
    memory: MemoryLevel
    journal: Journal
    fetch: Fetch
    slabView: (offset: number, length: number) => Uint8Array
    blockBytes: number
  },
  segment: SegmentId,
  body: SegmentBody,
): Promise<AppendedBody> {
  const bytes = Buffer.alloc(body.length)
  for (let done = 0; done < body.length;) {
    const at = body.offset + done
    const block = Math.floor(at / parts.blockBytes)
    const within = at - block * parts.blockBytes
    const length = Math.min(body.length - done, parts.blockBytes - within)
    const lent = await parts.memory.lend(segment, block, within + length, parts.fetch)
    bytes.set(parts.slabView(lent.slabOffset + within, length), done)
    parts.memory.giveBack(lent.lease)
    done += length
  }
  const { content, label, length } = body
  return await parts.journal.append({ content, label, pieces: [bytes], length, bodyCrc: crc32(bytes) })
}
