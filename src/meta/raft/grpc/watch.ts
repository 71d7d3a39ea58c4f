/**
 * Every change of a range from a revision on, over streams to one member after the other.
 *
 * - It starts one revision early and drops what it was not asked for. etcd ends a watch that starts *before* the revision it has compacted to, and
 *   has forgotten the deletions *of* that revision: a watch from exactly there would miss them and not be told.
 * - etcd sends whole revisions, in answers that it cuts into parts when they are long (`fragment`). Parts are put together here, so that the place to go on
 *   from after a member went away always lies between two revisions.
 * - A member that stands still says nothing, and a partition neither. When nothing has been heard for a moment the member is asked for its progress; if nothing
 *   comes then, another member is tried. The answer only says that it lives: until 3.4.25 and 3.5.8 the revision in it could overtake events (C5).
 * - A member that has lost its leader ends the stream (`hasleader`): it would say that it lives and know nothing new.
 * - A consumer that is slow holds the stream up: then etcd keeps the place, and tells if it has compacted past it.
 */
import type { ClientDuplexStream } from '@grpc/grpc-js'
import { must } from '../../../common/assert.ts'
import type { Revision } from '../../../common/ids.ts'
import type { KeyRange } from '../../ports.ts'
import type { WatchedChange } from '../ports.ts'
import { MemberFailure, meaningOf, memberFailure, unsent } from './failures.ts'
import type { Member } from './member.ts'
import type { Members } from './members.ts'
import { DELETED, WATCH } from './messages.ts'
import type { EventMessage, WatchAnswer, WatchMessage } from './messages.ts'
import { rangeFields } from './transaction.ts'

/** Of silence, after which the member is asked whether it lives. */
const QUIET_MS = 1_000
const ANSWER_MS = 1_000
/** Answers that wait for the consumer before the stream is held up. */
const WAITING_MAX = 16
/** Before a member is asked again that ended a watch at once. */
const RETRY_MS = 100

export async function* watch(
  members: Members,
  range: KeyRange,
  { fromRevision, signal }: { fromRevision: Revision; signal: AbortSignal },
): AsyncGenerator<readonly WatchedChange[], void> {
  const { clock } = members
  let next = fromRevision
  /** Since when no member answers. */
  let failingMs: number | undefined
  let renewed = false
  while (!signal.aborted) {
    let stream: WatchStream | undefined
    const startMs = clock.monotonicMs()
    try {
      stream = await WatchStream.open(members, (failingMs ?? startMs) + members.callTimeoutMs)
      stream.create(range, Math.max(1, next - 1))
      for await (const answer of stream.answers(signal)) {
        renewed = false
        failingMs = undefined
        if (answer.created) yield []
        const changes = answer.events.map(changeOf).filter((change) => change.modRevision >= next)
        const last = changes.at(-1)
        if (last !== undefined) {
          yield changes
          next = last.modRevision + 1
        }
      }
    } catch (error) {
      const failure = error instanceof MemberFailure ? error : memberFailure(stream?.member.endpoint ?? '', error)
      const { remedy } = failure.meaning
      if (remedy === 'new token' && !renewed) {
        renewed = true
        members.forgetToken(stream?.token)
      } else if (remedy !== 'another member') throw failure
      else stream?.member.rest()
      failingMs ??= stream === undefined ? startMs : clock.monotonicMs()
      if (clock.monotonicMs() - failingMs >= members.callTimeoutMs) throw failure
      await clock.sleep(RETRY_MS, signal).catch(() => undefined)
    } finally {
      stream?.end()
    }
  }
}

class WatchStream {
  readonly member: Member
  readonly token: string | undefined
  readonly #members: Members
  readonly #call: ClientDuplexStream<Partial<WatchMessage>, WatchAnswer>
  readonly #waiting: WatchAnswer[] = []
  #failure: MemberFailure | undefined
  #wake: (() => void) | undefined

  static async open(members: Members, deadlineMs: number): Promise<WatchStream> {
    const member = await members.choose(deadlineMs)
    if (member === undefined) throw unsent('no member can be reached')
    return new WatchStream(members, member, await members.token(deadlineMs))
  }

  private constructor(members: Members, member: Member, token: string | undefined) {
    this.member = member
    this.token = token
    this.#members = members
    this.#call = member.stream(WATCH, { token, requireLeader: true })
    this.#call.on('data', (answer: WatchAnswer) => {
      this.#waiting.push(answer)
      if (this.#waiting.length >= WAITING_MAX) this.#call.pause()
      this.#wake?.()
    })
    this.#call.on('error', (error) => this.#fail(memberFailure(member.endpoint, error)))
    this.#call.on('end', () => this.#fail(new MemberFailure(`${member.endpoint}: the watch has ended`, meaningOf(''))))
  }

  create(range: KeyRange, startRevision: Revision): void {
    this.#call.write({ create: { ...rangeFields(range), startRevision, fragment: true } })
  }

  /** Each whole, the first once the watch is created; empty ones tell that the member lives. Ends when the signal aborts. @throws MemberFailure */
  async *answers(signal: AbortSignal): AsyncGenerator<WatchAnswer, void> {
    const onAbort = (): void => this.#wake?.()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      yield* this.#answersUntil(signal)
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  async *#answersUntil(signal: AbortSignal): AsyncGenerator<WatchAnswer, void> {
    let parts: EventMessage[] = []
    let asked = false
    while (!signal.aborted) {
      const answer = await this.#next(asked ? ANSWER_MS : QUIET_MS)
      if (signal.aborted) return
      if (answer === undefined) {
        if (asked) throw new MemberFailure(`${this.member.endpoint}: the watch is silent`, meaningOf(''))
        asked = true
        this.#call.write({ progress: {} })
        continue
      }
      asked = false
      this.#checkGoesOn(answer)
      this.member.answered()
      for (const event of answer.events) parts.push(event)
      if (answer.fragment) continue
      yield { ...answer, events: parts }
      parts = []
    }
  }

  end(): void {
    this.#call.cancel()
  }

  #checkGoesOn({ canceled, compactRevision, cancelReason }: WatchAnswer): void {
    const { endpoint } = this.member
    if (compactRevision > 0)
      throw new MemberFailure(`${endpoint}: changes before ${compactRevision} are not kept`, {
        kind: 'compacted',
        sent: false,
        remedy: undefined,
      })
    if (canceled) throw new MemberFailure(`${endpoint}: the watch was ended: ${cancelReason}`, meaningOf(cancelReason))
  }

  #fail(failure: MemberFailure): void {
    this.#failure ??= failure
    this.#wake?.()
  }

  /** Undefined: nothing came in that time, or the signal aborted. What came before a failure is told before it. */
  async #next(withinMs: number): Promise<WatchAnswer | undefined> {
    if (this.#waiting.length === 0 && this.#failure === undefined) {
      const woken = new AbortController()
      this.#wake = () => woken.abort()
      await this.#members.clock.sleep(withinMs, woken.signal).catch(() => undefined)
    }
    const answer = this.#waiting.shift()
    if (answer === undefined && this.#failure !== undefined) throw this.#failure
    if (this.#waiting.length === 0) this.#call.resume()
    return answer
  }
}

function changeOf(event: EventMessage): WatchedChange {
  const { key, value, modRevision } = must(event.kv, 'row of an event')
  return { key, value: event.type === DELETED ? undefined : value, modRevision }
}
