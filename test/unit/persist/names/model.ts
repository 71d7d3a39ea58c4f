/**
 * A namespace, its remote store and the names stream between them, moved by one seeded random source; and what a restore would find at any
 * moment. Segments are only their ids here: which of them are in the remote store is a set.
 */
import type { Clock } from '../../../../src/common/clock.ts'
import { newSegmentId, type ByteString, type Revision, type SegmentId } from '../../../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../../../src/common/limits.ts'
import { MemoryBackend, MemoryDisk } from '../../../../src/meta/memory/memory-backend.ts'
import { createMemoryStore } from '../../../../src/meta/memory/memory-store.ts'
import { CONTENTS } from '../../../../src/meta/namespace/keys.ts'
import { NAMES_KEY_LOG } from '../../../../src/meta/namespace/names-source.ts'
import { createNamespace, type Namespace } from '../../../../src/meta/namespace/namespace.ts'
import { decodeContent } from '../../../../src/meta/namespace/records-contents.ts'
import type { DurableRows, EmbeddedStore } from '../../../../src/meta/stage/ports.ts'
import { NamesStream } from '../../../../src/persist/names/names-stream.ts'
import type { NamesState } from '../../../../src/persist/names/chain.ts'
import { newestState } from '../../../../src/persist/names/chain.ts'
import { stateRows, readRecords } from '../../../../src/persist/names/read-names.ts'
import { listNames, namesOfBackup } from '../../../../src/persist/names/read-states.ts'
import { FaultyStore } from '../../../../src/persist/remote/faulty-store.ts'
import { MemoryStore, type RemoteObjects } from '../../../../src/persist/remote/memory-store.ts'
import { publishRequest } from '../../meta/namespace/fixture.ts'

export const LINEAGE = 'c'.repeat(32)

export type Rows = Map<ByteString, string>

/** Moves only when told; a sleep of no time is over in a turn. */
export class ModelClock implements Clock {
  ms = 1_700_000_000_000

  nowMs(): number {
    return this.ms
  }

  monotonicMs(): number {
    return this.ms
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (ms === 0) return Promise.resolve()
    return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)))
  }
}

