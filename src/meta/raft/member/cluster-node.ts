/**
 * A node of the cluster: its own member if it has one, and what is known of the others. docs/decisions/0017-the-supervised-member.md is the plan.
 *
 * `startClusterNode` resolves when the cluster answers for the first time, by whichever member. What takes longer goes on behind it: a node that joins
 * is served by the others until its own member votes.
 *
 * That a member was removed is believed only when the leader says so (`promote` of it fails): a list of members may be old, and a member that
 * ends may come back.
 */
import { must } from '../../../common/assert.ts'
import { TidegateError } from '../../../common/errors.ts'
import { createEtcdAdmin } from '../admin-client.ts'
import type { EtcdAdmin, MemberId } from '../admin-client.ts'
import { createEtcdClient } from '../client.ts'
import { EtcdFailure } from '../ports.ts'
import type { Etcd } from '../ports.ts'
import { judge, look } from './cluster-health.ts'
import type { ClusterView, Verdict } from './cluster-health.ts'
import { checkClusterOptions, ClusterRefused, START_MS_MAX } from './cluster-options.ts'
import type { ClusterNodeOptions } from './cluster-options.ts'
import { ClusterRows } from './cluster-rows.ts'
import type { ClusterSettings } from './cluster-rows.ts'
import { decide } from './decide.ts'
import { etcdFlags } from './etcd-flags.ts'
import { HUNG_LIMITS, HungMember } from './hung-member.ts'
import { moveLeadershipFrom } from './leadership.ts'
import { findEtcd, Member } from './member.ts'
import { isFailure, Membership } from './membership.ts'
import type { KnownMember } from './node-record.ts'
import { Standing } from './standing.ts'
import { Upkeep } from './upkeep.ts'

const CALL_MS_MAX = 2_000
const LOOK_EVERY_MS = 2_000
const ANSWER_TRIED_EVERY_MS = 200
const TRY_MS = { first: 200, most: 5_000 }
const WAITING_TOLD_MS = { first: 3_000, every: 10_000 }
/** For a founder to name the cluster that it has begun. */
const NAMELESS_MS_MAX = 10_000

export interface ClusterHealth extends ClusterView, Verdict {
  readonly cluster: string
  readonly node: string
  readonly role: 'voter' | 'learner' | 'client' | 'removed'
  readonly memberId: MemberId | undefined
  /** Of this node's etcd, since the node was started; and why it ended last. */
  readonly restarts: number
  readonly lastEnding: string | undefined
}

export interface ClusterNode {
  /** To be asked for each call; its own member first. */
  readonly endpoints: () => readonly string[]
  /** Asks every member. Never rejects. */
  health(): Promise<ClusterHealth>
  /** Takes a member out for good, by its id or its name; its node goes on as a client. @throws InvalidArgument, Unavailable */
  remove(member: string): Promise<void>
  /** Leadership goes elsewhere, then the member ends. To be called when nobody here uses the endpoints any more. */
  stop(): Promise<void>
}

/** @throws ClusterRefused when a person has to change something first; Unavailable when the cluster does not answer for too long */
export async function startClusterNode(options: ClusterNodeOptions): Promise<ClusterNode> {
  checkClusterOptions(options)
  const node = new Node(options)
  try {
    await node.start()
  } catch (error) {
    await node.stop()
    throw error
  }
  return node
}

class Node implements ClusterNode {
  readonly #options: ClusterNodeOptions
  readonly #standing: Standing
  readonly #admin: EtcdAdmin
  readonly #etcd: Etcd
  readonly #rows: ClusterRows
  readonly #membership: Membership
  readonly #upkeep: Upkeep
  readonly #hung: HungMember
  readonly #stopping = new AbortController()
  readonly #background = new Set<Promise<void>>()
  #member: Member | undefined

