/**
 * Nodes that share a namespace over etcd in memory, and one remote store; moved by one seeded random source. A node can be paused in the middle of whatever it asks of the
 * remote store. And what a restore would find at any moment, checked against what there was. Segments are only their ids here.
 */
import { systemClock, type Clock } from '../../../../../src/common/clock.ts'
import { newSegmentId, type Revision, type SegmentId } from '../../../../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../../../../src/common/limits.ts'
import { MemoryBackend } from '../../../../../src/meta/memory/memory-backend.ts'
import { NAMES_KEY_LOG } from '../../../../../src/meta/namespace/names-source.ts'
import { createNamespace, type Namespace } from '../../../../../src/meta/namespace/namespace.ts'
import { createEtcdStore } from '../../../../../src/meta/raft/etcd-store.ts'
import type { EmbeddedStore } from '../../../../../src/meta/stage/ports.ts'
import { newestState, type NamesState } from '../../../../../src/persist/names/chain.ts'
import { decodeManifest } from '../../../../../src/persist/names/manifest.ts'
import { listNames, namesOfBackup } from '../../../../../src/persist/names/read-states.ts'
import { SharedNames } from '../../../../../src/persist/names/shared/shared-names.ts'
import { MemoryStore, type RemoteObjects } from '../../../../../src/persist/remote/memory-store.ts'
import type { RemoteStore } from '../../../../../src/persist/remote/ports.ts'
import { FakeEtcd } from '../../../../support/fake-etcd.ts'
import { publishRequest } from '../../../meta/namespace/fixture.ts'
import { LINEAGE, checkState, mulberry, namesIn, unnamedWrites, type Rows } from '../model.ts'

/** Time passes when the test says so; a short sleep is short, a long one ends with its signal. */
class JumpingClock implements Clock {
  ms = 1_700_000_000_000

  nowMs(): number {
    return this.ms
  }

  monotonicMs(): number {
    return this.ms
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (ms < 10_000) return systemClock.sleep(0, signal)
    return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)))
  }
}

export interface SharedNode {
  readonly number: number
  readonly namespace: Namespace
  readonly names: SharedNames
  readonly store: EmbeddedStore
  readonly incarnation: string
  open: SegmentId
  readonly emptied: Map<SegmentId, Revision>
  /** What it asks of the remote store waits for that. */
  gate: PromiseWithResolvers<void> | undefined
  round: Promise<unknown> | undefined
}

export class SharedModel {
  readonly clock = new JumpingClock()
  readonly random: () => number
  readonly objects: RemoteObjects = new Map()
  readonly arrived = new Set<SegmentId>()
  readonly local = new Map<SegmentId, SharedNode>()
  readonly seen = new Map<Revision, Rows>()
  readonly acknowledged: { key: string; revision: Revision }[] = []
  readonly alive = new Set<string>()
  readonly nodes = new Map<number, SharedNode>()
  readonly etcd = new FakeEtcd({ clock: systemClock })
  readonly #waiting: Promise<unknown>[] = []
  readonly #options: { readonly basedOnBytesMin?: number; readonly deltaBytesMax?: number }
  #started = 0

  constructor(seed: number, options: { basedOnBytesMin?: number; deltaBytesMax?: number } = {}) {
    this.random = mulberry(seed)
    this.#options = options
  }

