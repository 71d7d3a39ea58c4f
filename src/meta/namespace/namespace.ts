/**
 * The namespace: the metadata schema over an ordered store. Buckets, the tree of keys, versions, contents with their
 * reference counts, uploads, and what becomes of the bytes that nothing refers to any more.
 *
 * Every method is one transaction or one read, unless its file says how it is cut into bounded steps (C2). Methods may run
 * at once in any number; the store makes them strictly serializable (C1).
 *
 * Where to look: keys.ts for the layout, tree.ts for directories, versions.ts for what becomes of older versions, publish.ts for
 * the hot path, walk.ts for listings, complete-upload.ts and reclaim.ts for work in steps.
 */
import type { Clock } from '../../common/clock.ts'
import { randomFillSync } from 'node:crypto'
import type { Limits } from '../../common/limits.ts'
import type { OrderedStore } from '../ports.ts'
import { createBucket, deleteBucket, listBuckets, setVersioning } from './buckets.ts'
import { contentLiesAt, contentMoved, contentParts, contentSegments, extents, partRange } from './contents.ts'
import type { NamespaceContext } from './context.ts'
import { copy, setTags } from './copy.ts'
import { DecodedCache, type CommitEvents } from './decoded-cache.ts'
import { IdSequence } from './id-sequence.ts'
import { list } from './listing.ts'
import { bucketRecord, lookup } from './lookup.ts'
import { publish } from './publish.ts'
import { remove } from './remove.ts'
import { listSegments, segmentChanged, segmentOpened, segmentRecord, segmentRemoved } from './segments.ts'
import { listVersions } from './versions-listing.ts'
