/** An attached bucket over a store in memory, and an "outside" that is a map. */
import type { AttachmentRecord } from '../../../../../src/common/external.ts'
import { DEFAULT_LIMITS } from '../../../../../src/common/limits.ts'
import { createMemoryStore, type MemoryStoreOptions } from '../../../../../src/meta/memory/memory-store.ts'
import type { AttachedNames } from '../../../../../src/meta/namespace/attached/attached-names.ts'
import type { DirtyChange, Scope, SeenPage } from '../../../../../src/meta/namespace/attached/types.ts'
import { decodeDirty, dirtyPrefix, type DirtyRecord } from '../../../../../src/meta/namespace/attached/rows.ts'
import { UNLISTED } from '../../../../../src/meta/namespace/attached/rows.ts'
import { prefixRange } from '../../../../../src/meta/namespace/keys.ts'
import { createNamespace, type Namespace } from '../../../../../src/meta/namespace/namespace.ts'
import type { EmbeddedStore } from '../../../../../src/meta/stage/ports.ts'
import type { PutOptions } from '../fixture.ts'
import { OWNER, PLAIN, TestClock } from '../fixture.ts'

export const BUCKET = 'bucket'
export const LISTING_TTL_MS = 60_000
export const OUTSIDE_MODIFIED_MS = 1_600_000_000_000

export interface OutsideObject {
  readonly etag: string
  readonly size: number
}

export interface AttachedFixture {
  readonly store: EmbeddedStore
  readonly clock: TestClock
  readonly namespace: Namespace
  readonly mirror: AttachedNames
  readonly attachment: AttachmentRecord
  /** Keys in the order of their UTF-8, which for the tests' is that of their UTF-16. */
  readonly outside: Map<string, OutsideObject>
  readonly told: DirtyChange[]
  put(key: string, options?: PutOptions): Promise<void>
  /** A page of what is outside, as a listing would tell it now. */
  page(scope: Scope, options?: { prefix?: string; after?: string; limit?: number }): SeenPage
  list(prefix?: string): Promise<string[]>
  /** Directories and objects of the whole bucket. */
  tree(): Promise<string[]>
  dirty(): Promise<DirtyRecord[]>
  unlisted(): Promise<number>
  stop(): Promise<void>
}

export const DEEP: Scope = { kind: 'deep' }

export function shallow(directory: string): Scope {
  return { kind: 'shallow', directory }
}

export async function attachedFixture(options: MemoryStoreOptions = {}): Promise<AttachedFixture> {
  const store = createMemoryStore(options)
  await store.start()
  return attachedFixtureOn(store)
}

export async function attachedFixtureOn(store: EmbeddedStore): Promise<AttachedFixture> {
  const clock = new TestClock()
  const limits = DEFAULT_LIMITS
  const namespace = createNamespace({ store, clock, limits })
  const mirror = namespace.attached
  const { value: attachment } = await mirror.attach({
    bucket: BUCKET,
    owner: OWNER,
    region: 'us-east-1',
    ack: 'journal',
    attachment: {
      url: 's3://elsewhere/prefix?endpoint=http://127.0.0.1:1&region=us-east-1',
      conflicts: 'fail',
      ttlMs: 1000,
      listingTtlMs: LISTING_TTL_MS,
      compareIntervalMs: 0,
      attachedMs: clock.ms,
    },
  })
  const told: DirtyChange[] = []
  mirror.onDirty((changes) => told.push(...changes))
  const outside = new Map<string, OutsideObject>()
  return {
    store,
    clock,
    namespace,
    mirror,
    attachment,
    outside,
    told,
    async put(key, { bytes = 'local', etag = `local-${key}` } = {}) {
      await namespace.publish({
        bucket: BUCKET,
        key,
        body: { kind: 'inline', bytes: Buffer.from(bytes) },
        size: bytes.length,
        etag,
        owner: OWNER,
        attributes: PLAIN,
        checksum: undefined,
        conditions: {},
        ack: 'journal',
      })
    },
    page: (scope, asked = {}) => ({
      ...listed(outside, scope, asked),
      bucketId: attachment.bucketId,
      askedAt: store.revision(),
      askedAtMs: clock.ms,
    }),
    async list(prefix = '') {
      const page = await namespace.list({ bucket: BUCKET, prefix, delimiter: '', after: '', limit: 1000 })
      return page.objects.map(({ key }) => key)
    },
    tree: () => treeOf(namespace, ''),
    dirty: () =>
      store.read(async (view) => {
        const rows = await view.scan(prefixRange(dirtyPrefix(attachment.bucketId)), 10_000)
        return rows.map(({ key, value }) => decodeDirty(key, value))
      }),
    unlisted: () => store.read(async (view) => (await view.scan(prefixRange(UNLISTED), 10_000)).length),
    stop: () => store.stop(),
  }
}

/** As a store lists: keys after `after`, and with a directory its common prefixes. */
function listed(
  outside: ReadonlyMap<string, OutsideObject>,
  scope: Scope,
  asked: { prefix?: string; after?: string; limit?: number },
): Pick<SeenPage, 'scope' | 'prefix' | 'after' | 'through' | 'objects' | 'prefixes'> {
  const directory = scope.kind === 'shallow' ? scope.directory : ''
  const { prefix = directory, after = '', limit = 1000 } = asked
  const objects: SeenPage['objects'][number][] = []
  const prefixes: string[] = []
  let last = ''
  for (const [key, { etag, size }] of [...outside].sort(([one], [other]) => (one < other ? -1 : 1))) {
    if (!key.startsWith(prefix)) continue
    const slash = scope.kind === 'shallow' ? key.indexOf('/', prefix.length) : -1
    const name = slash < 0 ? key : key.slice(0, slash + 1)
    if (name <= after || name === last) continue
    if (objects.length + prefixes.length === limit) return { scope, prefix, after, through: last, objects, prefixes }
    last = name
    if (slash < 0) objects.push({ key, etag, size, modifiedMs: OUTSIDE_MODIFIED_MS, storageClass: 'STANDARD' })
    else prefixes.push(name)
  }
  return { scope, prefix, after, through: undefined, objects, prefixes }
}

async function treeOf(namespace: Namespace, prefix: string): Promise<string[]> {
  const found: string[] = []
  const page = await namespace.list({ bucket: BUCKET, prefix, delimiter: '/', after: '', limit: 1000 })
  for (const { key } of page.objects) found.push(key)
  for (const directory of page.commonPrefixes) found.push(directory, ...(await treeOf(namespace, directory)))
  return found.sort()
}
