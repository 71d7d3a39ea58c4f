/** Where the bytes of a version lie: extents of its content, or all of an external object (docs/decisions/0015). */
import { externalSegment } from '../common/external.ts'
import type { Extent, ObjectVersion } from '../common/model.ts'
import type { MetadataBuckets, MetadataContents } from './ports.ts'

export type BodyPlaces = Pick<MetadataContents, 'extents'> & Pick<MetadataBuckets, 'bucket'>

/** In order, those that meet `[offset, offset + length)`. Not for inline bodies. */
export async function versionExtents(
  metadata: BodyPlaces,
  { bucket, body, size }: ObjectVersion,
  { offset, length }: { readonly offset: number; readonly length: number },
): Promise<readonly Extent[]> {
  if (body.kind === 'content') return await metadata.extents(body.content, offset, length)
  if (body.kind === 'inline' || size === 0) return []
  const segment = externalSegment((await metadata.bucket(bucket)).id, body.external)
  return [{ offset: 0, length: size, segment, segmentOffset: 0 }]
}
