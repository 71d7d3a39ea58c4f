/**
 * What another node lets this one write to, of one agreement: asked for when a body is about to go there that might be written, and from how many bytes on that pays, measured then and again now and then. Until both are known, and while the
 * other node grants nothing, bodies go with their calls. That is no reason to give up the fabric for reads.
 */
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { NodeCalls } from '../../common/node-calls.ts'
import type { FabricLimits } from './limits.ts'
import { fixedMemory } from './memory.ts'
import { decodeGrant, encodeAgreementNumber, type GrantTold } from './messages.ts'
import type { Operations } from './operations.ts'
import { FabricFailure, type FabricDevice, type Region } from './ports.ts'
import { measureWrites } from './prober.ts'
import { Ranges } from './ranges.ts'

/** The other node's memory, and memory of the same size here, where bodies lie while they are written there: the same range of both is taken for each. */
export interface Grant {
  readonly remote: GrantTold
  readonly staging: Region
  readonly ranges: Ranges
  /** Bodies of requests from here on are written there; Infinity: none. */
  lineBytes: number
  /** Of ranges that are not used again. */
  lostBytes: number
}

export interface GrantedOptions {
  readonly node: number
  readonly inner: Pick<NodeCalls, 'call'>
  readonly device: Pick<FabricDevice, 'register'>
  readonly clock: Clock
  readonly limits: FabricLimits
  readonly agreement: bigint
  readonly operations: Pick<Operations, 'transfer'>
  /** Nothing is granted now, or it was not measured: the agreement is as good as before. */
  readonly onTrouble: (why: string) => void
  /** Writing there has failed. */
  readonly onBroken: (why: string) => void
}

export class Granted {
  readonly #options: GrantedOptions
  #grant: Grant | undefined
  #isBusy = false
  #isEnded = false
  #notBeforeMs = 0
  #failures = 0

  constructor(options: GrantedOptions) {
    this.#options = options
  }

  /** Undefined: there is none yet. If it is time, it is asked for, or measured, from now. */
  get(): Grant | undefined {
    if (this.#isEnded) return undefined
    if (!this.#isBusy && this.#options.clock.monotonicMs() >= this.#notBeforeMs) void this.#work()
    return this.#grant
  }

  /** Nothing is asked for from now on. @returns memory that may be touched until the channel is closed */
  end(): Region | undefined {
    this.#isEnded = true
    return this.#grant?.staging
  }

  /** Never rejects. */
  async #work(): Promise<void> {
    const { limits, onTrouble, onBroken } = this.#options
    this.#isBusy = true
    try {
      this.#grant ??= await this.#ask()
      if (this.#grant !== undefined) await this.#measure(this.#grant)
      this.#failures = 0
    } catch (error) {
      if (!(error instanceof FabricFailure || error instanceof TidegateError)) throw error
      this.#rest(Math.min(limits.restMsMax, limits.restMs * 2 ** this.#failures++))
      const isBroken = error instanceof FabricFailure && this.#grant !== undefined && error.kind !== 'late'
      const tell = isBroken ? onBroken : onTrouble
      if (!this.#isEnded) tell(error.message)
    } finally {
      this.#isBusy = false
    }
  }

  /** Undefined: it is too late for that. @throws FabricFailure, TidegateError */
  async #ask(): Promise<Grant | undefined> {
    const { node, inner, device, limits, agreement } = this.#options
    const call = { method: 'fabric-grant', head: encodeAgreementNumber(agreement) } as const
    const remote = decodeGrant((await inner.call(node, call, { timeoutMs: limits.agreeMs })).head)
    if (this.#isEnded) return undefined
    const staging = device.register(fixedMemory(Math.min(remote.bytes, limits.grantBytes)), 'none')
    const ranges = new Ranges(staging.memory.length)
    return { remote, staging, ranges, lineBytes: Number.POSITIVE_INFINITY, lostBytes: 0 }
  }

  /** Nobody writes there before it has been measured once; later ones go on as before meanwhile. @throws FabricFailure, TidegateError */
  async #measure(grant: Grant): Promise<void> {
    const { limits } = this.#options
    const { remote, staging, ranges } = grant
    const measured = await measureWrites({ ...this.#options, remote, staging, ranges })
    if (measured !== undefined) grant.lineBytes = measured
    this.#rest(Number.isFinite(grant.lineBytes) ? limits.lineMs : limits.lineNeverMs)
  }

  #rest(ms: number): void {
    this.#notBeforeMs = this.#options.clock.monotonicMs() + ms
  }
}
