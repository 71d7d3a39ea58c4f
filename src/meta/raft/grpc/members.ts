/**
 * The members that were named, and which of them a call goes to: the first in the order given that is connected and has not failed to answer lately. A
 * call that may be repeated goes on to the next when one fails, until its deadline; one that may not goes on only while it is
 * known not to have been sent.
 */
import type { Clock } from '../../../common/clock.ts'
import type { Secret } from '../../../common/secret.ts'
import { Certificates } from './credentials.ts'
import type { TlsFiles } from './credentials.ts'
import { MemberFailure, unsent } from './failures.ts'
import { Member } from './member.ts'
import type { CallOptions } from './member.ts'
import { AUTHENTICATE } from './messages.ts'
import type { Method } from './messages.ts'

export interface EtcdClientOptions {
  /** `http://host:port` or `https://host:port`, the preferred first. A function is asked whenever a call is made: members may come and go. */
  readonly endpoints: readonly string[] | (() => readonly string[])
  readonly tls?: TlsFiles | undefined
  readonly login?: { readonly user: string; readonly password: Secret } | undefined
  readonly clock: Clock
  /** Every call settles within that. */
  readonly callTimeoutMs?: number | undefined
}

const CALL_TIMEOUT_MS = 5_000
/** A member that is asked something repeatable has a share of the call's time, and no less than this. */
const ATTEMPT_MS_MIN = 250
/** Between rounds over members that are connected and answer that they cannot. */
const ROUND_PAUSE_MS = 50

interface CallRules {
  /** It may be carried out twice. */
  readonly repeatable: boolean
  /** A member answers even if it knows no leader. */
  readonly withoutLeader?: boolean
}

/** `undefined`: none is needed. */
interface Token {
  readonly text: string | undefined
}

export class Members {
  readonly callTimeoutMs: number
  readonly clock: Clock
  readonly #endpoints: () => readonly string[]
  readonly #makeMember: (endpoint: string) => Member
  /** By endpoint, those too that are not named any more: what is under way there goes on. */
  readonly #known = new Map<string, Member>()
  readonly #login: EtcdClientOptions['login']
  readonly #underWay = new Set<Promise<unknown>>()
  /** Nothing new is called. */
  #closed = false
  /** Nothing is called any more, by what was under way neither. */
  #isOver = false
  #token: Token | undefined
  #authenticating: Promise<Token> | undefined

  constructor(options: EtcdClientOptions) {
    const { clock, endpoints } = options
    const certificates = new Certificates(options.tls ?? {}, clock)
    this.clock = clock
    this.callTimeoutMs = options.callTimeoutMs ?? CALL_TIMEOUT_MS
    this.#endpoints = typeof endpoints === 'function' ? endpoints : () => endpoints
    this.#makeMember = (endpoint) => new Member(endpoint, { certificates, clock })
    this.#login = options.login
  }

