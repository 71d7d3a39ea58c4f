/**
 * The part of the engine that keeps bytes and carries them (engine.ts): journal, flusher, back-pressure, what lies behind the cache, names, and
 * the reclaimer. Where segments go depends on the remote store:
 *
 *   none, or a directory    adopted by rename, read from their files
 *   over a network          uploaded; files of persisted segments go to the disk level, and are read back from the remote store
 */
import { createDiskLevel, type DiskLevel } from './cache-tier/disk/disk-level.ts'
import type { FetchBlock, FetchRun } from './cache-tier/memory-level.ts'
import { must } from './common/assert.ts'
import type { Clock } from './common/clock.ts'
import type { Revision, SegmentId } from './common/ids.ts'
import { buildCopies, copiedAgain, isReachedByAll, type BuiltCopies } from './engine-copies.ts'
import type { Bytes } from './engine-bytes.ts'
import { copyBody } from './engine-bytes.ts'
import { buildNeighbours, type Neighbouring } from './engine-neighbours.ts'
import type { EngineParts, EngineRemote } from './engine-parts.ts'
import type { Namespace } from './meta/namespace/namespace.ts'
import { Admission, BackPressure, type PressureStatus } from './persist/backpressure.ts'
import { BlockSource } from './persist/block-source.ts'
import { AdoptingCarrier, UploadingCarrier, type SegmentCarrier } from './persist/carrier.ts'
import { DiskSpace } from './persist/disk-space.ts'
import type { Moves } from './persist/flush/moves.ts'
import type { DrainResult, FlushStatus } from './persist/flush/status.ts'
import { Flusher } from './persist/flusher.ts'
import { Journal } from './persist/journal/journal.ts'
import { sealScanned } from './persist/journal/scan.ts'
import type { NamesKeeper } from './persist/names/keeper.ts'
import type { Names } from './persist/names/ports.ts'
import type { NamesStatus } from './persist/names/status.ts'
import type { DiskBlocks } from './persist/reading/ports.ts'
import { RemoteHealth } from './persist/reading/remote-health.ts'
import { RemoteSegments } from './persist/reading/remote-segments.ts'
import { Reclaimer } from './persist/reclaimer.ts'
import { LocalDiskStore } from './persist/remote/local-disk.ts'
import { readFooter } from './persist/segment-files.ts'
import type { RunningStore } from './store/store.ts'

const COMPACT_BELOW_LIVE_SHARE = 0.5

const DRAINS_KEPT = 100

export interface Persistence {
  readonly carrier: SegmentCarrier
  readonly journal: Journal
  readonly flusher: Flusher
  readonly disk: DiskSpace
  readonly pressure: BackPressure
  readonly admission: Admission
  readonly source: BlockSource
  readonly neighbours: Neighbouring | undefined
  readonly diskLevel: DiskLevel | undefined
  readonly readHealth: RemoteHealth | undefined
  readonly names: Names
  /** Undefined: there are no other nodes. */
  readonly copies: BuiltCopies | undefined
}

/** Write-behind as people see it and steer it. */
export interface WriteBehind {
  status(): FlushStatus & { readonly pressure: PressureStatus; readonly names: NamesStatus | undefined }
  pause(): void
  resume(): void
  drain(options: {
    readonly waitMsMax: number
    readonly through: number | undefined
  }): Promise<DrainResult & { readonly namesLeft: boolean }>
}

export function buildPersistence(
  parts: EngineParts,
  bytes: Bytes,
  { namespace, names, onDead, compact }: Omit<JournalNeeds, 'carrier' | 'copies'>,
): Persistence {
  const { fileSystem, clock, places } = parts
  const disk = new DiskSpace({ fileSystem, path: places.journal, clock, reserveBytes: parts.diskReserveBytes })
  const { carrier, remote, diskLevel, readHealth } = buildBehind(parts, bytes, namespace)
  const copies: BuiltCopies | undefined = buildCopies(parts, bytes, {
    namespace,
    disk,
    journal: () => journal,
    flusher: () => flusher,
    onDead,
    onHere: (segment) => source.forget(segment),
  })
  const { journal, flusher } = buildJournal(parts, bytes, { namespace, carrier, names, onDead, compact, copies })
  const pressure = buildPressure(parts, { journal, flusher, disk })
  const neighbours = buildNeighbours(parts, bytes, { namespace, source: () => source })
  const source: BlockSource = new BlockSource({
    fileSystem,
    files: bytes.files,
    journal: () => journal,
    verifier: bytes.hashing,
    limits: parts.limits,
    slabView: bytes.slabView,
    onBadBlock: (segment, block) => parts.onEvent({ kind: 'bad-block', segment, block }),
    neighbours: neighbours?.level,
    copies: copies?.copies,
    behind: remote && { index: namespace, remote, disk: diskBlocks(diskLevel, bytes, parts) },
  })
  const admission = new Admission(disk, pressure)
  const behind = { source, neighbours, diskLevel, readHealth }
  return { carrier, journal, flusher, disk, pressure, admission, ...behind, names, copies }
}

