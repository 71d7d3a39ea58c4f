/** What of an attached bucket is to be carried out (attach/ports.ts): read and noted. */
import { isDeepStrictEqual } from 'node:util'
import {
  utf8Bytes,
  utf8Text,
  type ByteString,
  type InodeId,
  type Revision,
  type SegmentId,
} from '../../../common/ids.ts'
import { externalSegment, type ExternalBody } from '../../../common/external.ts'
import type { Extent, ObjectVersion } from '../../../common/model.ts'
import type { ReadView } from '../../ports.ts'
import { bodyRanges, extentsOf, knownContent } from '../contents.ts'
import type { Commit } from '../context.ts'
import { linksOf } from '../files/links.ts'
import { inodeKey, prefixEnd } from '../keys.ts'
import { objectVersion } from '../object-version.ts'
import { rawPieceRows } from '../piece-rows.ts'
import { decodePieceRow } from '../records-contents.ts'
import { decodeInode, type Inode, type ObjectInode } from '../records-objects.ts'
import { currentEntry, findPlace } from '../tree.ts'
import { readObjectInode } from '../versions.ts'
import { objectsOutside } from './bodies.ts'
import { readAttached, type MirrorContext } from './mirror-context.ts'
import {
  attachmentKey,
  bodyOfSegment,
  decodeAttachment,
  decodeDirty,
  decodeExternalSegment,
  dirtyKey,
  dirtyPrefix,
  encodeDirty,
  externalSegmentKey,
  type BaseRecord,
  type DirtyRecord,
} from './rows.ts'

export interface DirtyState {
  readonly dirty: DirtyRecord
  readonly version: ObjectVersion | undefined
  readonly extents: readonly Extent[]
  readonly partSizes: readonly number[]
}

interface Addressed {
  readonly bucketId: number
  readonly key: string
}

export function dirtyKeys(
  context: MirrorContext,
  bucketId: number,
  after: string,
  limit: number,
): Promise<readonly DirtyRecord[]> {
  const start = (after === '' ? dirtyPrefix(bucketId) : `${dirtyKey(bucketId, utf8Bytes(after))}\0`) as ByteString
  return context.store.read(async (view) => {
    const rows = await view.scan({ start, end: prefixEnd(dirtyPrefix(bucketId)) }, limit)
    const found: DirtyRecord[] = []
    for (const { key, value } of rows) found.push(await withNeeds(view, decodeDirty(key, value)))
    return found
  })
}

/** Told once it is durable: what a crash takes back must not be carried out. */
export function dirtyState(context: MirrorContext, bucketId: number, key: string): Promise<DirtyState | undefined> {
  const keyBytes = utf8Bytes(key)
  const rowKey = dirtyKey(bucketId, keyBytes)
  return context.store.read(async (view) => {
    const row = await view.get(rowKey)
    const attached = row && (await readAttached(view, bucketId))
    if (!attached) return undefined
    const { bucket } = attached
    const dirty = await withNeeds(view, decodeDirty(rowKey, row))
    const place = await findPlace(view, bucket, keyBytes)
    const entry = place && (await currentEntry(view, place))
    if (!entry) return { dirty, version: undefined, extents: [], partSizes: [] }
    const inode = await readObjectInode(view, entry.inode)
    const version = objectVersion(bucket, key, entry, inode)
    return { dirty, version, ...(await whatItIsMadeOf(view, bucketId, inode)) }
  })
}

async function whatItIsMadeOf(
  view: ReadView,
  bucketId: number,
  { body, size }: ObjectInode,
): Promise<Pick<DirtyState, 'extents' | 'partSizes'>> {
  if (body.kind === 'inline') return { extents: [], partSizes: [] }
  if (body.kind === 'external') {
    const segment = externalSegment(bucketId, body.external)
    return { extents: size === 0 ? [] : [{ offset: 0, length: size, segment, segmentOffset: 0 }], partSizes: [] }
  }
  const { content } = body
  const record = await knownContent(view, content)
  const ranges = await bodyRanges(view, { content, record, wanted: { from: 0, to: size, base: 0 } }, Infinity)
  const partSizes: number[] = []
  if (record.kind === 'composite') {
    for await (const row of rawPieceRows(view, content, 0)) {
      for (const { part, length } of decodePieceRow(row.value).pieces) if (part) partSizes.push(length)
    }
  }
  return { extents: extentsOf(ranges), partSizes }
}

