/**
 * Another node, as this one reaches its memory: the channel of this node's own for it, and whether it is to be used now.
 *
 * Agreed on in the background, by calls over the connection, when a body is about to go there that might go by the fabric; until then, and whenever the fabric fails, everything goes by the connection. A failure ends the channel: that is
 * what makes the memory safe of whatever was under way (ports.ts), and some providers never recover a path that was once refused. Then there is a rest, which doubles while it keeps failing, and a new agreement.
 */
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { NodeCalls } from '../../common/node-calls.ts'
import type { NodeMember } from '../../common/node-view.ts'
import type { FabricFigures } from '../ports.ts'
import type { FabricLimits } from './limits.ts'
import { Granted } from './granted.ts'
import { decodeAgreement, encodeAgree, encodeAgreementNumber } from './messages.ts'
import { Operations } from './operations.ts'
import { FabricFailure, type Channel, type FabricDevice, type Region } from './ports.ts'
import { Prober } from './prober.ts'

/** How bodies go to a node from now on, for people. */
export type PathEvent =
  | { readonly path: 'fabric'; readonly provider: string; readonly lineBytes: number }
  | { readonly path: 'connection'; readonly why: string }

/** What is agreed on. */
export interface Agreed {
  readonly agreement: bigint
  readonly channel: Channel
  readonly operations: Operations
  readonly granted: Granted
  /** Bodies from here on go by the fabric. Measured again now and then. */
  lineBytes: number
  readonly sinceMs: number
}

export type PairTally = {
  -readonly [
    name in 'reads' | 'writes' | 'bytesRead' | 'bytesWritten' | 'fallbacks' | 'lastFailure'
  ]: FabricFigures[name]
}

export interface PairOptions {
  readonly node: number
  readonly inner: Pick<NodeCalls, 'call'>
  readonly device: FabricDevice
  readonly member: () => NodeMember | undefined
  readonly clock: Clock
  /** 0 to 1. */
  readonly random: () => number
  readonly limits: FabricLimits
  readonly onChange: (event: PathEvent) => void
}

export class Pair {
  readonly tally: PairTally = {
    reads: 0,
    writes: 0,
    bytesRead: 0,
    bytesWritten: 0,
    fallbacks: 0,
    lastFailure: undefined,
  }
  readonly #options: PairOptions
  #agreed: Agreed | undefined
  #agreeing: Promise<void> | undefined
  readonly #closing = new Set<Promise<void>>()
  #incarnation: string | undefined
  #line: { readonly bytes: number; readonly atMs: number } | undefined
  #failures = 0
  #notBeforeMs = 0
  #isClosed = false

  constructor(options: PairOptions) {
    this.#options = options
  }

  get node(): number {
    return this.#options.node
  }

  /** Undefined: by the connection. */
  get agreed(): Agreed | undefined {
    return this.#agreed
  }

