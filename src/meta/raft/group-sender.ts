/**
 * Sends groups, one at a time, and finds out what becomes of them.
 *
 *     idle -> preparing -> sent -> decided (by the watch)
 *      ^                    |
 *      +--------------------+   it is known that it was not, and will not be, applied
 *
 * - **Preparing**: the bytes that its members name are made durable (C15).
 * - **Sent**: the answer of the call says little that the watch does not say. It matters when it never comes. A failure says whether the request may have reached etcd; if so the session
 *   row is rewritten (session.ts), until that is known to have happened. From that revision on the group cannot take effect any more; and if it has, the watch has shown it by then (C6).
 *   So when the replica has applied that revision and the group is still not decided, it is known not to have happened, and is sent again under another name.
 *   That begins without a failure as well when the answer takes long: a leader that hands over drops what it is sent, and the call fails seconds later.
 */
import { must } from '../../common/assert.ts'
import type { Revision } from '../../common/ids.ts'
import { isTidegateError, TidegateError } from '../../common/errors.ts'
import type { Component, GroupLimits } from './components.ts'
import { isCounterKey } from './counter-parts.ts'
import type { EtcdStoreSettings } from './etcd-options.ts'
import type { EtcdFigures } from './figures.ts'
import { makeGroup, type Group } from './group-transaction.ts'
import type { Guesses, Member } from './guesses.ts'
import type { Job } from './jobs.ts'
import { decodeGroupName, groupName, type EtcdLayout, type GroupName, type Incarnation } from './layout.ts'
import { EtcdFailure, type Etcd, type TransactionResult, type WatchedChange } from './ports.ts'
import type { Replica } from './replica.ts'
import { Fenced, WentBack, type Session } from './session.ts'
import { unavailable } from './words.ts'

const RETRY_MS = 50
/** How long nothing is sent after another node has asked for that: this, and up to as much again. */
const PAUSE_MS = 25
/** So long after etcd said that it is over its quota, only what makes room is sent. */
const FULL_MS = 5000
/** Puts that a transaction which makes room may have besides as many as it deletes: of what is to be done later. */
const SPARE_PUTS = 2
const MEMBERS_MAX = 4096
/**
 * Who was just told often has more to do at once. The next group waits for that a moment, this part of what the last one took: else the callers fall into two halves that
 * take turns, and each group carries only one of them.
 */
const GATHER_PART = 1 / 8
const GATHER_MS_MAX = 3
/** An answer that has taken so long, and so many times as long as the one before it, may never come. */
const LATE_MS_MIN = 150
const LATE_TIMES = 4
const LATE_MS_MAX = 2000

export interface GroupSenderParts {
  readonly etcd: Etcd
  readonly layout: EtcdLayout
  readonly settings: EtcdStoreSettings
  readonly replica: Replica
  readonly session: Session
  readonly incarnation: Incarnation
  readonly guesses: Guesses<Job>
  readonly signal: AbortSignal
  readonly isBlocked: () => boolean
  /** Does it when no function runs. */
  readonly betweenRuns: (action: () => void) => void
  readonly fenced: () => void
  /** The session row is not what was written: everything is to be loaded anew. */
  readonly wentBack: () => void
  /** Members that are in the guesses no more, or are to go. */
  readonly refuse: (members: readonly Member<Job>[], error: Error) => void
  readonly runAgain: (members: readonly Member<Job>[]) => void
}

/** What became of the group that was on its way. */
export interface DecidedGroup {
  readonly tookEffect: ReadonlySet<Member<unknown>>
  readonly isExclusive: boolean
}

interface SentGroup extends Group {
  readonly name: GroupName
  answer: TransactionResult | undefined
  /** Its answer is lost: when the replica stands here it is known. */
  settledAt: Revision
  failure: EtcdFailure | undefined
}

export class GroupSender {
  readonly #parts: GroupSenderParts
  readonly #limits: { -readonly [Name in keyof GroupLimits]: GroupLimits[Name] }
  #isBusy = false
  #group: SentGroup | undefined
  /** The session row is being rewritten: what is sent meanwhile would compare what it was. */
  #isSettling = false
  #answerMs = 0
  /** Of the group before. */
  #lastMembers = 0
  #gatherUntilMs = -Infinity
  #isGathering = false
  #sentGroups = 0
  #sentMembers = 0
  #lostGroups = 0
  #trouble: string | undefined
  #isHeld = false
  #fullUntilMs = -Infinity

  constructor(parts: GroupSenderParts) {
    this.#parts = parts
    const { requestBytesMax } = parts.settings
    const prefixBytes = parts.layout.prefix.length
    this.#limits = { operationsMax: 128, bytesMax: requestBytesMax, membersMax: MEMBERS_MAX, prefixBytes }
  }

  /** Of etcd. */
  set operationsMax(operationsMax: number) {
    this.#limits.operationsMax = operationsMax
  }