export function mulberry(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export class Model {
  readonly clock = new ModelClock()
  readonly random: () => number
  readonly objects: RemoteObjects = new Map()
  /** Segments in the remote store. */
  readonly arrived = new Set<SegmentId>()
  /** Not there: open or sealed. */
  readonly local = new Set<SegmentId>()
  readonly emptied = new Map<SegmentId, Revision>()
  /** All names at each durable revision that a capture may have seen. */
  readonly seen = new Map<Revision, Rows>()
  readonly acknowledged: { key: string; revision: Revision }[] = []
  readonly options: {
    deltaBytesMax?: number
    basedOnBytesMin?: number
    logBytesMax?: number
    intervalMs?: number
    backupIntervalMs?: number
    backupsKept?: number
    heldSinceMs?: number
  }
  /** What a look at the marker says. */
  held: () => Promise<void> = () => Promise.resolve()
  /** In the turn of each capture. */
  atCapture: () => void = () => undefined
  remote!: FaultyStore
  namespace!: Namespace
  stream!: NamesStream
  open!: SegmentId
  #disk = new MemoryDisk()
  #backend!: MemoryBackend
  #store!: EmbeddedStore
  #waiting: Promise<unknown>[] = []

  constructor(seed: number, options: Model['options'] = {}) {
    this.random = mulberry(seed)
    this.options = options
  }

  async start(): Promise<void> {
    this.#backend = new MemoryBackend({ disk: this.#disk })
    const bytesMax = this.options.logBytesMax ?? NAMES_KEY_LOG.bytesMax
    const store = createMemoryStore({ backend: this.#backend, keyLog: { ...NAMES_KEY_LOG, bytesMax } })
    this.#store = store
    await store.start()
    const readDurable = store.readDurable.bind(store)
    store.readDurable = (fn) =>
      readDurable((view) => {
        this.#remember(view)
        return fn(view)
      })
    const clock = this.clock
    this.namespace = createNamespace({ store, clock, limits: DEFAULT_LIMITS, fillRandom: (bytes) => this.#fill(bytes) })
    const inner = new MemoryStore({ clock, fileSystem: undefined as never, objects: this.objects })
    this.remote = new FaultyStore(inner, { clock, random: this.random })
    const { deltaBytesMax, basedOnBytesMin, intervalMs = 1000, backupIntervalMs = 0, backupsKept = 3 } = this.options
    const { names } = this.namespace
    this.stream = new NamesStream({
      source: {
        ...names,
        delta: (after, bytes, captured) =>
          names.delta(after, bytes, (segments) => {
            captured?.(segments)
            this.atCapture()
          }),
      },
      remote: this.remote,
      lineage: LINEAGE,
      clock,
      fillRandom: (bytes) => this.#fill(bytes),
      intervalMs,
      backupIntervalMs,
      backupsKept,
      waitMsMax: 60_000,
      mayDelete: () => Promise.resolve(true),
      held: () => this.held(),
      heldSinceMs: () => this.options.heldSinceMs ?? 1,
      onFailure: () => undefined,
      ...(deltaBytesMax !== undefined && { deltaBytesMax }),
      ...(basedOnBytesMin !== undefined && { basedOnBytesMin }),
    })
    const known = await this.namespace.bucket('bucket').catch(() => undefined)
    if (!known) await this.namespace.createBucket({ name: 'bucket', owner: 'o', region: 'r', ack: 'journal' })
    await this.openSegment()
  }

  #remember(view: DurableRows): void {
    if (!this.seen.has(view.revision)) this.seen.set(view.revision, namesIn(view))
  }

  #fill(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at++) bytes[at] = Math.floor(this.random() * 256)
  }

  /** The node dies, and another starts from its disk. */
  async crash(disk?: MemoryDisk): Promise<void> {
    await this.namespace.flush()
    const left = this.#backend.crash(() => this.random() < 0.5)
    this.#disk = disk ?? left
    this.#waiting = []
    await this.start()
  }

  /** What a file-system snapshot of the data directory holds. */
  async snapshot(): Promise<MemoryDisk> {
    await this.namespace.flush()
    const copy = new MemoryDisk()
    copy.write([this.#disk.rows.rows])
    return copy
  }

  /** The node dies, and another starts from the snapshot. */
  async putBack(snapshot: MemoryDisk): Promise<void> {
    await this.crash(snapshot)
  }

  async openSegment(): Promise<void> {
    this.open = newSegmentId(this.clock.ms, (bytes) => this.#fill(bytes))
    this.local.add(this.open)
    await this.namespace.segmentOpened(this.open)
  }

  async put(key: string, kind: 'inline' | 'run'): Promise<Revision> {
    const run = {
      content: kind === 'run' ? await this.namespace.allocateContentId() : 0,
      segment: this.open,
      segmentOffset: Math.floor(this.random() * 1e6),
      length: 1 + Math.floor(this.random() * 1000),
    }
    const commit = await this.namespace.publish(
      publishRequest('bucket', key, kind === 'run' ? { run } : { bytes: `bytes ${this.random()}` }),
    )
    return commit.revision
  }

  async putBytes(key: string, bytes: string): Promise<void> {
    await this.namespace.publish(publishRequest('bucket', key, { bytes }))
  }

  /** With ack `persisted`, as the store does it: the segment first, then the name. */
  async putPersisted(key: string): Promise<void> {
    const revision = await this.put(key, this.random() < 0.5 ? 'run' : 'inline')
    await this.namespace.flush()
    if (this.random() < 0.9) await this.persist(this.open)
    if (this.local.has(this.open)) return
    const named = this.stream.named({ bucket: 'bucket', key, inode: 0, revision }).then(
      () => this.acknowledged.push({ key, revision }),
      () => undefined,
    )
    this.#waiting.push(named)
    await this.openSegment()
  }

  async persist(segment: SegmentId): Promise<void> {
    if (!this.local.delete(segment)) return
    await this.namespace.segmentChanged(segment, 'sealed', 1000)
    this.arrived.add(segment)
    await this.namespace.segmentChanged(segment, 'persisted', 1000)
    await this.namespace.flush()
    if (segment === this.open) await this.openSegment()
  }

  async reclaim(): Promise<void> {
    await this.namespace.flush()
    const { value, revision } = await this.namespace.dismantle(this.namespace.revision())
    for (const segment of value.emptied) this.emptied.set(segment, revision)
    await this.namespace.flush()
    for (const [segment, emptiedAt] of this.emptied) {
      const record = await this.namespace.segment(segment)
      if (!record || record.liveBytes > 0 || segment === this.open) {
        this.emptied.delete(segment)
        continue
      }
      if (record.state === 'persisted' ? !this.stream.mayRemove(segment, emptiedAt) : this.stream.holds(segment))
        continue
      this.emptied.delete(segment)
      this.arrived.delete(segment)
      this.local.delete(segment)
      await this.namespace.segmentRemoved(segment)
    }
  }

  /** What a restore would find now: checked against what there was, and against the segments that have arrived. */
  async check(): Promise<NamesState | undefined> {
    const remote = new MemoryStore({
      clock: this.clock,
      fileSystem: undefined as never,
      objects: new Map(this.objects),
    })
    const state = newestState(await listNames(remote))
    if (state) await checkState(this, remote, state)
    for (const { id } of this.stream.backups.list()) {
      const found = await remote.get(`backups/${id}.json`, 1e9)
      if (!found) continue
      const { decodeManifest } = await import('../../../../src/persist/names/manifest.ts')
      const { state: backedUp } = namesOfBackup(decodeManifest(found.bytes, id))
      if (!backedUp) throw new Error(`backup ${id} makes no state`)
      await checkState(this, remote, backedUp)
    }
    return state
  }

  /** Acknowledged writes that neither the newest state nor its records tell. */
  async unnamed(): Promise<string[]> {
    const remote = new MemoryStore({
      clock: this.clock,
      fileSystem: undefined as never,
      objects: new Map(this.objects),
    })
    return await unnamedWrites(this, remote)
  }

  async settle(): Promise<void> {
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
  }

  async stop(): Promise<void> {
    await this.stream.stop()
    await Promise.all(this.#waiting)
    await this.#store.stop()
  }
}

interface Told {
  readonly seen: ReadonlyMap<Revision, Rows>
  readonly arrived: ReadonlySet<SegmentId>
  readonly acknowledged: readonly { readonly key: string; readonly revision: Revision }[]
}

/** What a state holds, against what there was at its revision and which bytes have arrived. */
export async function checkState({ seen, arrived }: Told, remote: MemoryStore, state: NamesState): Promise<void> {
  const rows: Rows = new Map()
  for await (const some of stateRows(remote, state)) {
    for (const { key, value } of some.rows) {
      if (value) rows.set(key, Buffer.from(value).toString('hex'))
      else rows.delete(key)
    }
  }
  const expected = seen.get(state.revision)
  if (!expected) throw new Error(`nobody has seen revision ${state.revision}`)
  const wrong = differences(rows, expected)
  if (wrong.length > 0) throw new Error(`revision ${state.revision}: ${wrong.slice(0, 5).join(', ')}`)
  for (const [key, value] of rows) {
    if (!key.startsWith(CONTENTS)) continue
    const content = decodeContent(Buffer.from(value, 'hex'))
    if (content.kind === 'leaf' && !arrived.has(content.segment)) {
      throw new Error(`revision ${state.revision} names bytes in ${content.segment}, which is not there`)
    }
  }
}

/** Acknowledged writes that neither the newest state nor its records tell. */
export async function unnamedWrites({ arrived, acknowledged }: Told, remote: MemoryStore): Promise<string[]> {
  const objects = await listNames(remote)
  const state = newestState(objects)
  const records = new Map<string, Revision>()
  for (const object of objects) {
    if (object.kind !== 'records') continue
    for (const { key, revision, extents } of await readRecords(remote, object, state?.revision ?? 0)) {
      if (revision <= (state?.revision ?? 0)) continue
      records.set(key, Math.max(revision, records.get(key) ?? 0))
      for (const { segment } of extents) if (!arrived.has(segment)) throw new Error(`a record names ${segment}`)
    }
  }
  return acknowledged
    .filter(({ key, revision }) => revision > (state?.revision ?? 0) && (records.get(key) ?? 0) < revision)
    .map(({ key, revision }) => `${key}@${revision}`)
}

export function namesIn(view: DurableRows): Rows {
  const rows: Rows = new Map()
  for (const { key, value } of view.scan({ start: '\0' as ByteString, end: '\xff' as ByteString }, 1e9)) {
    if (NAMES_KEY_LOG.includes(key)) rows.set(key, Buffer.from(value).toString('hex'))
  }
  return rows
}

function differences(found: Rows, expected: Rows): string[] {
  const wrong: string[] = []
  const show = (key: string): string => JSON.stringify(key)
  for (const [key, value] of expected) if (found.get(key) !== value) wrong.push(`${show(key)} is not as it was`)
  for (const key of found.keys()) if (!expected.has(key)) wrong.push(`${show(key)} should not be there`)
  return wrong
}
