/** A namespace over a store in memory (or in etcd, if the switch says so), with short forms of the calls that tests make often. */
import { newSegmentId, type ContentId, type SegmentId } from '../../../../src/common/ids.ts'
import type { Clock } from '../../../../src/common/clock.ts'
import { DEFAULT_LIMITS } from '../../../../src/common/limits.ts'
import type { Conditions, ObjectAttributes, ObjectVersion, StoredRun } from '../../../../src/common/model.ts'
import type { MemoryStoreOptions } from '../../../../src/meta/memory/memory-store.ts'
import { createNamespace, type Namespace, type NamespaceOptions } from '../../../../src/meta/namespace/namespace.ts'
import type { PublishRequest } from '../../../../src/meta/namespace/publish.ts'
import type { OrderedStore } from '../../../../src/meta/ports.ts'
import type { EmbeddedStore } from '../../../../src/meta/stage/ports.ts'
import { newStore } from '../../../support/metadata-store.ts'

export const OWNER = 'owner'

export const PLAIN: ObjectAttributes = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }

export class TestClock implements Clock {
  ms = 1_700_000_000_000

  nowMs(): number {
    return this.ms
  }

  monotonicMs(): number {
    return this.ms
  }

  sleep(): Promise<void> {
    return Promise.resolve()
  }
}

export interface Fixture {
  readonly store: OrderedStore
  readonly namespace: Namespace
  readonly clock: TestClock
  readonly segment: SegmentId
  readonly bucket: (name: string, versioning?: 'enabled' | 'suspended') => Promise<void>
  readonly put: (bucket: string, key: string, options?: PutOptions) => Promise<ObjectVersion>
  /** A body that the journal has written. */
  readonly run: (length: number) => Promise<StoredRun>
  readonly remove: (bucket: string, key: string, versionId?: string) => ReturnType<Namespace['remove']>
  /** Reclaims all that can be. */
  /** Steps of the expirer until nothing is left to do. Returns what each of them removed. */
  readonly expireAll: () => Promise<number[]>
  readonly reclaim: () => Promise<SegmentId[]>
  readonly stop: () => Promise<void>
}

export interface PutOptions {
  readonly bytes?: string
  readonly run?: StoredRun
  readonly conditions?: Conditions
  readonly etag?: string
  readonly attributes?: ObjectAttributes
  readonly ack?: PublishRequest['ack']
  readonly ttlMs?: number
}

export async function fixture(options: MemoryStoreOptions = {}, more: MoreOptions = {}): Promise<Fixture> {
  return await fixtureOn(await newStore(options), more)
}

type MoreOptions = Partial<Pick<NamespaceOptions, 'files' | 'limits'>>

/** Over a store that was not started yet. */
export async function fixtureOn(store: EmbeddedStore, more: MoreOptions = {}): Promise<Fixture> {
  await store.start()
  const clock = new TestClock()
  const namespace = createNamespace({
    store,
    clock,
    limits: DEFAULT_LIMITS,
    nodeNumber: store.isShared ? 1 : undefined,
    ...more,
  })
  const segment = newSegmentId(clock.ms)
  await namespace.segmentOpened(segment)
  let written = 0
  return {
    store,
    namespace,
    clock,
    segment,
    bucket: async (name, versioning) => {
      await namespace.createBucket({ name, owner: OWNER, region: 'us-east-1', ack: 'journal' })
      if (versioning) await namespace.setVersioning(name, versioning)
    },
    put: async (bucket, key, put = {}) => (await namespace.publish(publishRequest(bucket, key, put))).value,
    run: async (length) => {
      const content: ContentId = await namespace.allocateContentId()
      const run = { content, segment, segmentOffset: written, length }
      written += length
      return run
    },
    remove: (bucket, key, versionId) => namespace.remove({ bucket, key, versionId, conditions: {}, owner: OWNER }),
    expireAll: async () => {
      const steps: number[] = []
      for (;;) {
        const { expired } = (await namespace.expire()).value
        if (expired === 0) return steps
        steps.push(expired)
      }
    },
    reclaim: async () => {
      const emptied: SegmentId[] = []
      for (let quiet = 0; quiet < 2;) {
        await namespace.flush()
        const { value } = await namespace.dismantle(namespace.revision())
        emptied.push(...value.emptied)
        quiet = value.steps === 0 ? quiet + 1 : 0
      }
      return emptied
    },
    stop: () => store.stop(),
  }
}

export function publishRequest(bucket: string, key: string, put: PutOptions = {}): PublishRequest {
  const bytes = Buffer.from(put.bytes ?? '')
  return {
    bucket,
    key,
    body: put.run ? { kind: 'run', run: put.run } : { kind: 'inline', bytes },
    size: put.run?.length ?? bytes.length,
    etag: put.etag ?? '0123456789abcdef0123456789abcdef',
    owner: OWNER,
    attributes: put.attributes ?? PLAIN,
    checksum: undefined,
    conditions: put.conditions ?? {},
    ack: put.ack ?? 'journal',
    ttlMs: put.ttlMs,
  }
}