interface Behind {
  readonly carrier: SegmentCarrier
  /** Where persisted segments are read from that no file of ours holds. */
  readonly remote: RemoteSegments | undefined
  readonly diskLevel: DiskLevel | undefined
  readonly readHealth: RemoteHealth | undefined
}

function buildBehind(parts: EngineParts, bytes: Bytes, namespace: Namespace): Behind {
  const { fileSystem, remote, clock, limits } = parts
  const { files, slabView, hashing } = bytes
  if (remote?.carries !== 'uploading') {
    const carrier = new AdoptingCarrier(new LocalDiskStore(fileSystem, files), files, remote?.guard)
    return { carrier, remote: undefined, diskLevel: undefined, readHealth: undefined }
  }
  const { store, guard } = remote
  const diskLevel = buildDiskLevel(parts, bytes, remote)
  const carrier = new UploadingCarrier({
    remote: store,
    fileSystem,
    files,
    index: namespace,
    diskLevel,
    guard,
  })
  const readHealth = new RemoteHealth(clock)
  const segments = new RemoteSegments({
    remote: store,
    health: readHealth,
    index: namespace,
    verifier: hashing,
    limits,
    slabView,
    onBadBlock: (segment, block) => parts.onEvent({ kind: 'bad-block', segment, block }),
    disk: diskBlocks(diskLevel, bytes, parts),
  })
  return { carrier, remote: segments, diskLevel, readHealth }
}

function buildDiskLevel(parts: EngineParts, { slab }: Bytes, remote: EngineRemote): DiskLevel | undefined {
  if (!remote.disk) return undefined
  const { fileSystem, limits, clock } = parts
  const { directory, bytesMax, freeBytesMin, createReader } = remote.disk
  return createDiskLevel({
    fileSystem,
    directory,
    bytesMax,
    freeBytesMin,
    limits,
    clock,
    reader: createReader(slab.buffer),
    readFooter: async (path, segment) => {
      const file = await fileSystem.open(path, 'read')
      try {
        return await readFooter(file, segment)
      } finally {
        await file.close()
      }
    },
    onFailure: (doing, cause) => parts.onEvent({ kind: 'job-failed', job: `disk level: ${doing}`, cause }),
  })
}

/** The disk level as persistence sees it. */
export function diskBlocks(
  level: DiskLevel | undefined,
  { slabView }: Bytes,
  { limits }: EngineParts,
): DiskBlocks | undefined {
  return (
    level && {
      read: (segment, block, slabOffset) => level.read(segment, block, slabView(slabOffset, limits.blockBytes)),
      keep: (segment, block, blockBytes, pageCrcs) => level.keep(segment, block, blockBytes, pageCrcs),
    }
  )
}

interface JournalNeeds {
  readonly namespace: Namespace
  readonly carrier: SegmentCarrier
  readonly names: Names
  readonly onDead: (segment: SegmentId) => void
  readonly compact: (segment: SegmentId) => Promise<boolean>
  readonly copies: BuiltCopies | undefined
}

function buildJournal(
  parts: EngineParts,
  bytes: Bytes,
  { namespace, carrier, names, onDead, compact, copies }: JournalNeeds,
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
    persist: (segment, signal) => carrier.persist(segment, signal),
    onPersisted: (segment) => {
      if (isReachedByAll({ state: 'persisted' }, parts.remote)) copies?.copies.notNeeded(segment)
      return carrier.persisted(segment)
    },
    mend,
    onDead,
    holds: (segment) => names.holds(segment),
    compact: { below: COMPACT_BELOW_LIVE_SHARE, run: compact },
    concurrency: limits.flushConcurrency,
    ageMsMax: limits.flushAgeMsMax,
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
    onSealed: (sealed) => flusher.add(sealed),
    onBroken: (segment, cause) => {
      parts.onEvent({ kind: 'segment-broken', segment, cause })
      // Until it is mended its bytes are the journal's (`unsealedBytes`).
      flusher.add({ segment, bytes: 0 }, 'mend')
    },
    copies: copies?.copies.starting,
  })
  return { journal, flusher }
}

