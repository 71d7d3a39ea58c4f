/**
 * Which nodes there are: each keeps a row of its own alive by a lease, and follows all of them.
 *
 * **The own row** is put when the register starts, again whenever it is found missing or different (its lease ran out while etcd could not be reached, etcd was restored), and removed at the stop. A row of
 * another process with the same number is left alone: that one came later, and this one learns so from its session (session.ts).
 *
 * **The others'** are followed by a watch, and looked at as a whole now and then, and whenever the watch begins anew. A row that the watch shows to go is gone. One that is missing when all are looked at,
 * though nobody was seen to remove it, may be missing only because etcd was restored, or this node was blind: so it counts until it has been missing for as long as a lease. While etcd
 * cannot be reached nothing changes: that this node sees nobody does not mean that they are gone.
 *
 * This node itself is always in its view, as it says it is.
 */
import type { Clock } from '../../../common/clock.ts'
import type { Revision } from '../../../common/ids.ts'
import type { NodeMember, NodeView } from '../../../common/node-view.ts'
import { onlyKey, type EtcdLayout } from '../layout.ts'
import { EtcdFailure, type Etcd, type LeaseId, type WatchedChange } from '../ports.ts'
import { unavailable } from '../words.ts'
import { decodeMember, encodeMember } from './member-row.ts'

const LEASE_SECONDS = 10
/** The lease is kept, and the own row looked at, three times in its life. */
const KEEP_MS = 3_000
/** All rows are looked at, whatever the watch says. */
const LOOK_MS = 10_000
const RETRY_MS = 500
/** Who tells etcd something on the way to its end waits no longer than this: there may be no majority any more, and never again. */
const TELL_MS_MAX = 2_000

type Look = 'anew' | 'beside the watch'

export interface NodeRegisterOptions {
  readonly etcd: Etcd
  readonly layout: EtcdLayout
  readonly clock: Clock
  /** As it is at first. */
  readonly member: NodeMember
  /** Whenever all rows have been looked at. A failure of etcd that it rejects with is one of the register. */
  readonly onLooked?: (() => Promise<void>) | undefined
  /** Why the row cannot be kept or the others not be seen, once; `undefined` when they are again. */
  readonly onTrouble?: ((reason: string | undefined) => void) | undefined
}

export class NodeRegister implements NodeView {
  readonly self: number
  readonly #options: NodeRegisterOptions
  readonly #stopping = new AbortController()
  readonly #listeners = new Set<() => void>()
  #own: NodeMember
  readonly #others = new Map<number, NodeMember>()
  /** Since when who is still counted was not found. */
  readonly #missingSinceMs = new Map<number, number>()
  #members: readonly NodeMember[]
  /** What the view is as of. */
  #revision: Revision = 0
  #lease: LeaseId | undefined
  #running: Promise<unknown> = Promise.resolve()
  /** What has been asked for of the own row, one after another. */
  #putting: Promise<void> = Promise.resolve()
  readonly #troubles = new Set<'keeping' | 'following'>()

  constructor(options: NodeRegisterOptions) {
    this.#options = options
    this.self = options.member.number
    this.#own = Object.freeze(options.member)
    this.#members = [this.#own]
  }

  members(): readonly NodeMember[] {
    return this.#members
  }

  member(number: number): NodeMember | undefined {
    return number === this.self ? this.#own : this.#others.get(number)
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Resolves when the others can see this node, and it has seen who is there. @throws TidegateError when etcd does not answer */
  async start(): Promise<void> {
    try {
      await this.#putOwn()
      const revision = await this.#look('anew')
      this.#running = Promise.all([this.#keep(), this.#follow(revision)])
    } catch (error) {
      throw unavailable(error)
    }
  }

  /** Told at once if etcd answers, else when it does again. Resolves when it is told, or when that takes too long to wait for. */
  async setState(state: NodeMember['state']): Promise<void> {
    this.#own = Object.freeze({ ...this.#own, state })
    this.#changed()
    await this.#awhile(this.#putOwn().catch((error: unknown) => this.#failed('keeping', error)))
  }

  /** Removes the row. Without etcd it goes by itself: what is under way then ends with the client. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the register of nodes has stopped'))
    await this.#awhile(this.#end())
  }

  async #awhile(work: Promise<void>): Promise<void> {
    const over = new AbortController()
    const patience = this.#options.clock.sleep(TELL_MS_MAX, over.signal).catch(() => undefined)
    await Promise.race([work, patience]).finally(() => over.abort())
  }

  async #end(): Promise<void> {
    await this.#running
    await this.#putting
    const lease = this.#lease
    this.#lease = undefined
    if (lease !== undefined) await this.#options.etcd.revokeLease(lease).catch(() => undefined)
  }

  /** One at a time, so that a later state is not overwritten by an earlier one. */
  #putOwn(): Promise<void> {
    const put = this.#putting.then(() => this.#putNow())
    this.#putting = put.catch(() => undefined)
    return put
  }

