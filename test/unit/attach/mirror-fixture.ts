/** An attached bucket `far` over an external one in memory, as the store sees it: the decorators over a real namespace. */
import type { Attached, AttachedBuckets } from '../../../src/attach/attached.ts'
import { ExternalSegments } from '../../../src/attach/external-segments.ts'
import { Freshness } from '../../../src/attach/freshness.ts'
import { mirroredFiles } from '../../../src/attach/mirrored-files.ts'
import { mirroredMetadata } from '../../../src/attach/mirrored-metadata.ts'
import type { AttachedNames, AttachmentRecord } from '../../../src/attach/ports.ts'
import { utf8Bytes, type ByteString, type InodeId } from '../../../src/common/ids.ts'
import type { MetadataFiles } from '../../../src/store/file-ports.ts'
import type { Metadata } from '../../../src/store/ports.ts'
import { MemoryBucket } from '../../support/memory-bucket.ts'
import { fixture, type Fixture } from '../meta/namespace/fixture.ts'

export const TTL_MS = 10_000
export const LISTING_TTL_MS = 60_000

export interface MirrorFixture extends Fixture {
  readonly external: MemoryBucket
  readonly attached: Attached
  readonly names: AttachedNames
  readonly freshness: Freshness
  readonly segments: ExternalSegments
  readonly metadata: Metadata
  readonly files: MetadataFiles
  /** Root of the bucket, for the mount. */
  readonly root: InodeId
}

export async function mirrorFixture(
  options: Partial<AttachmentRecord> & { capabilities?: Partial<MemoryBucket['capabilities']> } = {},
): Promise<MirrorFixture> {
  const here = await fixture()
  const { namespace, clock } = here
  const external = new MemoryBucket({ clock })
  const { capabilities, ...changes } = options
  Object.assign(external.capabilities, capabilities)
  const names: AttachedNames = namespace.attached
  const { value: record } = await names.attach({
    bucket: 'far',
    owner: 'owner',
    region: 'us-east-1',
    ack: 'journal',
    attachment: {
      url: 'memory:',
      conflicts: 'keep-both',
      ttlMs: TTL_MS,
      listingTtlMs: LISTING_TTL_MS,
      compareIntervalMs: 0,
      attachedMs: clock.ms,
      ...changes,
    },
  })
  const attached: Attached = { record, external, capabilities: external.capabilities }
  const buckets = only(attached)
  const segments = new ExternalSegments({ attached: buckets, names })
  const freshness = new Freshness({ names, mirror: namespace, clock })
  const parts = { attached: buckets, freshness, segments, names }
  return {
    ...here,
    external,
    attached,
    names,
    freshness,
    segments,
    metadata: mirroredMetadata(namespace, parts),
    files: mirroredFiles(namespace.files, { ...parts, objects: namespace }),
    root: (await namespace.bucket('far')).root,
  }
}

function only(attached: Attached): AttachedBuckets {
  const { record } = attached
  return {
    isEmpty: false,
    of: (bucket) => (bucket === record.bucket ? attached : undefined),
    ofId: (bucketId) => (bucketId === record.bucketId ? attached : undefined),
    all: () => [attached],
  }
}

export const name = (text: string): ByteString => utf8Bytes(text)
