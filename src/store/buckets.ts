/** Buckets as the doors call them. */
import type { AckLevel, BucketRecord, Versioning } from '../common/model.ts'
import type { Acknowledgement } from './acknowledgement.ts'
import type { Buckets } from './doors.ts'
import type { Metadata } from './ports.ts'

export class StoreBuckets implements Buckets {
  readonly #metadata: Metadata
  readonly #defaultAck: AckLevel
  readonly #acknowledgement: Acknowledgement

  constructor(parts: { metadata: Metadata; acknowledgement: Acknowledgement; defaultAck: AckLevel }) {
    this.#metadata = parts.metadata
    this.#defaultAck = parts.defaultAck
    this.#acknowledgement = parts.acknowledgement
  }

  async create(request: {
    name: string
    owner: string
    region: string
    ack?: AckLevel | undefined
  }): Promise<BucketRecord> {
    const ack = this.#acknowledgement.checked(request.ack ?? this.#defaultAck)
    const commit = await this.#metadata.createBucket({ ...request, ack })
    await commit.durable
    return commit.value
  }

  get(name: string): Promise<BucketRecord> {
    return this.#metadata.bucket(name)
  }

  list(request: { prefix: string; after: string; limit: number }): Promise<BucketRecord[]> {
    return this.#metadata.listBuckets(request)
  }

  async delete(name: string): Promise<void> {
    await (
      await this.#metadata.deleteBucket(name)
    ).durable
  }

  async setVersioning(name: string, versioning: Exclude<Versioning, 'off'>): Promise<void> {
    await (
      await this.#metadata.setVersioning(name, versioning)
    ).durable
  }
}
