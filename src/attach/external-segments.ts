/**
 * What external segments are, for those who fetch their blocks: a segment's id is a hash, and does not tell (docs/decisions/0015). Learned when a version or a
 * file passes by whose body is an external object. Where contents refer to a segment, metadata knows it too.
 */
import { externalSegment } from '../common/external.ts'
import type { SegmentId } from '../common/ids.ts'
import type { ObjectVersion } from '../common/model.ts'
import type { Attached, AttachedBuckets } from './attached.ts'
import type { AttachedNames, ExternalBody } from './ports.ts'
import { Recent } from './recent.ts'

interface Known {
  readonly bucketId: number
  readonly body: ExternalBody
}

/** An object that is open for reading is one of these. */
const SEGMENTS_MAX = 131_072

export class ExternalSegments {
  readonly #attached: Pick<AttachedBuckets, 'ofId'>
  readonly #names: Pick<AttachedNames, 'externalSegment'>
  readonly #known = new Recent<SegmentId, Known>(SEGMENTS_MAX)

  constructor(parts: { attached: Pick<AttachedBuckets, 'ofId'>; names: Pick<AttachedNames, 'externalSegment'> }) {
    this.#attached = parts.attached
    this.#names = parts.names
  }

  learn(bucketId: number, body: ExternalBody): void {
    this.#known.set(externalSegment(bucketId, body), { bucketId, body })
  }

  learnVersion({ record }: Attached, { body }: ObjectVersion): void {
    if (body.kind === 'external') this.learn(record.bucketId, body.external)
  }

  /** Undefined when nobody knows it, or its bucket is not attached any more. */
  async find(segment: SegmentId): Promise<{ readonly attached: Attached; readonly body: ExternalBody } | undefined> {
    const known = this.#known.get(segment) ?? (await this.#names.externalSegment(segment))
    if (!known) return undefined
    this.#known.set(segment, known)
    const attached = this.#attached.ofId(known.bucketId)
    return attached && { attached, body: known.body }
  }
}
