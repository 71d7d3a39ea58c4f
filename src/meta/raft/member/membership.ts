/** Changes of who belongs to the cluster: each is safe to try again, and none is taken for done because an answer was lost. */
import type { Clock } from '../../../common/clock.ts'
import { EtcdAdminFailure } from '../admin-client.ts'
import type { ClusterMember, EtcdAdmin, MemberId } from '../admin-client.ts'
import { ClusterRefused } from './cluster-options.ts'
import type { ClusterRows } from './cluster-rows.ts'
import { decideAmong } from './decide.ts'
import type { KnownMember } from './node-record.ts'

const TURN_MS_MAX = 20_000
const RETRY_MS = 200
/** etcd says "unhealthy cluster" for a moment after each change. */
const CHANGE_MS_MAX = 15_000

export type Joined =
  | { readonly kind: 'added'; readonly memberId: MemberId; readonly members: readonly KnownMember[] }
  | { readonly kind: 'client'; readonly members: readonly KnownMember[] }

export interface MembershipOptions {
  readonly admin: EtcdAdmin
  readonly rows: ClusterRows
  /** For one member alone; to be closed. */
  readonly adminAt: (clientUrl: string) => EtcdAdmin
  readonly peerUrl: string
  readonly clock: Clock
}

export class Membership {
  readonly #options: MembershipOptions

  constructor(options: MembershipOptions) {
    this.#options = options
  }

  /** As the members know them. @throws EtcdAdminFailure */
  async list(): Promise<KnownMember[]> {
    return (await this.#options.admin.members()).map(knownMember)
  }

  /**
   * Makes room for this node's member if there is to be one: as a learner under a new id. What was known of its peer address before is removed: its disk is empty.
   * @throws ClusterRefused when a living member has the same peer address; EtcdAdminFailure `not yet`, TurnTaken: later it may work
   */
  join(voters: number): Promise<Joined> {
    const { rows, peerUrl } = this.#options
    return rows.inTurn(async (lost) => {
      const members = await this.list()
      const step = decideAmong(members, { peerUrl, voters })
      if (step.kind === 'client') return { kind: 'client', members }
      if (step.kind === 'replace') {
        await this.#refuseIfAlive(step.member)
        await this.#untilDone(() => this.#removeListed(step.member.id), lost)
      }
      const memberId = await this.#untilDone(() => this.#add(), lost)
      return { kind: 'added', memberId, members: await this.list() }
    }, TURN_MS_MAX)
  }

  /**
   * Whether the leader knows it no more; a lost answer says nothing. Lists of members may be old, so the leader is asked for something that goes through
   * the log and changes nothing: to promote what votes already, or is not there. (A follower of 3.4 does not pass on what became of one that was removed.)
   */
  async isOut(id: MemberId): Promise<boolean> {
    const { admin, adminAt } = this.#options
    const members = await this.list().catch(() => [])
    const statuses = await Promise.all(
      members.map(({ clientUrl }) => admin.status(clientUrl ?? '').catch(() => undefined)),
    )
    const leader = members.find(
      (member, index) => member.id === statuses[index]?.leaderId && member.id === statuses[index].memberId,
    )
    if (leader?.clientUrl === undefined) return false
    const atLeader = adminAt(leader.clientUrl)
    return await atLeader
      .promote(id)
      .then(
        () => false,
        (error: unknown) => isFailure(error, 'no such member'),
      )
      .finally(() => atLeader.close())
  }

  /** One try. @returns false: it has not caught up, or the cluster is not well enough. @throws EtcdAdminFailure `no such member`: it was removed */
  async promote(id: MemberId): Promise<boolean> {
    try {
      await this.#options.admin.promote(id)
      return true
    } catch (error) {
      if (isFailure(error, 'already so')) return true
      if (isFailure(error, 'not yet') || isFailure(error, 'unavailable')) return false
      throw error
    }
  }

  /** For good. Resolves when it is known to be out. @throws EtcdAdminFailure */
  remove(id: MemberId): Promise<void> {
    return this.#options.rows.inTurn((lost) => this.#untilDone(() => this.#removeListed(id), lost), TURN_MS_MAX)
  }

  async #removeListed(id: MemberId): Promise<void> {
    try {
      await this.#options.admin.remove(id)
    } catch (error) {
      if (!isFailure(error, 'no such member')) throw error
    }
  }

  async #add(): Promise<MemberId> {
    const { admin, peerUrl } = this.#options
    try {
      return (await admin.addLearner([peerUrl])).id
    } catch (error) {
      // An answer may have been lost on the way to this: nobody else adds that address.
      const found = isFailure(error, 'already so') ? await this.#find(peerUrl) : undefined
      if (found === undefined) throw error
      return found.id
    }
  }

  async #find(peerUrl: string): Promise<KnownMember | undefined> {
    return (await this.list()).find((member) => member.peerUrl === peerUrl)
  }

  async #refuseIfAlive({ id, name, peerUrl, clientUrl }: KnownMember): Promise<void> {
    if (clientUrl === undefined) return
    const status = await this.#options.admin.status(clientUrl).catch(() => undefined)
    if (status?.memberId !== id) return
    throw new ClusterRefused(
      `--cluster-peer: ${peerUrl} is that of ${name}, which runs (${clientUrl} answers): each node needs addresses of its own`,
    )
  }

  /** Again while etcd says that it is too early, or nothing. */
  async #untilDone<T>(change: () => Promise<T>, lost: AbortSignal): Promise<T> {
    const { clock } = this.#options
    const untilMs = clock.monotonicMs() + CHANGE_MS_MAX
    for (;;) {
      lost.throwIfAborted()
      try {
        return await change()
      } catch (error) {
        const isPassing = isFailure(error, 'not yet') || isFailure(error, 'unavailable')
        if (!isPassing || clock.monotonicMs() > untilMs) throw error
      }
      await clock.sleep(RETRY_MS, lost)
    }
  }
}

export function knownMember({ id, name, peerUrls, clientUrls, isLearner }: ClusterMember): KnownMember {
  return { id, name: name === '' ? id : name, peerUrl: peerUrls[0] ?? '', clientUrl: clientUrls[0], isLearner }
}

export function isFailure(error: unknown, kind: EtcdAdminFailure['kind']): error is EtcdAdminFailure {
  return error instanceof EtcdAdminFailure && error.kind === kind
}