  fill(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at++) bytes[at] = Math.floor(this.random() * 256)
  }

  /** With an empty copy of the rows, or the one that it had. */
  async start(number: number, replica: MemoryBackend = new MemoryBackend()): Promise<SharedNode> {
    const client = this.etcd.client()
    await client.start()
    const store = createEtcdStore({ etcd: client, node: number, replica, clock: systemClock, keyLog: NAMES_KEY_LOG })
    await store.start()
    const readDurable = store.readDurable.bind(store)
    store.readDurable = (fn) =>
      readDurable((view) => {
        if (!this.seen.has(view.revision)) this.seen.set(view.revision, namesIn(view))
        return fn(view)
      })
    const { clock } = this
    const fillRandom = (bytes: Uint8Array): void => this.fill(bytes)
    const namespace = createNamespace({ store, clock, limits: DEFAULT_LIMITS, nodeNumber: number, fillRandom })
    await namespace.join()
    const incarnation = `${number}-${++this.#started}`
    const gated = (): Promise<void> => this.nodes.get(number)?.gate?.promise ?? Promise.resolve()
    const names = new SharedNames({
      source: namespace.names,
      rows: namespace.names.holding,
      nodes: { incarnation, isAlive: (_, other) => this.alive.has(other) },
      remote: behindGate(new MemoryStore({ clock, fileSystem: undefined as never, objects: this.objects }), gated),
      lineage: LINEAGE,
      clock,
      fillRandom,
      intervalMs: 1000,
      backupIntervalMs: 0,
      backupsKept: 3,
      waitMsMax: 60_000,
      mayDelete: () => Promise.resolve(true),
      held: () => Promise.resolve(),
      heldSinceMs: () => 1,
      onFailure: () => undefined,
      ...this.#options,
    })
    const open = await this.#newSegment(namespace)
    const node = {
      number,
      namespace,
      names,
      store,
      incarnation,
      open,
      emptied: new Map(),
      gate: undefined,
      round: undefined,
    }
    this.local.set(open, node)
    this.nodes.set(number, node)
    this.alive.add(incarnation)
    return node
  }

  /** Another process takes over the node, with nothing of what it had but its segments. */
  async restart(node: SharedNode): Promise<SharedNode> {
    this.resume(node)
    await node.names.stop()
    await node.store.stop()
    const again = await this.start(node.number)
    for (const [segment, owner] of this.local) if (owner === node) this.local.set(segment, again)
    return again
  }

  async #newSegment(namespace: Namespace): Promise<SegmentId> {
    const segment = newSegmentId(this.clock.ms, (bytes) => this.fill(bytes))
    await namespace.segmentOpened(segment)
    return segment
  }

  async openSegment(node: SharedNode): Promise<void> {
    node.open = await this.#newSegment(node.namespace)
    this.local.set(node.open, node)
  }

  async put(node: SharedNode, key: string): Promise<Revision> {
    const isRun = this.random() < 0.6
    const run = {
      content: isRun ? await node.namespace.allocateContentId() : 0,
      segment: node.open,
      segmentOffset: Math.floor(this.random() * 1e6),
      length: 1 + Math.floor(this.random() * 1000),
    }
    const body = isRun ? { run } : { bytes: `bytes ${this.random()}` }
    return (await node.namespace.publish(publishRequest('bucket', key, body))).revision
  }

  async remove(node: SharedNode, key: string): Promise<void> {
    await node.namespace.remove({ bucket: 'bucket', key, conditions: {}, owner: 'o' })
  }

  /** As the store does it: the segment first, then the name. */
  async putPersisted(node: SharedNode, key: string): Promise<void> {
    const revision = await this.put(node, key)
    await this.persist(node.open)
    const named = node.names.named({ bucket: 'bucket', key, inode: 0, revision }).then(
      () => this.acknowledged.push({ key, revision }),
      () => undefined,
    )
    this.#waiting.push(named)
  }

  async persist(segment: SegmentId): Promise<void> {
    const node = this.local.get(segment)
    if (!node) return
    this.local.delete(segment)
    await node.namespace.segmentChanged(segment, 'sealed', 1000)
    this.arrived.add(segment)
    await node.namespace.segmentChanged(segment, 'persisted', 1000)
    if (segment === node.open) await this.openSegment(node)
  }

  /** As the reclaimer does it. */
  async reclaim(node: SharedNode): Promise<void> {
    const { namespace, names, emptied } = node
    const { value, revision } = await namespace.dismantle(namespace.revision())
    for (const segment of value.emptied) emptied.set(segment, revision)
    for (const { segment, liveBytes } of await namespace.segments(undefined, 1000))
      if (liveBytes === 0 && !emptied.has(segment)) emptied.set(segment, namespace.revision())
    for (const [segment, emptiedAt] of emptied) {
      const record = await namespace.segment(segment)
      if (!record || record.liveBytes > 0 || segment === node.open) {
        emptied.delete(segment)
        continue
      }
      if (record.state === 'persisted' ? !names.mayRemove(segment, emptiedAt) : names.holds(segment)) continue
      emptied.delete(segment)
      this.arrived.delete(segment)
      this.local.delete(segment)
      await namespace.segmentRemoved(segment)
    }
  }

  /** Not waited for where the node is paused. */
  async round(node: SharedNode): Promise<void> {
    node.round ??= node.names
      .round()
      .catch(() => undefined)
      .finally(() => (node.round = undefined))
    await (node.gate ? systemClock.sleep(2) : node.round)
  }

  pause(node: SharedNode): void {
    node.gate ??= Promise.withResolvers<void>()
  }

  resume(node: SharedNode): void {
    node.gate?.resolve()
    node.gate = undefined
  }

  /** Its process is not among the nodes any more, though it may go on. */
  vanish({ incarnation }: SharedNode): void {
    this.alive.delete(incarnation)
  }

  get holders(): SharedNode[] {
    return [...this.nodes.values()].filter(({ names }) => names.isHolder)
  }

  async persistAll(): Promise<void> {
    // Each opens another.
    const segments = [...this.local.keys()]
    for (const segment of segments) await this.persist(segment)
  }

  store(): MemoryStore {
    return new MemoryStore({ clock: this.clock, fileSystem: undefined as never, objects: new Map(this.objects) })
  }

  /** What a restore would find now: the newest state, and each backup. */
  async check(): Promise<NamesState | undefined> {
    const remote = this.store()
    const state = newestState(await listNames(remote))
    if (state) await checkState(this, remote, state)
    for (const [name, { bytes }] of remote.objects) {
      if (!name.startsWith('backups/')) continue
      const { state: backedUp } = namesOfBackup(decodeManifest(bytes, name.slice('backups/'.length, -'.json'.length)))
      if (!backedUp) throw new Error(`${name} makes no state`)
      await checkState(this, remote, backedUp)
    }
    return state
  }

  /** Acknowledged writes that neither the newest state nor its records tell. */
  unnamed(): Promise<string[]> {
    // What is acknowledged while this looks may rest on what it does not see.
    const { seen, arrived } = this
    return unnamedWrites({ seen, arrived, acknowledged: [...this.acknowledged] }, this.store())
  }

  async stop(): Promise<void> {
    for (const node of this.nodes.values()) {
      this.resume(node)
      await node.names.stop()
      await node.store.stop()
    }
    await Promise.all(this.#waiting)
  }
}

function behindGate(store: MemoryStore, gated: () => Promise<void>): RemoteStore {
  return new Proxy<RemoteStore>(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      const call = value.bind(target) as (...given: unknown[]) => unknown
      if (name !== 'put' && name !== 'remove' && name !== 'list' && name !== 'get') return call
      return async (...given: unknown[]): Promise<unknown> => {
        await gated()
        return await call(...given)
      }
    },
  })
}