  /** @throws EtcdFailure */
  async #putNow(): Promise<void> {
    const { etcd, layout } = this.#options
    if (this.#stopping.signal.aborted) return
    for (let attempt = 1; ; attempt++) {
      this.#lease ??= await etcd.grantLease(LEASE_SECONDS)
      const put = {
        kind: 'put',
        key: layout.member(this.self),
        value: encodeMember(this.#own),
        lease: this.#lease,
      } as const
      // Nested, because puts at the outermost level are refused over etcd's quota, and who is there must be known then too (session.ts).
      const nested = { kind: 'transaction', transaction: { compares: [], success: [put], failure: [] } } as const
      try {
        await etcd.transact({ compares: [], success: [nested], failure: [] })
        return
      } catch (error) {
        if (!(error instanceof EtcdFailure && error.kind === 'lease gone') || attempt > 1) throw error
        this.#lease = undefined
      }
    }
  }

  async #keep(): Promise<void> {
    const { clock } = this.#options
    const { signal } = this.#stopping
    for (;;) {
      await clock.sleep(this.#troubles.has('keeping') ? RETRY_MS : KEEP_MS, signal).catch(() => {})
      if (signal.aborted) return
      try {
        await this.#keepOnce()
        this.#fine('keeping')
      } catch (error) {
        this.#failed('keeping', error)
      }
    }
  }

  /** @throws EtcdFailure */
  async #keepOnce(): Promise<void> {
    const { etcd, layout } = this.#options
    const lease = this.#lease
    if (lease === undefined || (await etcd.keepLease(lease)) <= 0) {
      if (this.#lease === lease) this.#lease = undefined
      return await this.#putOwn()
    }
    const [row] = (await etcd.range({ range: onlyKey(layout.member(this.self)), limit: 1 })).rows
    if (row === undefined) return await this.#putOwn()
    const said = decodeMember(this.self, row.value)
    const isOurs = said === undefined || said.incarnation === this.#own.incarnation
    if (isOurs && !Buffer.from(encodeMember(this.#own)).equals(row.value)) await this.#putOwn()
  }

  async #follow(revision: Revision): Promise<void> {
    const { etcd, layout, clock } = this.#options
    const { signal } = this.#stopping
    let from = revision + 1
    const looking = this.#lookNowAndThen()
    while (!signal.aborted) {
      try {
        for await (const changes of etcd.watch(layout.members, from, signal)) {
          if (changes.length === 0) await this.#look('anew')
          else this.#apply(changes)
          from = (changes.at(-1)?.modRevision ?? from - 1) + 1
        }
      } catch (error) {
        this.#failed('following', error)
        await clock.sleep(RETRY_MS, signal).catch(() => {})
        // History may be another one now, or compacted: what is there counts.
        from = (await this.#lookAgain('anew')) ?? from
      }
    }
    await looking
  }

  /** Where to watch from; undefined when etcd does not answer. */
  async #lookAgain(how: Look): Promise<Revision | undefined> {
    if (this.#stopping.signal.aborted) return undefined
    try {
      return (await this.#look(how)) + 1
    } catch (error) {
      this.#failed('following', error)
      return undefined
    }
  }

  async #lookNowAndThen(): Promise<void> {
    const { clock } = this.#options
    const { signal } = this.#stopping
    for (;;) {
      await clock.sleep(this.#troubles.has('following') ? RETRY_MS : LOOK_MS, signal).catch(() => {})
      if (signal.aborted) return
      await this.#lookAgain('beside the watch')
    }
  }

  /** Who is there now. @throws EtcdFailure */
  async #look(how: Look): Promise<Revision> {
    const { etcd, layout, clock, onLooked } = this.#options
    const { rows, revision } = await etcd.range({ range: layout.members, limit: 0 })
    // The watch was faster. Where etcd went back, all watches end, and it is looked anew.
    if (how === 'beside the watch' && revision < this.#revision) return revision
    this.#revision = revision
    const found = new Set<number>()
    let isChanged = false
    for (const { key, value } of rows) {
      const number = layout.memberOf(key)
      if (number === undefined) continue
      found.add(number)
      isChanged = this.#seen(number, value) || isChanged
    }
    const nowMs = clock.monotonicMs()
    for (const number of [...this.#others.keys()].filter((one) => !found.has(one))) {
      const sinceMs = this.#missingSinceMs.get(number) ?? nowMs
      this.#missingSinceMs.set(number, sinceMs)
      if (nowMs - sinceMs >= LEASE_SECONDS * 1_000) isChanged = this.#gone(number) || isChanged
    }
    if (isChanged) this.#changed()
    await onLooked?.()
    this.#fine('following')
    return revision
  }

  #apply(changes: readonly WatchedChange[]): void {
    let isChanged = false
    this.#revision = Math.max(this.#revision, changes.at(-1)?.modRevision ?? 0)
    for (const { key, value } of changes) {
      const number = this.#options.layout.memberOf(key)
      if (number === undefined) continue
      const changed = value === undefined ? this.#gone(number) : this.#seen(number, value)
      isChanged = changed || isChanged
    }
    if (isChanged) this.#changed()
  }

  #seen(number: number, value: Uint8Array): boolean {
    this.#missingSinceMs.delete(number)
    if (number === this.self) return false
    const member = decodeMember(number, value)
    if (member === undefined) return this.#gone(number)
    const before = this.#others.get(number)
    if (before !== undefined && Buffer.from(encodeMember(before)).equals(encodeMember(member))) return false
    this.#others.set(number, member)
    return true
  }

  #gone(number: number): boolean {
    this.#missingSinceMs.delete(number)
    return this.#others.delete(number)
  }

  #changed(): void {
    this.#members = [this.#own, ...this.#others.values()].sort((a, b) => a.number - b.number)
    for (const listener of this.#listeners) listener()
  }

  #failed(what: 'keeping' | 'following', error: unknown): void {
    if (!(error instanceof EtcdFailure)) throw error
    const isFirst = this.#troubles.size === 0
    this.#troubles.add(what)
    if (isFirst && !this.#stopping.signal.aborted) this.#options.onTrouble?.(unavailable(error).message)
  }

  #fine(what: 'keeping' | 'following'): void {
    if (this.#troubles.delete(what) && this.#troubles.size === 0) this.#options.onTrouble?.(undefined)
  }
}
