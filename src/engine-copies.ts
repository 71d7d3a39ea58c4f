/** The part of the engine that keeps segments on two nodes (`ack=replicated`, engine.ts). */
import type { NodeCalls } from './common/node-calls.ts'
import type { NodeView } from './common/node-view.ts'
import type { SegmentId } from './common/ids.ts'
import type { Bytes } from './engine-bytes.ts'
import type { EngineParts, EngineRemote } from './engine-parts.ts'
import { HandOver } from './hand-over.ts'
import type { Namespace } from './meta/namespace/namespace.ts'
import { NodeCopies } from './persist/copies/copies.ts'
import type { DiskSpace } from './persist/disk-space.ts'
import type { Flusher } from './persist/flusher.ts'
import type { JournalDevice } from './persist/journal/device.ts'
import type { AppendedBody, Journal } from './persist/journal/journal.ts'
import type { IndexedSegment } from './persist/ports.ts'
import type { Replicating } from './store/byte-ports.ts'

/** Other nodes, as far as copies need them. */
export interface EngineCopies {
  readonly calls: NodeCalls
  readonly view: NodeView
  /** DATA/copies: on the same file system as the journal. */
  readonly directory: string
  /** How long a node may be away before its copies do not count. */
  readonly graceMs: number
}

/** Copies, and the thread that writes those of others. */
export interface BuiltCopies {
  readonly copies: NodeCopies
  readonly device: JournalDevice
}

export function buildCopies(
  parts: EngineParts,
  bytes: Bytes,
  built: {
    readonly namespace: Namespace
    readonly disk: DiskSpace
    readonly journal: () => Journal
    readonly flusher: () => Flusher
    readonly onDead: (segment: SegmentId) => void
    /** It lies here now: who looked for it in vain must look again. */
    readonly onHere: (segment: SegmentId) => void
  },
): BuiltCopies | undefined {
  if (!parts.copies) return undefined
  const { calls, view, directory, graceMs } = parts.copies
  const { clock, limits, fileSystem, random, remote, onEvent } = parts
  const { blockBytes, pageBytes } = limits
  const { slab, slabView, files, hashing } = bytes
  const { namespace, disk, journal, flusher, onDead, onHere } = built
  const device = parts.createDevice({ buffer: slab.buffer, slab: slabView, blockBytes, pageBytes })
  const copies = new NodeCopies({
    calls,
    view,
    clock,
    random,
    fileSystem,
    directory,
    files,
    index: namespace,
    device,
    verifier: hashing,
    slabView,
    pageBytes,
    blockBytes,
    graceMs,
    waitMsMax: limits.admissionWaitMsMax,
    accept: (length) => disk.accept(length),
    isReachedByAll: (record) => isReachedByAll(record, remote),
    journal: () => ({
      sealed: (segment) => journal().sealed(segment),
      isOpen: (segment) => journal().isUnsealed(segment),
    }),
    onAdopted: ({ segment, bytes: length, ageMs, liveBytes, removedMemory, lost }) => {
      onHere(segment)
      if (removedMemory > 0 || lost.length > 0) {
        const cause = new Error(`${removedMemory} objects that were not synced are gone, and ${lost.length} others`)
        onEvent({ kind: 'job-failed', job: `take over segment ${segment}`, cause })
      }
      if (liveBytes > 0) flusher().add({ segment, bytes: length, ageMs })
      else onDead(segment)
    },
  })
  return { copies, device }
}

/** Whether every node reads it from the remote store. */
export function isReachedByAll({ state }: Pick<IndexedSegment, 'state'>, remote: EngineRemote | undefined): boolean {
  return state === 'persisted' && remote?.carries === 'uploading'
}

/** The store's view of them. */
export function replicating(copies: NodeCopies | undefined): Replicating | undefined {
  return (
    copies && {
      check: () => void copies.starting.partner(),
      copied: (segment, through) => copies.copied(segment, through),
    }
  )
}

/** What was on another node too, and is moved within the journal, is there again before its old place is let go. */
export function copiedAgain(body: AppendedBody, copies: NodeCopies): AppendedBody {
  const { segment, segmentOffset, length } = body.run
  return {
    ...body,
    sync: async () => {
      await body.sync()
      await copies.copied(segment, segmentOffset + length)
    },
  }
}

/** For a node that leaves. */
export function buildHandOver(
  { clock, remote }: EngineParts,
  { namespace, journal, copies }: { namespace: Namespace; journal: Journal; copies: BuiltCopies | undefined },
): HandOver | undefined {
  if (!copies) return undefined
  return new HandOver({
    clock,
    index: namespace,
    isReachedByAll: (record) => isReachedByAll(record, remote),
    copied: (segment) => copies.copies.copied(segment),
    sealOpen: () => journal.sealOpen(),
  })
}

export async function stopCopies(built: BuiltCopies | undefined): Promise<void> {
  await built?.copies.stop()
  await built?.device.stop()
}
