/**
 * The engine: metadata, journal, memory and store put together, in one thread (docs/ARCHITECTURE.md, threads). Part of the
 * composition root, beside main.ts; apart from it, so that the crash simulation and the benchmarks run the very same
 * engine over other twins of its parts.
 */
import type { DiskLevel } from './cache-tier/disk/disk-level.ts'
import type { MemoryLevel } from './cache-tier/memory-level.ts'
import {
  backingOff,
  givingWay,
  BackgroundRunner,
  type BackgroundJob,
  type BackgroundStatus,
} from './common/background.ts'
import type { Clock } from './common/clock.ts'
import { TidegateError } from './common/errors.ts'
import { segmentCreatedMs, type SegmentId } from './common/ids.ts'
import { buildAttaching, type Attaching } from './engine-attach.ts'
import { buildHandOver, replicating, stopCopies } from './engine-copies.ts'
import { buildBytes, stopBytes, storeMemory, type Bytes } from './engine-bytes.ts'
import type { Neighbouring } from './engine-neighbours.ts'
import type { HandOver } from './hand-over.ts'
import type { EngineParts } from './engine-parts.ts'
import { buildCollector, buildNames, remoteJobs } from './engine-remote.ts'
import {
  buildPersistence,
  buildReclaimer,
  diskBlocks,
  writeBehind,
  type Persistence,
  type WriteBehind,
} from './engine-persistence.ts'
import { createNamespace, type Namespace } from './meta/namespace/namespace.ts'
import type { SharedStore } from './meta/raft/figures.ts'
import type { EmbeddedStore } from './meta/stage/ports.ts'
import type { BackPressure } from './persist/backpressure.ts'
import type { SegmentCarrier } from './persist/carrier.ts'
import type { NodeCopies } from './persist/copies/copies.ts'
import type { Collector } from './persist/collector.ts'
import type { DiskSpace } from './persist/disk-space.ts'
import { Moves } from './persist/flush/moves.ts'
import type { Flusher } from './persist/flusher.ts'
import type { Hashing } from './persist/hashing/ports.ts'
import type { Journal } from './persist/journal/journal.ts'
import type { NamesKeeper } from './persist/names/keeper.ts'
import { noNames } from './persist/names/no-names.ts'
import type { RemoteHealth } from './persist/reading/remote-health.ts'
import type { Reclaimer } from './persist/reclaimer.ts'
import { recover } from './persist/recovery.ts'
import type { SegmentFiles } from './persist/segment-files.ts'
import type { Persisting } from './store/byte-ports.ts'
import { createStore, type RunningStore } from './store/store.ts'

export type { EngineEvent, EngineParts } from './engine-parts.ts'

export interface Engine {
  readonly store: RunningStore
  readonly namespace: Namespace
  readonly orderedStore: EmbeddedStore
  readonly memory: MemoryLevel
  readonly journal: Journal
  readonly flusher: Flusher
  readonly reclaimer: Reclaimer
  readonly disk: DiskSpace
  readonly pressure: BackPressure
  readonly writeBehind: WriteBehind
  readonly diskLevel: DiskLevel | undefined
  /** Undefined without a remote store of its own. */
  readonly names: NamesKeeper | undefined
  readonly collector: Collector | undefined
  readonly readHealth: RemoteHealth | undefined
  readonly hashing: Hashing
  /** Undefined where the metadata are shared with nobody. */
  readonly neighbours: Neighbouring | undefined
  /** Segments on other nodes, and those of others here. Undefined: there are no other nodes. */
  readonly copies: NodeCopies | undefined
  /** Undefined where there are no other nodes. */
  readonly handOver: HandOver | undefined
  /** Undefined where no bucket can be attached. */
  readonly attaching: Attaching | undefined
  jobs(): readonly BackgroundStatus[]
  /** Seals and persists what is there; the doors have drained. */
  drain(): Promise<void>
  stop(): Promise<void>
}