  /** As `agreed`; if there is nothing, and it is time, it is being agreed on from now. */
  reach(): Agreed | undefined {
    const agreed = this.#agreed
    if (this.#agreeing !== undefined || this.#isClosed) return agreed
    if (agreed !== undefined) {
      if (this.#measured() === undefined)
        this.#agreeing = this.#measure(agreed).finally(() => (this.#agreeing = undefined))
      return agreed
    }
    if (this.#options.clock.monotonicMs() >= this.#notBeforeMs)
      this.#agreeing = this.#agree().finally(() => (this.#agreeing = undefined))
    return undefined
  }

  /** Agrees now, if it is time. Whether bodies go by the fabric. */
  async prepare(): Promise<boolean> {
    this.reach()
    await this.#agreeing
    return this.#agreed !== undefined && Number.isFinite(this.#agreed.lineBytes)
  }

  /** The fabric failed. */
  fail(agreed: Agreed, why: string): void {
    if (this.#agreed !== agreed) return
    const { clock, limits } = this.#options
    if (clock.monotonicMs() - agreed.sinceMs > limits.restMsMax) this.#failures = 0
    this.#end(agreed)
    this.tally.fallbacks++
    this.#failed(why)
  }

  /** It is to be agreed on anew, and nothing is wrong with the fabric. */
  renew(agreed: Agreed): void {
    if (this.#agreed === agreed) this.#end(agreed)
  }

  /** Its member may have changed. */
  seen(): void {
    const incarnation = this.#options.member()?.incarnation
    if (incarnation === this.#incarnation) return
    this.#incarnation = incarnation
    // Another process, with which nothing has failed yet.
    this.#failures = 0
    this.#notBeforeMs = 0
    this.#line = undefined
    if (this.#agreed !== undefined) this.#end(this.#agreed)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    if (this.#agreed !== undefined) this.#end(this.#agreed)
    await this.#agreeing
    await Promise.all(this.#closing)
  }

  #end(agreed: Agreed): void {
    this.#agreed = undefined
    this.#ended(agreed.channel, agreed.granted.end())
    this.#tellEnd(agreed.agreement)
  }

  /** The other node closes its end and takes the grant back; if it does not hear of it, the next agreement does that. */
  #tellEnd(agreement: bigint): void {
    if (this.#isClosed) return
    const { inner, node, limits } = this.#options
    const call = { method: 'fabric-end', head: encodeAgreementNumber(agreement) } as const
    inner.call(node, call, { timeoutMs: limits.agreeMs }).catch(() => undefined)
  }

  /** `used`: memory that is touched until the channel is closed. */
  #ended(channel: Channel, used?: Pick<Region, 'close'>): void {
    const closing = channel.close().finally(() => {
      used?.close()
      this.#closing.delete(closing)
    })
    this.#closing.add(closing)
  }

  #failed(why: string): void {
    const { clock, random, limits, onChange } = this.#options
    const restMs = Math.min(limits.restMsMax, limits.restMs * 2 ** this.#failures++)
    this.#notBeforeMs = clock.monotonicMs() + restMs * (0.75 + random() / 4)
    const isNews = this.tally.lastFailure !== why || this.#failures === 1
    this.tally.lastFailure = why
    if (isNews) onChange({ path: 'connection', why })
  }

  /** Never rejects. */
  async #agree(): Promise<void> {
    const { device, limits, clock, onChange } = this.#options
    this.#incarnation = this.#options.member()?.incarnation
    let channel: Channel | undefined
    let prober: Prober | undefined
    try {
      channel = device.open()
      const { agreement, operations, onStuck } = await this.#connected(channel)
      prober = new Prober({ ...this.#options, agreement, operations })
      const lineBytes = await prober.line(this.#measured())
      prober.close()
      if (this.#isClosed) throw new FabricFailure('cut off', 'this node has stopped')
      const granted = new Granted({
        ...this.#options,
        agreement,
        operations,
        onTrouble: (why) => (this.tally.lastFailure = `nothing can be written there: ${why}`),
        onBroken: (why) => this.fail(agreed, why),
      })
      const agreed: Agreed = { agreement, channel, operations, granted, lineBytes, sinceMs: clock.monotonicMs() }
      onStuck.call = () => this.fail(agreed, `a transfer did not end within ${limits.transferMs} ms`)
      this.#agreed = agreed
      this.#line ??= { bytes: lineBytes, atMs: agreed.sinceMs }
      onChange({ path: 'fabric', provider: device.provider, lineBytes })
    } catch (error) {
      if (channel !== undefined) this.#ended(channel, prober)
      if (this.#isClosed) return
      if (!(error instanceof FabricFailure || error instanceof TidegateError)) throw error
      this.#failed(error.message)
    }
  }

  /** Measuring costs both nodes time, and what is measured changes seldom. */
  #measured(): number | undefined {
    const { clock, limits } = this.#options
    if (this.#line === undefined) return undefined
    const { bytes, atMs } = this.#line
    if (clock.monotonicMs() - atMs > (Number.isFinite(bytes) ? limits.lineMs : limits.lineNeverMs))
      this.#line = undefined
    return this.#line?.bytes
  }

  /** Anew, while it is used. Never rejects. */
  async #measure(agreed: Agreed): Promise<void> {
    const { device, clock, onChange } = this.#options
    const before = agreed.lineBytes
    const { agreement, operations } = agreed
    let prober: Prober | undefined
    try {
      prober = new Prober({ ...this.#options, agreement, operations })
      const bytes = await prober.line(undefined)
      agreed.lineBytes = bytes
      this.#line = { bytes, atMs: clock.monotonicMs() }
      if (Number.isFinite(bytes) !== Number.isFinite(before))
        onChange({ path: 'fabric', provider: device.provider, lineBytes: bytes })
    } catch (error) {
      if (!(error instanceof FabricFailure || error instanceof TidegateError)) throw error
      // It is too busy to be measured now, and as good as it was.
      if (error instanceof FabricFailure && error.kind === 'late')
        this.#line = { bytes: before, atMs: clock.monotonicMs() }
      else this.fail(agreed, error.message)
    } finally {
      // What was under way when it failed has ended with its promise.
      prober?.close()
    }
  }

  /** @throws FabricFailure, TidegateError */
  async #connected(
    channel: Channel,
  ): Promise<{ agreement: bigint; operations: Operations; onStuck: { call: () => void } }> {
    const { node, inner, device, limits, clock } = this.#options
    const call = { method: 'fabric-agree', head: encodeAgree(device.provider, channel.name) } as const
    const answer = await inner.call(node, call, { timeoutMs: limits.agreeMs })
    const { agreement, name } = decodeAgreement(answer.head)
    await channel.resolve(name)
    channel.connect(name)
    // While it is being agreed on, whatever gets stuck is in the way of nobody else.
    const onStuck = { call: () => void channel.close() }
    const operations = new Operations({
      channel,
      operationBytesMax: device.operationBytesMax,
      clock,
      limits,
      onStuck: () => onStuck.call(),
    })
    return { agreement, operations, onStuck }
  }
}