  get figures(): Pick<EtcdFigures, 'groups' | 'grouped' | 'lost'> {
    return { groups: this.#sentGroups, grouped: this.#sentMembers, lost: this.#lostGroups }
  }

  /** Why groups do not get through at present. */
  get trouble(): string | undefined {
    return this.#trouble
  }

  /** Sends a group of the members up to that number, unless one is on its way. */
  send(through: number): void {
    const { guesses, settings, betweenRuns, isBlocked } = this.#parts
    if (this.#isBusy || this.#isHeld || this.#isSettling || guesses.open.length === 0 || isBlocked()) return
    if (this.#gather()) return
    this.#isBusy = true
    settings.beforeCommit().then(
      () => betweenRuns(() => this.#sendNow(through)),
      (error: unknown) =>
        betweenRuns(() => {
          this.#isBusy = false
          const failed = guesses.open.filter((member) => member.number <= through)
          this.#parts.refuse(failed, failureOfBytes(error))
        }),
    )
  }

  /** Whether the next group waits for those who were just told. */
  #gather(): boolean {
    const { settings, signal, betweenRuns } = this.#parts
    const waitMs = this.#gatherUntilMs - settings.clock.monotonicMs()
    if (waitMs <= 0) return false
    if (this.#isGathering) return true
    this.#isGathering = true
    const gathered = (): void => {
      this.#isGathering = false
      this.#gatherUntilMs = -Infinity
      betweenRuns(() => {})
    }
    settings.clock.sleep(waitMs, signal).then(gathered, () => {})
    return true
  }

  /** What a revision says of the group on its way. */
  observe(changes: readonly WatchedChange[]): {
    /** Its name, if some node has committed it. */
    commit: GroupName | undefined
    decided: DecidedGroup | undefined
  } {
    const { layout, settings } = this.#parts
    if (changes.some(({ key }) => layout.isPauseOfOther(settings.node, key))) this.#hold()
    const clock = changes.find(({ key }) => key === layout.clock)
    const commit = clock?.value && decodeGroupName(clock.value)
    const group = this.#group
    if (group === undefined || commit !== group.name) return { commit, decided: undefined }
    const tookEffect = new Set<Member<unknown>>()
    for (const { key, value } of changes) {
      const index = layout.markIndex(settings.node, key)
      if (index === undefined || value === undefined || decodeGroupName(value) !== group.name) continue
      for (const member of must(group.components[index], 'a component with that mark').members) tookEffect.add(member)
    }
    this.#over()
    return { commit, decided: { tookEffect, isExclusive: group.isExclusive } }
  }

  /** To be called when a revision was applied. */
  applied(): void {
    const group = this.#group
    if (group === undefined || this.#parts.replica.through < group.settledAt) return
    this.#notHappened(group.failure)
  }

  /** The group on its way is the caller's now. */
  take(): { name: GroupName; components: readonly Component[] } | undefined {
    const group = this.#group
    if (group !== undefined) this.#over()
    return group
  }

  /** The revision at which a member of the group took effect, if etcd has said so. */
  answerFor(member: Member<unknown>): Revision | undefined {
    const group = this.#group
    const index = group?.components.findIndex((component) => component.members.includes(member)) ?? -1
    if (group?.answer === undefined || index === -1) return undefined
    const { succeeded, results, revision } = group.answer
    if (group.isNested) {
      const result = results[index]
      return result?.kind === 'transaction' && result.result.succeeded ? revision : undefined
    }
    return succeeded ? revision : undefined
  }

  /** Another node has a transaction that nothing may come before. */
  #hold(): void {
    if (this.#isHeld) return
    const { settings, signal, betweenRuns } = this.#parts
    const random = new Uint8Array(1)
    settings.fillRandom(random)
    this.#isHeld = true
    const resume = (): void => {
      this.#isHeld = false
      betweenRuns(() => {})
    }
    settings.clock.sleep(PAUSE_MS * (1 + random[0]! / 256), signal).then(resume, () => {})
  }

  #over(): void {
    if (this.#lastMembers > 1) {
      const gatherMs = Math.min(GATHER_MS_MAX, this.#answerMs * GATHER_PART)
      this.#gatherUntilMs = this.#parts.settings.clock.monotonicMs() + gatherMs
    }
    this.#group = undefined
    this.#isBusy = false
    this.#trouble = undefined
    this.#limits.membersMax = Math.min(MEMBERS_MAX, this.#limits.membersMax * 2)
  }

  #sendNow(through: number): void {
    const { guesses, layout, settings, replica, session, incarnation, isBlocked, refuse } = this.#parts
    const isFull = settings.clock.monotonicMs() < this.#fullUntilMs
    if (isFull)
      refuse(
        guesses.open.filter((member) => !makesRoom(member)),
        overQuota(),
      )
    const members = guesses.open.filter((member) => member.number <= through)
    if (members.length === 0 || isBlocked()) {
      this.#isBusy = false
      return
    }
    const name = groupName(settings.node, incarnation, ++this.#sentGroups)
    const parts = { replica, layout, node: settings.node, name, session: session.compare, isUnmetered: isFull }
    const made = makeGroup(members, this.#limits, parts)
    if (made === undefined) {
      this.#isBusy = false
      return refuse(members.slice(0, 1), tooLarge())
    }
    guesses.send(made.taken)
    this.#sentMembers += made.taken
    this.#lastMembers = made.taken
    const group: SentGroup = { ...made, name, answer: undefined, settledAt: Infinity, failure: undefined }
    this.#group = group
    this.#transact(group)
  }

  #transact(group: SentGroup): void {
    const { etcd, settings, signal } = this.#parts
    const sentMs = settings.clock.monotonicMs()
    etcd.transact(group.transaction).then(
      (answer) => {
        group.answer = answer
        this.#answerMs = settings.clock.monotonicMs() - sentMs
        // The session row is not what it was, or an attempt to rewrite it has come late.
        if (!answer.succeeded && group.isNested) this.#settle(group, undefined)
      },
      (error: unknown) => this.#failed(group, error),
    )
    const late = (): void => {
      if (group.answer === undefined) this.#settle(group, undefined)
    }
    const lateMs = Math.min(LATE_MS_MAX, Math.max(LATE_MS_MIN, this.#answerMs * LATE_TIMES))
    settings.clock.sleep(lateMs, signal).then(late, () => {})
  }

  #failed(group: SentGroup, error: unknown): void {
    const { betweenRuns, refuse } = this.#parts
    const isLost = error instanceof EtcdFailure && error.sent
    if (error instanceof EtcdFailure) this.#trouble = unavailable(error).message
    if (isLost) {
      this.#lostGroups++
      return this.#settle(group, error)
    }
    betweenRuns(() => {
      if (this.#group !== group) return
      if (error instanceof EtcdFailure) return this.#notHappened(error)
      this.#isBusy = false
      this.#group = undefined
      refuse(this.#parts.guesses.clearSent(), error as Error)
    })
  }

  #settle(group: SentGroup, failure: EtcdFailure | undefined): void {
    const { session, signal, betweenRuns, isBlocked, fenced, wentBack } = this.#parts
    if (this.#group !== group) return
    group.failure ??= failure
    if (this.#isSettling) return
    this.#isSettling = true
    session.settle(signal).then(
      (revision) =>
        betweenRuns(() => {
          this.#isSettling = false
          // While everything is loaded anew the marks that are loaded say what became of it.
          if (this.#group !== group || isBlocked()) return
          group.settledAt = revision
          this.applied()
        }),
      (error: unknown) => {
        this.#isSettling = false
        if (error instanceof Fenced) fenced()
        if (error instanceof WentBack) wentBack()
      },
    )
  }

  /** It is known that the group was not applied and never will be. */
  #notHappened(failure: EtcdFailure | undefined): void {
    const { guesses, refuse, runAgain, settings, signal, betweenRuns } = this.#parts
    const { sent } = guesses
    this.#group = undefined
    this.#isBusy = false
    switch (failure?.kind) {
      case undefined:
      case 'unavailable':
        break
      case 'too large':
        if (sent.length > 1) this.#limits.membersMax = Math.ceil(sent.length / 2)
        else return refuse(guesses.clearSent(), tooLarge(failure))
        break
      case 'no space':
        if (sent.every(makesRoom) && settings.clock.monotonicMs() < this.#fullUntilMs)
          return refuse(guesses.clearSent(), overQuota(failure))
        this.#fullUntilMs = settings.clock.monotonicMs() + FULL_MS
        break
      case 'compacted':
      case 'refused':
      case 'malformed':
      case 'lease gone':
        return refuse(guesses.clearSent(), unavailable(failure))
    }
    const doomed = guesses.takeBack((job) => job.isOver)
    if (doomed.length > 0) runAgain(doomed)
    if (failure?.kind !== 'unavailable') return betweenRuns(() => {})
    this.#isBusy = true
    const resume = (): void => {
      this.#isBusy = false
      betweenRuns(() => {})
    }
    settings.clock.sleep(RETRY_MS, signal).then(resume, () => {})
  }
}

function makesRoom({ written }: Member<unknown>): boolean {
  let deletes = 0
  let puts = 0
  for (const [key, value] of written.rows) {
    if (value === null) deletes++
    else if (!isCounterKey(key)) puts++
  }
  return deletes > 0 && puts <= deletes + SPARE_PUTS
}

function overQuota(cause?: EtcdFailure): Error {
  return unavailable(cause ?? new EtcdFailure('no space', 'as it said before', { sent: false }))
}

function tooLarge(cause?: EtcdFailure): TidegateError {
  return new TidegateError('TransactionTooLarge', 'a transaction that etcd does not take whole', { cause })
}

function failureOfBytes(error: unknown): TidegateError {
  if (isTidegateError(error, 'StorageFull') || isTidegateError(error, 'Unavailable')) return error
  return new TidegateError('Unavailable', 'what the metadata name could not be made durable', { cause: error })
}