/** At a stop the remote store is told the last names, if it answers and everything has arrived. */
const DRAIN_NAMES_MS_MAX = 5000
/** At the stop of a node that leaves: what came since it was drained. */
const HAND_OVER_MS_MAX = 30_000
/** S3 owner of what is made through the mount: the id of the root user. */
const MOUNT_OWNER = 'root'
/** What S3 or KV made, and the mount's root, belong to who runs the gateway, who could do nothing in a mount of his own otherwise. */
const SHOWN_FILES = {
  fileMode: 0o644,
  directoryMode: 0o755,
  uid: process.geteuid?.() ?? 0,
  gid: process.getegid?.() ?? 0,
} as const

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
  await engine.diskLevel?.start()
  await engine.hashing.start()
  await engine.orderedStore.start()
  await engine.namespace.join()
  const { copies } = engine
  await copies?.recover()
  const recovered = await recover({
    fileSystem: parts.fileSystem,
    files,
    index: engine.namespace,
    pageBytes: parts.limits.pageBytes,
    carries: carrier.kind,
    strangers: parts.remote ? 'kept' : 'removed',
    keepsOfOther: copies && ((segment, path) => copies.keep(segment, path)),
  })
  parts.onEvent({ kind: 'recovered', report: recovered.report })
  for (const segment of recovered.toPersist) {
    const { bytes = 0 } = (await engine.namespace.segment(segment)) ?? {}
    const ageMs = Math.max(0, parts.clock.nowMs() - segmentCreatedMs(segment))
    engine.flusher.add({ segment, bytes, ageMs })
  }
  engine.reclaimer.emptied(recovered.empty)
  await loadAttached(engine)
  // Not waited for: the disk level may have much to look through first, and until then they are read where they lie.
  void handOver(engine.flusher, recovered.uploaded)
  await engine.store.files.recover()
  await engine.disk.look()
  engine.attaching?.start()
  if (parts.backgroundJobs !== false) for (const runner of runners) runner.start()
}

/** @throws InvalidRequest where buckets are attached that this engine has no way to */
async function loadAttached({ attaching, namespace }: Engine): Promise<void> {
  if (attaching) return await attaching.load()
  const [first] = await namespace.attached.attachments()
  if (first)
    throw new TidegateError('InvalidRequest', `bucket ${JSON.stringify(first.bucket)} is attached to ${first.url}`)
}

async function handOver(flusher: Flusher, segments: readonly SegmentId[]): Promise<void> {
  for (const segment of segments) await flusher.handOver(segment)
}

interface BuiltEngine {
  readonly engine: Engine
  readonly files: SegmentFiles
  readonly carrier: SegmentCarrier
  readonly runners: readonly BackgroundRunner[]
}

function buildEngine(parts: EngineParts): BuiltEngine {
  const { clock, limits } = parts
  const bytes = buildBytes(parts)
  const { memory, files, hashing } = bytes
  const orderedStore = parts.createOrderedStore(() => journal.barrier())
  const { nodeNumber, fillRandom } = parts
  const common = { clock, limits, nodeNumber, fillRandom, files: SHOWN_FILES }
  const namespace: Namespace = createNamespace({ store: orderedStore, ...common })
  const stream = buildNames(parts, { namespace, hurry: (segments) => segments.forEach(hurry) })
  const names = stream ?? noNames
  const hurry = (segment: SegmentId): void => {
    journal.sealSoon(segment)
    flusher.hurry(segment)
  }
  const onDead = (segment: SegmentId): void => reclaimer.emptied([segment])
  const compact = (segment: SegmentId): Promise<boolean> => reclaimer.compact(segment)
  const persistence = buildPersistence(parts, bytes, { namespace, names, onDead, compact })
  const { carrier, journal, flusher, disk, pressure, neighbours, diskLevel, readHealth, copies } = persistence
  const { attach } = parts
  const disks = { slabView: bytes.slabView, disk: diskBlocks(diskLevel, bytes, parts) }
  const attaching = attach && buildAttaching({ ...parts, attach }, { namespace, ...disks, store: () => store })
  const store: RunningStore = buildStore(parts, bytes, { ...persistence, namespace, attaching })
  const moves = new Moves()
  const reclaimer: Reclaimer = buildReclaimer(parts, bytes, { ...persistence, namespace, store, moves })
  const collector = buildCollector(parts, { namespace, names: stream })
  const runners = runnersOf(parts, [
    ...backgroundJobs({ clock, namespace, journal, reclaimer, byTurns: byTurns(parts, orderedStore) }),
    ...remoteJobs(parts, { names: stream, collector }),
    ...(copies?.copies.jobs ?? []),
    store.files.job,
    { ...store.files.compactor.job, round: () => moves.run(() => store.files.compactor.round()) },
  ])
  const handOver = buildHandOver(parts, { namespace, journal, copies })
  const engine: Engine = {
    store,
    namespace,
    orderedStore,
    memory,
    journal,
    flusher,
    reclaimer,
    disk,
    pressure,
    writeBehind: writeBehind({ journal, flusher, pressure, names: stream, moves, clock }),
    diskLevel,
    names: stream,
    collector,
    readHealth,
    hashing,
    neighbours,
    copies: copies?.copies,
    handOver,
    attaching,
    jobs: () => runners.map((runner) => runner.status),
    async drain() {
      await store.stop()
      await attaching?.drain()
      // Never released: what moved now would lie in a segment that is sealed after the others have gone.
      await moves.hold()
      await journal.drain()
      await flusher.drain(parts.remote?.drainMsMax)
      if (handOver?.wanted) await handOver.run(HAND_OVER_MS_MAX)
      await orderedStore.flush()
      await stream?.drain(clock.monotonicMs() + DRAIN_NAMES_MS_MAX)
    },
    async stop() {
      pressure.stop()
      neighbours?.level.stop()
      await attaching?.stop()
      // First of all, or what waits for its turn would begin, and fail since the store below it stops.
      const carried = flusher.stop()
      // Whoever waits for the remote store waits no longer: what was not carried is here, and goes with the next start.
      await parts.remote?.store.stop()
      await Promise.all(runners.map((runner) => runner.stop()))
      // What the flusher hands over waits while the disk level looks through what it holds; draining ends that.
      await diskLevel?.drain()
      await carried
      await stream?.stop()
      await diskLevel?.stop()
      await stopCopies(copies)
      await orderedStore.drain()
      await orderedStore.stop()
      await stopBytes(bytes)
    },
  }
  return { engine, files, carrier, runners }
}

