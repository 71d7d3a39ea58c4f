/**
 * The namespace: the metadata schema over an ordered store. Buckets, the tree of keys, versions, contents with their
 * reference counts, uploads, and what becomes of the bytes that nothing refers to any more.
 *
 * Every method is one transaction or one read, unless its file says how it is cut into bounded steps (C2). Methods may run
 * at once in any number; the store makes them strictly serializable (C1).
 *
 * Where to look: keys.ts for the layout, tree.ts for directories, versions.ts for what becomes of older versions, publish.ts for
 * the hot path, walk.ts for listings, complete-upload.ts, reclaim.ts and expire.ts for work in steps.
 */
import { randomFillSync } from 'node:crypto'
import type { Clock } from '../../common/clock.ts'
import type { ContentId, Revision } from '../../common/ids.ts'
import type { Limits } from '../../common/limits.ts'
import type { UploadRecord } from '../../common/model.ts'
import type { OrderedStore } from '../ports.ts'
import { createAttachedNames, type AttachedNames } from './attached/attached-names.ts'
import { Traces } from './attached/traces.ts'
import { createBucket, deleteBucket, listBuckets, setVersioning } from './buckets.ts'
import { bytesLost } from './bytes-lost.ts'
import { watchChanges } from './changes.ts'
import { UploadCompleter } from './complete-upload.ts'
import { contentLiesAt, contentMoved, contentParts, contentSegments, extents, partRange } from './contents.ts'
import { nodeName, type Bound, type NamespaceContext } from './context.ts'
import { copyPart } from './copy-part.ts'
import { copy, setTags } from './copy.ts'
import { DecodedCache, type CommitEvents, type GoneEvents } from './decoded-cache.ts'
import { expire } from './expire.ts'
import { createNamesSource, type CopiedStore, type NamesOfNamespace } from './names-source.ts'
import { createFiles, type Files } from './files/files.ts'
import type { BucketDefaults, FileDefaults } from './files/types.ts'
import { IdSequence } from './id-sequence.ts'
import { list } from './listing.ts'
import { bucketRecord, lookup } from './lookup.ts'
import { publish } from './publish.ts'
import { Reclaimer } from './reclaim.ts'
import { remove } from './remove.ts'
import { rename } from './rename.ts'
import { createRestoring, type Restoring } from './restore/restoring.ts'
import {
  decidedSegment,
  listSegments,
  segmentChanged,
  segmentOpened,
  segmentRecord,
  segmentRemoved,
} from './segments.ts'
import { createSharing, type Sharing } from './sharing.ts'
import { stampedStore } from './stamped-store.ts'
import { findToken, listTokens, putToken, removeToken } from './tokens.ts'
import { listUploads } from './upload-listing.ts'
import { abortUpload, createUpload, listParts, putPart, readUpload } from './uploads.ts'
import { presence } from './values/presence.ts'
import { scan } from './values/scan.ts'
import { transactValues } from './values/transact.ts'
import { listVersions } from './versions-listing.ts'

const CACHE_BYTES_MAX = 64 * 1024 * 1024
const DEFAULT_FILES: FileDefaults = { fileMode: 0o644, directoryMode: 0o755, uid: 0, gid: 0 }
const DEFAULT_BUCKETS: BucketDefaults = { region: 'us-east-1', ack: 'journal' }

export interface NamespaceOptions {
  /** With the commit events of an embedded store, hot rows are kept decoded. */
  readonly store: OrderedStore & Partial<CommitEvents & GoneEvents> & Partial<CopiedStore>
  readonly clock: Clock
  readonly limits: Limits
  /** Of this process among those that share the store, from 1. */
  readonly nodeNumber?: number | undefined
  readonly cacheBytesMax?: number | undefined
  readonly fillRandom?: ((bytes: Uint8Array) => void) | undefined
  /** How the mount shows what S3 or KV made. */
  readonly files?: FileDefaults | undefined
  /** What a directory made in the root of the mount becomes. */
  readonly newBuckets?: BucketDefaults | undefined
}

export interface Namespace extends Sharing {
  readonly createBucket: Bound<typeof createBucket>
  readonly bucket: Bound<typeof bucketRecord>
  readonly listBuckets: Bound<typeof listBuckets>
  readonly deleteBucket: Bound<typeof deleteBucket>
  readonly setVersioning: Bound<typeof setVersioning>

  readonly publish: Bound<typeof publish>
  readonly copy: Bound<typeof copy>
  readonly lookup: Bound<typeof lookup>
  readonly remove: Bound<typeof remove>
  readonly setTags: Bound<typeof setTags>
  readonly rename: Bound<typeof rename>
  readonly list: Bound<typeof list>
  readonly listVersions: Bound<typeof listVersions>

  readonly allocateContentId: () => Promise<ContentId>
  readonly extents: Bound<typeof extents>
  readonly contentParts: Bound<typeof contentParts>
  readonly partRange: Bound<typeof partRange>
  readonly contentSegments: Bound<typeof contentSegments>

