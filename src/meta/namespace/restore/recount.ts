/**
 * What follows from restored rows and is not among them: the counters, the state of segments, and where numbers go on.
 *
 *   S 01 segment   live bytes: of every leaf, dropped ones that were not taken apart yet included
 *   Q bucket       objects and bytes: of every inode that has a name
 *   Q 0, A n       buckets, tokens
 *   S 00 segment   persisted, for each that the remote store has and the rows know; the others are gone
 *   C              beyond every id that may have been given away since
 *   M              beyond every revision that may have been handed out since (C3); the change log is empty, so who
 *                  watched from an older revision is told `RevisionGone` (C7)
 *
 * Ids and revisions go on from `firstNumber`, which grows with the time by 2^19 a second. The node that was lost gave away numbers that nothing
 * tells of, and so may have one that was restored from the same state before: it began at an earlier second, and no node commits
 * half a million times a second for long. Should the clock be wrong, they still go on 2^32 beyond all that is known.
 */
import { isExternalSegment } from '../../../common/external.ts'
import type { ByteString, InodeId, Revision, SegmentId } from '../../../common/ids.ts'
import { assert, must } from '../../../common/assert.ts'
import { addCounters } from '../../stage/counters.ts'
import type { Backend } from '../../stage/ports.ts'
import { STATE_KEY, encodeState } from '../../stage/stage-state.ts'
import {
  BUCKETS,
  BUCKET_COUNT_KEY,
  CONTENTS,
  INODES,
  RECLAIM,
  RECLAIM_ID_AT,
  SEGMENT_STATE_ROWS,
  TOKENS,
  TOKEN_COUNT_KEY,
  bytesHex,
  inodeKey,
  integerAt,
  reclaimKindOf,
  segmentLiveKey,
  segmentStateKey,
  sequenceKey,
  usageKey,
} from '../keys.ts'
import {
  decodeContent,
  decodeDropped,
  decodeInteger,
  decodeSegment,
  encodeInteger,
  encodeSegment,
} from '../records-contents.ts'
import { decodeInode } from '../records-objects.ts'
import { linksOf } from '../files/links.ts'
import { COUNTED_BY } from '../context.ts'
import { tableRows } from './rows.ts'

const NUMBERS_JUMP = 2 ** 32
const NUMBERS_PER_SECOND = 2 ** 19
/** The mount numbers nodes that are no files from here on (gateway/fuse/virtual/nodes.ts). */
const NUMBERS_MAX = 2 ** 52
const SEQUENCE_NAMES = ['inode', 'content'] as const
/** Directories whose bucket is remembered. */
const KNOWN_DIRECTORIES_MAX = 500_000
const COUNTER_BATCH_ROWS = 16_384

export interface RecountRequest {
  /** Segments that the remote store has. */
  readonly present: ReadonlySet<SegmentId>
  /** Asked for one that the rows know only as open. Undefined: it cannot be read. */
  readonly dataBytes: (segment: SegmentId) => Promise<number | undefined>
  /** The greatest that anything tells of, restored or not. */
  readonly revision: Revision
  readonly nowMs: number
}

export interface Recounted {
  /** Segments that rows refer to and the remote store does not have. */
  readonly missing: ReadonlySet<SegmentId>
  /** The greatest content that a row knows. */
  readonly contentMax: number
  /** Segments that the rows themselves called persisted. */
  readonly settled: ReadonlySet<SegmentId>
}

interface Usage {
  objects: number
  bytes: number
}

export async function recount(backend: Backend, request: RecountRequest): Promise<Recounted> {
  const { liveBytes, contentMax } = await countContents(backend)
  const { usage, inodeMax } = await countInodes(backend)
  const buckets = await countRows(backend, BUCKETS)
  const tokens = await countRows(backend, TOKENS)
  const writer = new CounterWriter(backend)
  for (const [bucket, { objects, bytes }] of usage) await writer.put(usageKey(bucket, COUNTED_BY), [objects, bytes])
  if (buckets > 0) await writer.put(BUCKET_COUNT_KEY, [buckets])
  if (tokens > 0) await writer.put(TOKEN_COUNT_KEY, [tokens])
  for (const [segment, bytes] of liveBytes) await writer.put(segmentLiveKey(segment), [bytes])
  const settled = await settleSegments(backend, { request, liveBytes, writer })
  const seen = { inode: inodeMax, content: contentMax }
  for (const name of SEQUENCE_NAMES) {
    const row = backend.get(sequenceKey(name))
    const next = Math.max(seen[name] + 1, row ? decodeInteger(row) : 1)
    await writer.write(sequenceKey(name), encodeInteger(firstNumber(next, request.nowMs)))
  }
  await writer.flush()
  const revision = firstNumber(request.revision, request.nowMs)
  const state = { revision, reservedThrough: revision, trimmedThrough: revision, loggedRevisions: 0 }
  await backend.commit([new Map([[STATE_KEY, encodeState(state)]])])
  const missing = new Set(
    [...liveBytes.keys()].filter((segment) => !request.present.has(segment) && !isExternalSegment(segment)),
  )
  return { missing, contentMax, settled }
}

function firstNumber(seen: number, nowMs: number): number {
  const first = Math.max(seen + NUMBERS_JUMP, Math.floor(nowMs / 1000) * NUMBERS_PER_SECOND)
  assert(first < NUMBERS_MAX, `numbers go on from ${first}`)
  return first
}

class CounterWriter {
  readonly #backend: Backend
  #batch = new Map<ByteString, Uint8Array | null>()