/** Of those that are said to need what lies outside at the key, those that do by now. */
async function withNeeds(view: ReadView, dirty: DirtyRecord): Promise<DirtyRecord> {
  const neededBy: InodeId[] = []
  for (const inode of dirty.neededBy) if (await needs(view, inode, dirty.key)) neededBy.push(inode)
  return { ...dirty, neededBy }
}

async function needs(view: ReadView, id: InodeId, key: string): Promise<boolean> {
  const row = await view.get(inodeKey(id))
  const inode = row && decodeInode(row)
  if (inode?.kind !== 'object') return false
  return (await objectsOutside(view, inode.body)).some((object) => object.key === key)
}

/** Changes the row of a dirty key; nothing, if it is clean by now, or `change` says so. Resolves with whether it did. */
function changeRow(
  context: MirrorContext,
  { bucketId, key }: Addressed,
  change: (dirty: DirtyRecord) => DirtyRecord | undefined,
): Promise<Commit<boolean>> {
  const rowKey = dirtyKey(bucketId, utf8Bytes(key))
  return context.store.transact(async (tx) => {
    const row = await tx.get(rowKey)
    const changed = row && change(decodeDirty(rowKey, row))
    if (changed) tx.put(rowKey, encodeDirty(changed))
    return changed !== undefined
  })
}

export function noteConflict(
  context: MirrorContext,
  request: Addressed & {
    readonly conflict: DirtyRecord['conflict']
    readonly base?: BaseRecord | undefined
    readonly revision?: Revision | undefined
  },
): Promise<Commit<boolean>> {
  const { conflict, base, revision } = request
  return changeRow(context, request, (dirty) =>
    revision === undefined || revision === dirty.revision
      ? { ...dirty, conflict, base: base ?? dirty.base }
      : undefined,
  )
}

/** The last ones of a key that are remembered as tried. */
const TRIED_MAX = 8

export function noteTried(
  context: MirrorContext,
  request: Addressed & { readonly tried: BaseRecord },
): Promise<Commit<boolean>> {
  return changeRow(context, request, (dirty) => {
    const others = (dirty.tried ?? []).filter((known) => !isDeepStrictEqual(known, request.tried))
    return { ...dirty, tried: [...others, request.tried].slice(-TRIED_MAX) }
  })
}

export function arrived(
  context: MirrorContext,
  request: Addressed & { readonly inode: InodeId },
): Promise<Commit<boolean>> {
  return changeRow(context, request, (dirty) => {
    return { ...dirty, neededBy: dirty.neededBy.filter((inode) => inode !== request.inode) }
  })
}

export function externalSegmentOf(
  context: MirrorContext,
  segment: SegmentId,
): Promise<{ readonly bucketId: number; readonly body: ExternalBody } | undefined> {
  return context.store.read(
    async (view) => {
      const row = await view.get(externalSegmentKey(segment))
      const record = row && decodeExternalSegment(row)
      return record && { bucketId: record.bucketId, body: bodyOfSegment(record) }
    },
    { tell: 'visible' },
  )
}

export function placeOf(
  context: MirrorContext,
  id: InodeId,
): Promise<{ readonly bucketId: number; readonly bucket: string; readonly key: string } | undefined> {
  return context.store.read(
    async (view) => {
      let inode: Inode | undefined = await inodeOf(view, id)
      if (inode?.kind === 'object' && linksOf(inode) === 0) return undefined
      let key = ''
      let at = id
      while (inode && inode.parent !== 0) {
        key = inode.name + key
        at = inode.parent
        inode = await inodeOf(view, at)
      }
      const attachment = inode && (await view.get(attachmentKey(at)))
      if (!attachment) return undefined
      const { bucket } = decodeAttachment(attachmentKey(at), attachment)
      return { bucketId: at, bucket, key: utf8Text(key) }
    },
    { tell: 'visible' },
  )
}

async function inodeOf(view: ReadView, id: InodeId): Promise<Inode | undefined> {
  const row = await view.get(inodeKey(id))
  return row && decodeInode(row)
}
