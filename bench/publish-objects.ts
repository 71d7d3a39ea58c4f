/**
 * Fills buckets quickly: through the metadata layer, into the data directory of a gateway that has been stopped. The
 * objects are what PUTs of 16 bytes would have left, since bodies so small lie in their inode records.
 */
import { randomFillSync } from 'node:crypto'
import { join } from 'node:path'
import { systemClock } from '../src/common/clock.ts'
import { DEFAULT_LIMITS } from '../src/common/limits.ts'
import { createLmdbStore } from '../src/meta/lmdb/lmdb-store.ts'
import { createNamespace, type Namespace } from '../src/meta/namespace/namespace.ts'

export interface ObjectSet {
  readonly bucket: string
  readonly key: (number: number) => string
  readonly count: number
}

const IN_FLIGHT = 500
const BODY = Buffer.alloc(16, 0x61)
const BODY_MD5 = '23ca472302f49b3ea5592b146a312da0'

/** Every bucket must be there already. */
export async function publishObjects(data: string, sets: readonly ObjectSet[]): Promise<void> {
  const store = createLmdbStore({ directory: join(data, 'meta') })
  const limits = DEFAULT_LIMITS
  const namespace = createNamespace({ store, clock: systemClock, limits, fillRandom: randomFillSync })
  await store.start()
  for (const set of sets) {
    for (let from = 0; from < set.count; from += IN_FLIGHT) {
      const length = Math.min(IN_FLIGHT, set.count - from)
      await Promise.all(Array.from({ length }, (_, index) => publish(namespace, set.bucket, set.key(from + index))))
    }
  }
  await store.flush()
  await store.drain()
  await store.stop()
}

async function publish(namespace: Namespace, bucket: string, key: string): Promise<void> {
  const committed = await namespace.publish({
    bucket,
    key,
    body: { kind: 'inline', bytes: BODY },
    size: BODY.length,
    etag: BODY_MD5,
    owner: 'root',
    attributes: { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' },
    checksum: undefined,
    conditions: {},
    ack: 'memory',
  })
  committed.durable.catch(() => undefined)
}