  constructor(options: ClusterNodeOptions) {
    const { clock, logger, nodeName, peerUrl, quotaBytes, tls, upkeep } = options
    this.#options = options
    this.#hung = new HungMember(options.hung ?? HUNG_LIMITS)
    this.#standing = new Standing(options)
    const client = { tls, clock, callTimeoutMs: CALL_MS_MAX }
    this.#admin = createEtcdAdmin({ ...client, endpoints: () => this.#standing.asked })
    this.#etcd = createEtcdClient({ ...client, endpoints: this.endpoints })
    this.#rows = new ClusterRows(this.#etcd, { clock, node: nodeName })
    const adminAt = (clientUrl: string): EtcdAdmin => createEtcdAdmin({ ...client, endpoints: [clientUrl] })
    this.#membership = new Membership({ admin: this.#admin, adminAt, rows: this.#rows, peerUrl, clock })
    this.#upkeep = new Upkeep({
      admin: this.#admin,
      rows: this.#rows,
      clock,
      logger,
      quotaBytes,
      ...upkeep,
      ownId: () => (this.#standing.isVoter ? this.#standing.record?.memberId : undefined),
      view: () => this.#view(),
      setRests: (rests) => this.#standing.setRests(rests),
    })
  }

  readonly endpoints = (): readonly string[] => this.#standing.endpoints

  async start(): Promise<void> {
    const { directory } = this.#standing
    const record = this.#standing.load()
    this.#refuseStrangeDirectory()
    const step = decide(record, directory.hasData())
    if (step.kind === 'start') await this.#startMember(step.launch)
    const settings = await this.#answering()
    if (record?.state === 'founding') await this.#founded()
    if (record?.state === 'joining' && step.kind === 'start') this.#inBackground(() => this.#promoteInTime())
    if (step.kind === 'ask' && !(await this.#tryToJoin(settings))) this.#inBackground(() => this.#joinInTime(settings))
    this.#inBackground(() => this.#lookNowAndThen())
    this.#inBackground(() => this.#upkeep.run(this.#stopping.signal))
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the node stops'))
    await Promise.allSettled(this.#background)
    const { record, members, isVoter } = this.#standing
    if (isVoter && record?.memberId !== undefined && this.#member?.isRunning === true) {
      const moved = await moveLeadershipFrom(record.memberId, { admin: this.#admin, members })
      if (!moved && members.length > 1)
        this.#options.logger.warn({}, 'the leadership could not be moved before the stop')
    }
    await this.#member?.stop()
    await this.#etcd.stop()
    this.#admin.close()
  }

  async health(): Promise<ClusterHealth> {
    const { clock, clusterName, nodeName } = this.#options
    const startedMs = this.#member?.startedMs
    const view = await this.#view()
    const own = view.members.find(({ id }) => id === this.#standing.record?.memberId)
    // Whoever asks has seen it answer: from then on its silence counts, even if it is too short-lived for the next look.
    if (own !== undefined && own.trouble === undefined && startedMs !== undefined)
      this.#hung.see(true, { nowMs: clock.monotonicMs(), startedMs })
    return {
      cluster: clusterName,
      node: nodeName,
      role: this.#role,
      memberId: this.#standing.record?.memberId,
      restarts: this.#member?.restarts ?? 0,
      lastEnding: this.#member?.lastEnding,
      ...view,
      ...judge(view),
    }
  }

  async remove(named: string): Promise<void> {
    try {
      await this.#remove(named)
    } catch (error) {
      if (error instanceof TidegateError) throw error
      const message = `${named} cannot be removed now: ${(error as Error).message}`
      throw new TidegateError('Unavailable', message, { cause: error })
    }
  }

  async #remove(named: string): Promise<void> {
    const members = await this.#membership.list()
    const [member, ...more] = members.filter(({ id, name }) => id === named || name === named)
    if (member === undefined || more.length > 0) {
      const names = members.map(({ id, name }) => `${name} (${id})`).join(', ')
      const what = member === undefined ? 'no member' : 'several members'
      throw new TidegateError('InvalidArgument', `${named} is ${what}; there are ${names}`)
    }
    const isOnly = members.every(({ id, isLearner }) => isLearner || id === member.id)
    if (isOnly && !member.isLearner) throw new TidegateError('InvalidArgument', `${named} is the only voter`)
    await moveLeadershipFrom(member.id, { admin: this.#admin, members })
    await this.#membership.remove(member.id)
    await this.#standing.setMembers(await this.#membership.list())
  }

  get #role(): ClusterHealth['role'] {
    const state = this.#standing.record?.state ?? 'client'
    if (state === 'client' || state === 'removed') return state
    return state === 'joining' ? 'learner' : 'voter'
  }

  async #view(): Promise<ClusterView> {
    const { voters, quotaBytes } = this.#options
    const { members, record } = this.#standing
    const seen = await look({ admin: this.#admin, known: members, members: () => this.#listed() })
    // It answers no client before it has found the others.
    const waits = (id: MemberId): boolean => id === record?.memberId && this.#member?.isRunning === true
    const shown = seen.members.map((member) =>
      member.trouble !== undefined && waits(member.id)
        ? { ...member, trouble: 'it runs, and waits for the others' }
        : member,
    )
    return { ...seen, members: shown, voters: record?.voters ?? voters, quotaBytes }
  }

  /** Remembered, for when nobody can tell. */
  async #listed(): Promise<readonly KnownMember[]> {
    const members = await this.#membership.list()
    await this.#standing.setMembers(members)
    return members
  }

  /** @throws ClusterRefused */
  #refuseStrangeDirectory(): void {
    const { clusterName, directory: path } = this.#options
    const { record, directory, endpoints } = this.#standing
    if (record === undefined && directory.hasData())
      throw new ClusterRefused(`${path} holds data of etcd and no node.json, which says whose it is`)
    if (record !== undefined && record.cluster !== clusterName)
      throw new ClusterRefused(`--cluster: ${clusterName}, but ${path} is that of a node of ${record.cluster}`)
    if (record === undefined && endpoints.length === 0)
      throw new ClusterRefused(
        `${path} belongs to no cluster: "tidegate cluster init" begins one, and --cluster-join names members of one`,
      )
  }

  /** Resolves once a majority answers. @throws ClusterRefused, Unavailable */
  async #answering(): Promise<ClusterSettings> {
    const { clock, logger, clusterName, voters, startMsMax = START_MS_MAX } = this.#options
    const startMs = clock.monotonicMs()
    let tellMs = startMs + WAITING_TOLD_MS.first
    const signal = AbortSignal.any([this.#stopping.signal, ...(this.#options.signal ? [this.#options.signal] : [])])
    let nameless = 0
    for (;;) {
      const answer = await this.#settings()
      if (answer?.settings !== undefined) return this.#named(answer.settings)
      if (answer !== undefined && this.#standing.isVoter) {
        await this.#refuseAnotherEtcd()
        return await this.#rows.begin({ name: clusterName, voters: this.#standing.record?.voters ?? voters })
      }
      if (answer !== undefined) nameless += ANSWER_TRIED_EVERY_MS
      if (nameless > NAMELESS_MS_MAX)
        throw new ClusterRefused(`--cluster-join: ${this.endpoints().join(', ')}: an etcd that Tidegate has not begun`)
      const nowMs = clock.monotonicMs()
      if (nowMs - startMs > startMsMax) throw new TidegateError('Unavailable', `metadata: ${await this.#trouble()}`)
      if (nowMs > tellMs) {
        tellMs = nowMs + WAITING_TOLD_MS.every
        logger.warn({}, `waiting for the cluster: ${await this.#trouble()}`)
      }
      await clock.sleep(ANSWER_TRIED_EVERY_MS, signal)
    }
  }

  /** Undefined: no answer. */
  async #settings(): Promise<{ readonly settings: ClusterSettings | undefined } | undefined> {
    try {
      return { settings: await this.#rows.settings() }
    } catch (error) {
      if (error instanceof EtcdFailure && error.kind === 'unavailable') return undefined
      throw error
    }
  }

  #named(settings: ClusterSettings): ClusterSettings {
    const { clusterName } = this.#options
    if (settings.name !== clusterName)
      throw new ClusterRefused(
        `--cluster: ${clusterName}, but the members at ${this.endpoints().join(', ')} are of ${settings.name}`,
      )
    return settings
  }

  async #trouble(): Promise<string> {
    const view = await this.#view()
    const nobody = `no member answers at ${this.endpoints().join(', ')}`
    const words = view.members.length === 0 ? [nobody] : judge(view).words
    const ending = this.#member?.lastEnding
    return [...words, ...(ending === undefined ? [] : [`the local etcd ended: ${ending}`])].join('; ')
  }

  /** A cluster is begun only in an etcd that is one's own. @throws ClusterRefused */
  async #refuseAnotherEtcd(): Promise<void> {
    const { peerUrl, clientUrl } = this.#options
    const members = await this.#membership.list()
    if (!members.some((member) => member.peerUrl === peerUrl))
      throw new ClusterRefused(`--cluster-client: another etcd answers at ${clientUrl}`)
  }

  async #founded(): Promise<void> {
    const members = await this.#membership.list()
    const own = must(this.#ownAmong(members), 'the founder among the members')
    await this.#standing.change({ state: 'member', memberId: own.id, members })
  }

  #ownAmong<T extends { readonly peerUrl: string }>(members: readonly T[]): T | undefined {
    return members.find((member) => member.peerUrl === this.#options.peerUrl)
  }

  async #startMember(launch: 'new' | 'existing'): Promise<void> {
    const { etcd, peerUrl, nodeName, clock, logger } = this.#options
    const others = this.#standing.members.filter((member) => member.peerUrl !== peerUrl)
    const initialCluster = [
      `${nodeName}=${peerUrl}`,
      ...others.map((member) => `${member.id}=${member.peerUrl}`),
    ].join()
    const { program, bond, version } = await findEtcd(etcd)
    logger.info({ program, version, bond }, 'the local member starts')
    const flags = etcdFlags(this.#options, { initialCluster, state: launch })
    this.#member = new Member({ program, bond, flags, clock, logger, onEnded: () => this.#mayGoOn() })
    this.#member.start()
  }

  /** After its etcd has ended by itself: whether it is to be started again. */
  async #mayGoOn(): Promise<boolean> {
    const { state, memberId } = must(this.#standing.record, 'record of a node with a member')
    if (state === 'founding' || memberId === undefined) return true
    if (await this.#membership.isOut(memberId)) {
      this.#inBackground(() => this.#becomeRemoved())
      return false
    }
    if (this.#standing.directory.hasData()) return true
    this.#options.logger.error({}, 'the data of the local etcd is gone: it is added anew, and gets it from the others')
    this.#inBackground(() => this.#rejoin())
    return false
  }

  async #becomeRemoved(): Promise<void> {
    const { logger } = this.#options
    if (this.#standing.record?.state === 'removed') return
    await this.#standing.change({ state: 'removed', memberId: undefined })
    await this.#member?.stop()
    this.#member = undefined
    this.#standing.directory.removeData()
    logger.warn({}, 'this node has been removed from the voters: it goes on as a client until "tidegate cluster join"')
  }

  async #rejoin(): Promise<void> {
    await this.#standing.change({ state: 'joining', memberId: undefined })
    await this.#member?.stop()
    this.#member = undefined
    await this.#joinInTime(this.#named(await this.#answering()))
  }

  async #joinInTime(settings: ClusterSettings): Promise<void> {
    await this.#untilTrue(() => this.#tryToJoin(settings))
  }

  /** @returns false: later it may work. @throws ClusterRefused */
  async #tryToJoin({ voters }: ClusterSettings): Promise<boolean> {
    const { logger } = this.#options
    try {
      const joined = await this.#membership.join(voters)
      const { members } = joined
      this.#standing.directory.removeData()
      if (joined.kind === 'client') {
        await this.#standing.change({ state: 'client', memberId: undefined, voters, members })
        logger.info({ members: members.length }, 'the cluster has its voters: this node is a client')
        return true
      }
      await this.#standing.change({ state: 'joining', memberId: joined.memberId, voters, members })
    } catch (error) {
      if (error instanceof ClusterRefused) throw error
      logger.info({}, `the cluster cannot take this node in yet: ${(error as Error).message}`)
      return false
    }
    await this.#startMember('existing')
    this.#inBackground(() => this.#promoteInTime())
    return true
  }

  async #promoteInTime(): Promise<void> {
    const { memberId } = must(this.#standing.record, 'record of a node that joins')
    if (memberId === undefined) return
    try {
      await this.#untilTrue(() => this.#membership.promote(memberId))
      if (this.#stopping.signal.aborted || this.#standing.record?.memberId !== memberId) return
      await this.#standing.change({ state: 'member', members: await this.#promotedMembers(memberId) })
      this.#options.logger.info({ memberId }, 'the local member votes from now on')
    } catch (error) {
      if (!isFailure(error, 'no such member')) throw error
      await this.#becomeRemoved()
    }
  }

  /** A list may be older than the promotion. */
  async #promotedMembers(id: MemberId): Promise<Awaited<ReturnType<Membership['list']>>> {
    const members = await this.#membership.list().catch(() => this.#standing.members)
    return members.map((member) => (member.id === id ? { ...member, isLearner: false } : member))
  }

  async #lookNowAndThen(): Promise<void> {
    const { clock } = this.#options
    const { signal } = this.#stopping
    while (!signal.aborted) {
      await Promise.all([this.#look(), this.#lookAtMember()])
      await clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined)
    }
  }

  async #look(): Promise<void> {
    const members = await this.#listed().catch(() => undefined)
    if (members === undefined) return
    const { state, memberId } = this.#standing.record ?? {}
    const isMissing = state === 'member' && members.every(({ id }) => id !== memberId)
    if (isMissing && memberId !== undefined && (await this.#membership.isOut(memberId))) await this.#becomeRemoved()
  }

  async #lookAtMember(): Promise<void> {
    const { clock, clientUrl, logger } = this.#options
    const member = this.#member
    const startedMs = member?.startedMs
    if (member === undefined || startedMs === undefined) return
    const answers = await this.#admin.status(clientUrl).then(
      () => true,
      () => false,
    )
    const nowMs = clock.monotonicMs()
    const silentMs = this.#hung.see(answers, { nowMs, startedMs })
    if (silentMs === undefined || member.startedMs !== startedMs || this.#stopping.signal.aborted) return
    if (!(await this.#othersGoOn())) return this.#hung.excuse(nowMs)
    const silentSeconds = Math.round(silentMs / 1_000)
    logger.error(
      { silentSeconds },
      'the local etcd runs and does not answer, the others do: it is killed and started again',
    )
    await member.kill()
  }

  /** Without the own member, which is not meant to stand still now. */
  async #othersGoOn(): Promise<boolean> {
    if (this.#standing.rests || (await this.#settings().catch(() => undefined)) === undefined) return false
    // While room is made the leader has all of them defragmented.
    const alarms = await this.#admin.alarms().catch(() => undefined)
    return alarms?.length === 0
  }

  /** With growing pauses. Ends when the node stops. */
  async #untilTrue(attempt: () => Promise<boolean>): Promise<void> {
    const { clock } = this.#options
    const { signal } = this.#stopping
    for (let pauseMs = TRY_MS.first; !signal.aborted; pauseMs = Math.min(TRY_MS.most, pauseMs * 2)) {
      if (await attempt()) return
      await clock.sleep(pauseMs, signal).catch(() => undefined)
    }
  }

  /** What fails there for good leaves the node as it is, and is told. */
  #inBackground(work: () => Promise<void>): void {
    const running = work()
      .catch((error: unknown) => {
        if (!this.#stopping.signal.aborted)
          this.#options.logger.error({ error }, 'the node cannot become what it should be')
      })
      .finally(() => this.#background.delete(running))
    this.#background.add(running)
  }
}