  readonly createUpload: Bound<typeof createUpload>
  readonly upload: (bucket: string, key: string, uploadId: string) => Promise<UploadRecord>
  readonly putPart: Bound<typeof putPart>
  readonly copyPart: Bound<typeof copyPart>
  readonly listParts: Bound<typeof listParts>
  readonly listUploads: Bound<typeof listUploads>
  readonly completeUpload: UploadCompleter['complete']
  readonly abortUpload: Bound<typeof abortUpload>

  readonly segmentOpened: Bound<typeof segmentOpened>
  readonly segmentChanged: Bound<typeof segmentChanged>
  readonly segments: Bound<typeof listSegments>
  readonly segment: Bound<typeof segmentRecord>
  readonly decidedSegment: Bound<typeof decidedSegment>
  readonly segmentRemoved: Bound<typeof segmentRemoved>
  readonly dismantle: Reclaimer['dismantle']
  readonly contentLiesAt: Bound<typeof contentLiesAt>
  readonly contentMoved: Bound<typeof contentMoved>
  readonly bytesLost: Bound<typeof bytesLost>
  readonly expire: Bound<typeof expire>

  readonly scan: Bound<typeof scan>
  readonly transactValues: Bound<typeof transactValues>
  readonly presence: Bound<typeof presence>

  readonly putToken: Bound<typeof putToken>
  readonly token: Bound<typeof findToken>
  readonly listTokens: Bound<typeof listTokens>
  readonly removeToken: Bound<typeof removeToken>

  readonly files: Files
  /** Attached buckets. */
  readonly attached: AttachedNames
  /** The rows themselves, for who copies them elsewhere. */
  readonly names: NamesOfNamespace
  readonly restoring: Restoring

  readonly watch: Bound<typeof watchChanges>
  readonly revision: () => Revision
  readonly durableRevision: () => Revision
  readonly flush: () => Promise<void>
}

export function createNamespace(options: NamespaceOptions): Namespace {
  const { store, clock, limits } = options
  const { nodeNumber = 0 } = options
  const rows = stampedStore(store)
  const traces = new Traces(rows, { clock, limits })
  const context: NamespaceContext = {
    store: traces.tracked({ asked: true }),
    unasked: traces.tracked({ asked: false }),
    untraced: rows,
    clock,
    limits,
    node: nodeName(nodeNumber),
    nodeNumber,
    inodes: new IdSequence(store, 'inode'),
    contents: new IdSequence(store, 'content'),
    cache: new DecodedCache(store, options.cacheBytesMax ?? CACHE_BYTES_MAX),
    building: new Set(),
    fillRandom: options.fillRandom ?? randomFillSync,
    files: options.files ?? DEFAULT_FILES,
    newBuckets: options.newBuckets ?? DEFAULT_BUCKETS,
    keepInode: () => false,
    heldBack: () => Infinity,
  }
  const completer = new UploadCompleter(context)
  const reclaimer = new Reclaimer(context, store)
  const bind = <Rest extends unknown[], Result>(
    operation: (context: NamespaceContext, ...rest: Rest) => Result,
  ): ((...rest: Rest) => Result) => operation.bind(undefined, context)
  return {
    createBucket: bind(createBucket),
    bucket: bind(bucketRecord),
    listBuckets: bind(listBuckets),
    deleteBucket: bind(deleteBucket),
    setVersioning: bind(setVersioning),
    publish: bind(publish),
    copy: bind(copy),
    lookup: bind(lookup),
    remove: bind(remove),
    setTags: bind(setTags),
    rename: bind(rename),
    list: bind(list),
    listVersions: bind(listVersions),
    allocateContentId: () => context.contents.take(1),
    extents: bind(extents),
    contentParts: bind(contentParts),
    partRange: bind(partRange),
    contentSegments: bind(contentSegments),
    createUpload: bind(createUpload),
    upload: (bucket, key, uploadId) => readUpload(context, { bucket, key, uploadId }),
    putPart: bind(putPart),
    copyPart: bind(copyPart),
    listParts: bind(listParts),
    listUploads: bind(listUploads),
    completeUpload: (request) => completer.complete(request),
    abortUpload: bind(abortUpload),
    segmentOpened: bind(segmentOpened),
    segmentChanged: bind(segmentChanged),
    segments: bind(listSegments),
    segment: bind(segmentRecord),
    decidedSegment: bind(decidedSegment),
    segmentRemoved: bind(segmentRemoved),
    dismantle: (horizon) => reclaimer.dismantle(horizon),
    contentLiesAt: bind(contentLiesAt),
    contentMoved: bind(contentMoved),
    bytesLost: bind(bytesLost),
    expire: bind(expire),
    scan: bind(scan),
    transactValues: bind(transactValues),
    presence: bind(presence),
    putToken: bind(putToken),
    token: bind(findToken),
    listTokens: bind(listTokens),
    removeToken: bind(removeToken),
    files: createFiles(context, store),
    attached: createAttachedNames(context, traces),
    names: createNamesSource(context, store),
    restoring: createRestoring(context, reclaimer),
    watch: bind(watchChanges),
    revision: () => store.revision(),
    durableRevision: () => store.durableRevision(),
    flush: () => store.flush(),
    ...createSharing(context),
  }
}