  constructor(backend: Backend) {
    this.#backend = backend
  }

  put(key: ByteString, counters: readonly number[]): Promise<void> {
    return this.write(key, addCounters(undefined, counters))
  }

  async write(key: ByteString, value: Uint8Array | null): Promise<void> {
    this.#batch.set(key, value)
    if (this.#batch.size >= COUNTER_BATCH_ROWS) await this.flush()
  }

  async flush(): Promise<void> {
    const batch = this.#batch
    this.#batch = new Map()
    if (batch.size > 0) await this.#backend.commit([batch])
  }
}

async function countRows(backend: Backend, table: string): Promise<number> {
  let count = 0
  for await (const rows of tableRows(backend, table)) count += rows.length
  return count
}

async function countContents(backend: Backend): Promise<{ liveBytes: Map<SegmentId, number>; contentMax: number }> {
  const liveBytes = new Map<SegmentId, number>()
  let contentMax = 0
  const add = (segment: SegmentId, length: number): void => {
    liveBytes.set(segment, (liveBytes.get(segment) ?? 0) + length)
  }
  for await (const rows of tableRows(backend, CONTENTS)) {
    for (const { key, value } of rows) {
      const content = decodeContent(value)
      contentMax = Math.max(contentMax, integerAt(key, CONTENTS.length))
      if (content.kind === 'leaf') add(content.segment, content.length)
      if (content.kind === 'file') contentMax = Math.max(contentMax, content.rows)
    }
  }
  for await (const rows of tableRows(backend, RECLAIM)) {
    for (const { key, value } of rows) {
      if (reclaimKindOf(key) !== 'content') continue
      const { content } = decodeDropped(value)
      contentMax = Math.max(contentMax, integerAt(key, RECLAIM_ID_AT))
      if (content.kind === 'leaf') add(content.segment, content.length)
    }
  }
  return { liveBytes, contentMax }
}

async function countInodes(backend: Backend): Promise<{ usage: Map<number, Usage>; inodeMax: InodeId }> {
  const usage = new Map<number, Usage>()
  const buckets = new BucketFinder(backend)
  let inodeMax = 0
  for await (const rows of tableRows(backend, INODES)) {
    for (const { key, value } of rows) {
      inodeMax = integerAt(key, INODES.length)
      const inode = decodeInode(value)
      // An unlinked file that somebody had open counts in no bucket.
      if (inode.kind !== 'object' || linksOf(inode) === 0) continue
      const bucket = buckets.of(inode.parent)
      const counted = usage.get(bucket)
      if (counted) {
        counted.objects++
        counted.bytes += inode.size
      } else {
        usage.set(bucket, { objects: 1, bytes: inode.size })
      }
    }
  }
  return { usage, inodeMax }
}

/** The bucket that a directory lies in; its id is its root's inode. */
class BucketFinder {
  readonly #backend: Backend
  readonly #known = new Map<InodeId, number>()

  constructor(backend: Backend) {
    this.#backend = backend
  }

  of(directory: InodeId): number {
    const climbed: InodeId[] = []
    let bucket: number | undefined
    for (let at = directory; bucket === undefined;) {
      bucket = this.#known.get(at)
      if (bucket !== undefined) break
      climbed.push(at)
      const record = decodeInode(must(this.#backend.get(inodeKey(at)), `inode ${at}`))
      must(record.kind === 'directory' ? record : undefined, 'a parent is a directory')
      if (record.parent === 0) bucket = at
      at = record.parent
    }
    const found = must(bucket, 'bucket of a directory')
    if (this.#known.size + climbed.length > KNOWN_DIRECTORIES_MAX) this.#known.clear()
    for (const inode of climbed) this.#known.set(inode, found)
    return found
  }
}

/**
 * The S 00 rows: every segment that is there is persisted, since where else could it have come from. One that nothing refers to and that is
 * there stays, so that the reclaimer meets it. @returns those that the rows called persisted
 */
async function settleSegments(
  backend: Backend,
  {
    request,
    liveBytes,
    writer,
  }: { request: RecountRequest; liveBytes: ReadonlyMap<SegmentId, number>; writer: CounterWriter },
): Promise<Set<SegmentId>> {
  const settled = new Set<SegmentId>()
  const known = new Set<SegmentId>()
  for await (const rows of tableRows(backend, SEGMENT_STATE_ROWS)) {
    for (const { key, value } of rows) {
      const segment = bytesHex(key.slice(SEGMENT_STATE_ROWS.length)) as SegmentId
      const { state, bytes, node, copies } = decodeSegment(value)
      if (!request.present.has(segment) && !liveBytes.has(segment)) {
        await writer.write(key, null)
        continue
      }
      known.add(segment)
      if (state === 'persisted') {
        settled.add(segment)
        // It was another node's, or copied to some: here it is of the one gateway that there is.
        if (node !== undefined || copies) await writer.write(key, encodeSegment({ state, bytes }))
        continue
      }
      const dataBytes = state === 'sealed' ? bytes : ((await request.dataBytes(segment)) ?? liveBytes.get(segment) ?? 0)
      await writer.write(key, encodeSegment({ state: 'persisted', bytes: dataBytes }))
    }
  }
  for (const [segment, live] of liveBytes) {
    if (known.has(segment) || isExternalSegment(segment)) continue
    known.add(segment)
    const bytes = (await request.dataBytes(segment)) ?? live
    await writer.write(segmentStateKey(segment), encodeSegment({ state: 'persisted', bytes }))
  }
  return settled
}