function runnersOf({ clock, onEvent }: EngineParts, jobs: readonly BackgroundJob[]): BackgroundRunner[] {
  const onFailure = (job: string, cause: unknown): void => onEvent({ kind: 'job-failed', job, cause })
  return jobs.map((job) => new BackgroundRunner(job, { clock, onFailure }))
}

function buildStore(
  parts: EngineParts,
  bytes: Bytes,
  built: Persistence & { readonly namespace: Namespace; readonly attaching: Attaching | undefined },
): RunningStore {
  const { clock, limits } = parts
  const { namespace, attaching, journal, flusher, admission, names, disk, source } = built
  const persisting: Persisting = {
    persisted: (segment) => flusher.persisted(segment),
    named: (published) => names.named(published),
    covered: (revision) => names.covered(revision),
    isLocal: (segment) => journal.isUnsealed(segment) || flusher.isWaiting(segment),
    accept: (length) => admission.accept(length),
    acceptNow: (length) => admission.acceptNow(length),
    reserve: (length) => admission.reserve(length),
    pacer: () => admission.pacer(),
  }
  return createStore({
    metadata: attaching?.metadata ?? namespace,
    journal,
    hashing: bytes.hashing,
    limits,
    clock,
    defaultAck: parts.defaultAck,
    persisting: attaching?.persisting(persisting) ?? persisting,
    replicating: replicating(built.copies?.copies),
    memory: storeMemory(bytes, attaching?.source(source) ?? source),
    files: {
      metadata: attaching?.files ?? namespace.files,
      space: { space: () => fileSpace(parts, disk, namespace) },
      owner: MOUNT_OWNER,
      onFailure: ({ inode, doing, cause }) =>
        parts.onEvent({ kind: 'job-failed', job: `${doing} file ${inode}`, cause }),
    },
  })
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

/** Each node has these jobs, over the same rows. */
function byTurns({ clock, random }: EngineParts, store: EmbeddedStore & Partial<SharedStore>): JobKind {
  if (store.isShared !== true) return (job) => job
  const disturbances = (): number => store.figures?.conflicts ?? 0
  return (job) => givingWay(job, { clock, random, disturbances })
}

type JobKind = (job: BackgroundJob) => BackgroundJob

function backgroundJobs({
  clock,
  namespace,
  journal,
  reclaimer,
  byTurns,
}: {
  clock: Clock
  namespace: Namespace
  journal: Journal
  reclaimer: Reclaimer
  byTurns: JobKind
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
    byTurns({ name: 'expire', pauseMs: 250, round: async () => (await namespace.expire()).value.expired > 0 }),
    byTurns({ name: 'reclaim', pauseMs: 200, round: () => reclaimer.step() }),
    backingOff({ name: 'reclaim-remote', pauseMs: 200, round: () => reclaimer.removePersisted() }, clock),
    { name: 'compact', pauseMs: 30_000, round: () => reclaimer.compactSome() },
  ]
}