const BACKLOG_BYTES_MAX = 10 * 1024 ** 3
const BACKLOG_DISK_SHARE_MAX = 0.25
/** The open segment, those being sealed and those being carried are no backlog to speak of. */
const BACKLOG_SEGMENTS_MIN = 8

function buildPressure(
  { clock, limits }: EngineParts,
  { journal, flusher, disk }: { journal: Journal; flusher: Flusher; disk: DiskSpace },
): BackPressure {
  const derived = (): number => Math.min(BACKLOG_BYTES_MAX, disk.totalBytes * BACKLOG_DISK_SHARE_MAX)
  return new BackPressure({
    clock,
    backlogBytes: () => flusher.backlogBytes + journal.unsealedBytes,
    streamingBytes: () => journal.streamingBytes,
    backlogBytesMax: () => Math.max(limits.backlogBytesMax ?? derived(), BACKLOG_SEGMENTS_MIN * limits.segmentBytesMax),
    bytesPerSecond: () => flusher.bytesPerSecond,
    waitMsMax: limits.admissionWaitMsMax,
  })
}

export function writeBehind(engine: {
  journal: Journal
  flusher: Flusher
  pressure: BackPressure
  names: NamesKeeper | undefined
  moves: Moves
  clock: Clock
}): WriteBehind {
  const { journal, flusher, pressure, names, moves, clock } = engine
  /** What was durable when a drain was asked for: bodies that lie in metadata are in the remote store once their names are. */
  const wanted = new Map<number, Revision>()
  const drainJournal: Flusher['drainBacklog'] = async (options) => {
    if (options.through === undefined) await journal.sealOpen()
    return await flusher.drainBacklog(options)
  }
  return {
    status: () => ({ ...flusher.status(), pressure: pressure.status, names: names?.status() }),
    pause: () => flusher.pause(),
    resume: () => flusher.resume(),
    async drain({ waitMsMax, through }) {
      const deadlineMs = clock.monotonicMs() + waitMsMax
      const release = await moves.hold()
      const flushed = await drainJournal({ waitMsMax, through }).finally(release)
      const revision = wanted.get(flushed.through) ?? names?.status().durableRevision ?? 0
      wanted.set(flushed.through, revision)
      if (wanted.size > DRAINS_KEPT) wanted.delete(must(wanted.keys().next().value, 'oldest drain'))
      if (names && flushed.leftItems === 0) await names.drain(deadlineMs)
      return { ...flushed, namesLeft: names !== undefined && names.status().shippedThrough < revision }
    },
  }
}

export function buildReclaimer(
  parts: EngineParts,
  { memory, slabView }: Bytes,
  built: Persistence & { namespace: Namespace; store: RunningStore; moves: Moves },
): Reclaimer {
  const { namespace, journal, flusher, store, source, neighbours, carrier, names, moves, copies } = built
  const { blockBytes } = parts.limits
  const fetch: FetchBlock = (segment, block, slabOffset) => source.read(segment, block, slabOffset)
  const fetchRun: FetchRun = (segment, firstBlock, slots) => source.readRun(segment, firstBlock, slots)
  return new Reclaimer({
    index: namespace,
    horizon: () => store.horizon(),
    hasPending: (segment) => journal.hasPending(segment),
    isUnsealed: (segment) => journal.isUnsealed(segment),
    compactBelow: COMPACT_BELOW_LIVE_SHARE,
    names,
    moves,
    forget: (segment) => flusher.forget(segment),
    remove: async (record) => {
      await carrier.remove(record)
      copies?.copies.notNeeded(record.segment)
      source.forget(record.segment)
      neighbours?.level.forget(record.segment)
      memory.forget(record.segment)
    },
    bodies: async (segment) => (await source.footer(segment)).bodies,
    copyBody: async (segment, body) => {
      // What two nodes had is on two nodes again before it is let go.
      const again = copies && (await namespace.segment(segment))?.copies ? copies.copies : undefined
      const moving = { memory, journal, fetch, fetchRun, slabView, blockBytes, copied: again !== undefined }
      const moved = await copyBody(moving, segment, body)
      return again ? copiedAgain(moved, again) : moved
    },
  })
}