  /** Resolves when what is under way has settled; every call has a deadline. */
  async settled(): Promise<void> {
    this.#closed = true
    await Promise.allSettled(this.#underWay)
  }

  close(): void {
    this.#closed = true
    this.#isOver = true
    for (const member of this.#known.values()) member.close()
  }

  get endpoints(): string[] {
    return this.#members().map((member) => member.endpoint)
  }

  #members(): Member[] {
    return this.#endpoints().map((endpoint) => {
      const known = this.#known.get(endpoint)
      if (known !== undefined) return known
      const member = this.#makeMember(endpoint)
      this.#known.set(endpoint, member)
      return member
    })
  }

  /** Opens the connections in the background. */
  connect(): void {
    for (const member of this.#members()) member.isReady()
  }

  /** @throws MemberFailure */
  call<Request, Response>(
    method: Method<Request, Response>,
    message: Partial<Request>,
    options: CallRules,
  ): Promise<Response> {
    return this.callWith(options, (member, call) => member.call(method, message, call))
  }

  /** At that member alone, once it is connected. @throws MemberFailure */
  async callAt<T>(endpoint: string, attempt: (member: Member, token: string | undefined) => T): Promise<Awaited<T>> {
    const member = this.#members().find((candidate) => candidate.endpoint === endpoint)
    if (this.#closed || member === undefined) throw unsent(`${endpoint} is not one of the endpoints`)
    const deadlineMs = this.clock.monotonicMs() + this.callTimeoutMs
    if (!(await member.connected(this.callTimeoutMs))) throw unsent(`${endpoint} cannot be reached`)
    return await attempt(member, await this.token(deadlineMs))
  }

  /** `attempt` at one member after the other until it succeeds, or fails for good. @throws MemberFailure */
  callWith<T>(options: CallRules, attempt: (member: Member, call: CallOptions) => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(unsent('the client is stopped'))
    const settling = this.#callUntil(this.clock.monotonicMs() + this.callTimeoutMs, options, attempt)
    this.#underWay.add(settling)
    const forget = (): void => void this.#underWay.delete(settling)
    settling.then(forget, forget)
    return settling
  }

  async #callUntil<T>(
    deadlineMs: number,
    { repeatable, withoutLeader }: CallRules,
    attempt: (member: Member, call: CallOptions) => Promise<T>,
  ): Promise<T> {
    const tried = new Set<Member>()
    let renewed = false
    for (let last: MemberFailure | undefined; ;) {
      const member = await this.choose(deadlineMs, tried)
      if (member === undefined) throw last ?? unsent('no member can be reached')
      const token = await this.token(deadlineMs)
      const leftMs = deadlineMs - this.clock.monotonicMs()
      if (leftMs <= 0) throw last ?? unsent('no member answers')
      const count = this.#endpoints().length
      const mayMoveOn = repeatable && tried.size < count - 1
      try {
        const timeoutMs = mayMoveOn
          ? Math.min(leftMs, Math.max(ATTEMPT_MS_MIN, this.callTimeoutMs / (count + 1)))
          : leftMs
        const answer = await attempt(member, { timeoutMs, token, requireLeader: withoutLeader !== true })
        member.answered()
        return answer
      } catch (error) {
        if (!(error instanceof MemberFailure)) throw error
        last = error
        const { remedy, sent } = error.meaning
        if (remedy === 'new token' && this.#login !== undefined && !renewed) {
          renewed = true
          this.forgetToken(token)
          continue
        }
        if (remedy !== 'another member') throw error
        if (sent) member.rest()
        if (sent && !repeatable) throw error
        tried.add(member)
      }
    }
  }

  /** Among those not tried, if there are any; undefined when none is connected by the deadline. */
  async choose(deadlineMs: number, tried: Set<Member> = new Set()): Promise<Member | undefined> {
    for (;;) {
      if (this.#isOver) return undefined
      const members = this.#members()
      const ready = members.filter((member) => member.isReady())
      const fresh = ready.filter((member) => !tried.has(member))
      const best = fresh.find((member) => !member.isResting()) ?? longestRested(fresh)
      if (best !== undefined) return best
      const leftMs = deadlineMs - this.clock.monotonicMs()
      if (leftMs <= 0 || this.#closed) return undefined
      if (ready.length > 0) {
        // A member that is not connected may still come; those that are have been asked, and are asked again.
        await this.clock.sleep(Math.min(leftMs, ROUND_PAUSE_MS))
        tried.clear()
      } else await anyOf(members.map((member) => member.connected(leftMs)))
    }
  }

  /** To be sent with calls; undefined when nobody logs in. @throws MemberFailure */
  async token(deadlineMs: number): Promise<string | undefined> {
    if (this.#login === undefined) return undefined
    if (this.#token !== undefined) return this.#token.text
    this.#authenticating ??= this.#authenticate(this.#login, deadlineMs).finally(() => {
      this.#authenticating = undefined
    })
    this.#token = await this.#authenticating
    return this.#token.text
  }

  /** That one was refused. */
  forgetToken(token: string | undefined): void {
    if (this.#token?.text === token) this.#token = undefined
  }

  async #authenticate(login: NonNullable<EtcdClientOptions['login']>, deadlineMs: number): Promise<Token> {
    const tried = new Set<Member>()
    for (let last: MemberFailure | undefined; ;) {
      const member = await this.choose(deadlineMs, tried)
      const timeoutMs = deadlineMs - this.clock.monotonicMs()
      if (member === undefined || timeoutMs <= 0) throw last ?? unsent('no member can be reached')
      try {
        const message = { name: login.user, password: login.password.reveal() }
        const { token } = await member.call(AUTHENTICATE, message, { timeoutMs, requireLeader: true })
        return { text: token }
      } catch (error) {
        if (!(error instanceof MemberFailure)) throw error
        if (error.message.includes('authentication is not enabled')) return { text: undefined }
        // It changes nothing: whatever became of the request that this was for, that one has not been sent.
        last = new MemberFailure(error.message, { ...error.meaning, sent: false }, error)
        if (error.meaning.remedy !== 'another member') throw last
        tried.add(member)
      }
    }
  }
}

function longestRested(members: readonly Member[]): Member | undefined {
  return members.toSorted((a, b) => a.restUntilMs - b.restUntilMs)[0]
}

/** When the first says true, or all say false. */
async function anyOf(answers: readonly Promise<boolean>[]): Promise<void> {
  const yes = answers.map(async (answer) => {
    if (!(await answer)) throw new Error('not connected')
  })
  await Promise.any(yes).catch(() => undefined)
}
