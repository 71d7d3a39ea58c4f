/**
 * Space in etcd: defragments, and takes back the quota's alarm.
 *
 * Compaction, which etcd does by itself, frees pages inside of its file; the quota is held against the file. Defragmenting writes the file anew, and the
 * member stands still meanwhile. So a node defragments only its own member, when it pays, in its turn, while all other voters answer and keep up, and after
 * the followers who need it too if it leads. When the alarm is up nothing can be written anyway: then whoever has the turn does it for all, one after the other.
 */
import type { Clock } from '../../../common/clock.ts'
import type { Logger } from '../../../common/logging.ts'
import type { EtcdAdmin, MemberId } from '../admin-client.ts'
import type { ClusterView, MemberHealth } from './cluster-health.ts'
import { majorityOf } from './cluster-health.ts'
import { TurnTaken } from './cluster-rows.ts'
import type { ClusterRows } from './cluster-rows.ts'
import { moveLeadershipFrom } from './leadership.ts'

const EVERY_MS = 60_000
const DEFRAGMENT_MS_MAX = 10 * 60_000
const WASTED_SHARE = 1 / 3
/** Of the quota; smaller files are left alone. */
const WORTHWHILE_SHARE = 1 / 16
/** What must be in use at most for the alarm to be taken back: otherwise it would be up again at once. */
const ROOM_SHARE = 0.9
const CAUGHT_UP_LAG = 1_000
const ROUNDS_BETWEEN_TRIES = 5
const NEVER_FULL = { revision: -1, triedMs: -Infinity }

export interface UpkeepParts {
  readonly admin: EtcdAdmin
  readonly rows: ClusterRows
  readonly clock: Clock
  readonly logger: Logger
  readonly quotaBytes: number
  readonly everyMs?: number
  /** Of this node's member, if it votes. */
  readonly ownId: () => MemberId | undefined
  readonly view: () => Promise<ClusterView>
  /** While its member stands still this node uses the others. */
  readonly setRests: (rests: boolean) => void
}

/** Whether writing the file anew gives enough back. Pure. */
export function isWorthwhile({ dbBytes = 0, dbInUseBytes = 0 }: MemberHealth, quotaBytes: number): boolean {
  return dbBytes >= quotaBytes * WORTHWHILE_SHARE && dbBytes - dbInUseBytes >= dbBytes * WASTED_SHARE
}

/** Whether that member may stand still now. Pure. */
export function mayStandStill(own: MemberHealth, view: ClusterView): boolean {
  const voters = view.members.filter((member) => member.role !== 'learner')
  const others = voters.filter((member) => member.id !== own.id)
  const areWell = others.every((member) => member.knowsLeader === true && (member.lag ?? Infinity) <= CAUGHT_UP_LAG)
  if (!areWell) return false
  if (own.role === 'leader' && others.some((member) => isWorthwhile(member, view.quotaBytes))) return false
  // Of one or two voters none can be spared: then it is a short halt for all, against a file that grows to the quota.
  const isSpared = others.length >= majorityOf(voters.length)
  return isSpared || (own.dbBytes ?? 0) > view.quotaBytes / 2
}

export class Upkeep {
  readonly #parts: UpkeepParts
  /** When making room was tried last, without success. */
  #full = NEVER_FULL

  constructor(parts: UpkeepParts) {
    this.#parts = parts
  }

  /** Until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger, everyMs = EVERY_MS } = this.#parts
    for (;;) {
      await clock.sleep(everyMs, signal).catch(() => undefined)
      if (signal.aborted) return
      await this.#round().catch((error: unknown) => {
        if (!(error instanceof TurnTaken)) logger.warn({ error }, 'upkeep of etcd failed, and is tried again')
      })
    }
  }

  async #round(): Promise<void> {
    const { ownId, rows, view } = this.#parts
    const id = ownId()
    if (id === undefined) return
    const seen = await view()
    if (seen.alarms.some(({ kind }) => kind === 'no space')) await this.#makeRoom(seen)
    else if (needs(seen, id)) await rows.inTurn(() => this.#defragmentOwn(id), 0)
  }

  async #defragmentOwn(id: MemberId): Promise<void> {
    const { admin, logger, setRests, view } = this.#parts
    const seen = await view()
    const own = seen.members.find((member) => member.id === id)
    if (own === undefined || !needs(seen, id)) return
    setRests(true)
    try {
      const members = seen.members.map((member) => ({ ...member, isLearner: member.role === 'learner' }))
      if (!(await moveLeadershipFrom(id, { admin, members })) && members.length > 1) return
      await this.#defragment(own)
    } finally {
      setRests(false)
    }
    logger.info(
      { member: own.name, dbBytes: own.dbBytes, inUseBytes: own.dbInUseBytes },
      'the local etcd was defragmented',
    )
  }

  /**
   * Nothing can be put while the alarm is up, the turn neither; so the leader acts. What is in use after a compaction is known only once the file is
   * written anew: etcd counts freed pages when it next commits. So that is done, and again when something was deleted since, but not all the time.
   */
  async #makeRoom(view: ClusterView): Promise<void> {
    const { admin, clock, logger, quotaBytes, ownId, everyMs = EVERY_MS } = this.#parts
    const acting = view.members.find((member) => member.role === 'leader')
    if (acting === undefined || acting.id !== ownId() || acting.clientUrl === undefined) return
    const { revision } = await admin.status(acting.clientUrl)
    const isTooEarly = clock.monotonicMs() - this.#full.triedMs < everyMs * ROUNDS_BETWEEN_TRIES
    if (revision === this.#full.revision || isTooEarly) return
    await admin.compact(revision)
    const inOrder = view.members.toSorted((a, b) => Number(a.role === 'leader') - Number(b.role === 'leader'))
    // A learner does not take that order. It gets the others' pages when it joins.
    for (const member of inOrder) {
      if (member.trouble === undefined && member.role !== 'learner') await this.#defragment(member)
    }
    const after = await this.#parts.view()
    const inUse = Math.max(0, ...after.members.map((member) => member.dbInUseBytes ?? 0))
    const share = `${inUse} of ${quotaBytes} bytes`
    if (inUse > quotaBytes * ROOM_SHARE) {
      this.#full = { revision, triedMs: clock.monotonicMs() }
      logger.error({}, `etcd is full: ${share} are in use. Delete, or raise --cluster-quota`)
      return
    }
    for (const alarm of view.alarms) if (alarm.kind === 'no space') await admin.disarm(alarm)
    this.#full = NEVER_FULL
    logger.warn(
      {},
      `etcd was over its quota; it was compacted and defragmented, and takes writes again (${share} in use)`,
    )
  }

  async #defragment({ clientUrl, name }: MemberHealth): Promise<void> {
    const { admin, logger } = this.#parts
    if (clientUrl === undefined) return
    logger.info({ member: name }, 'etcd is defragmented, one member at a time')
    await admin.defragment(clientUrl, DEFRAGMENT_MS_MAX)
  }
}

function needs(view: ClusterView, id: MemberId): boolean {
  const own = view.members.find((member) => member.id === id)
  return own !== undefined && isWorthwhile(own, view.quotaBytes) && mayStandStill(own, view)
}
