/**
 * Of the owner's side: for each node that calls this one, the channel through which it reads from and writes to this node's memory, and the memory that it may write to. One of each a node; what it agrees on anew takes
 * the place of what there was, which is closed.
 *
 * A grant is memory of its own, never the cache's (C33). It goes with its channel and is never used for another: so what a caller has under way when it gives up lands nowhere that matters.
 */
import type { Clock } from '../../common/clock.ts'
import { TidegateError } from '../../common/errors.ts'
import type { NodeMember } from '../../common/node-view.ts'
import type { FabricLimits } from './limits.ts'
import { fixedMemory } from './memory.ts'
import { decodeAgree, encodeAgreement, type GrantTold } from './messages.ts'
import { FabricFailure, type Channel, type FabricDevice, type Region } from './ports.ts'

/** Between two agreements with one node: each costs an endpoint. */
const AGREE_PAUSE_MS = 20

export interface Host {
  readonly node: number
  readonly agreement: bigint
  readonly incarnation: string | undefined
  readonly channel: Channel
  grant: Region | undefined
}

export interface HostsOptions {
  readonly device: FabricDevice
  readonly member: (node: number) => NodeMember | undefined
  readonly clock: Clock
  readonly limits: Pick<FabricLimits, 'grantBytes' | 'heldBytesMax'>
  readonly fillRandom: (bytes: Uint8Array) => void
}

export class Hosts {
  readonly #options: HostsOptions
  readonly #hosts = new Map<number, Host>()
  readonly #agreedMs = new Map<number, number>()
  /** Of bodies that were written to grants and are held by handlers, by node: whatever it agrees on meanwhile. */
  readonly #heldBytes = new Map<number, number>()
  readonly #closing = new Set<Promise<void>>()
  #isStopped = false

  constructor(options: HostsOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#hosts.size
  }

  /** Answers fabric-agree. @throws TidegateError */
  agree(from: number, head: Uint8Array): Uint8Array {
    const { device, member, clock, fillRandom } = this.#options
    const { provider, name } = decodeAgree(head)
    if (provider !== device.provider)
      throw new TidegateError(
        'NotImplemented',
        `this node's fabric is ${device.provider}, not ${provider ?? 'of that kind'}`,
      )
    const nowMs = clock.monotonicMs()
    if (this.#isStopped || nowMs - (this.#agreedMs.get(from) ?? -AGREE_PAUSE_MS) < AGREE_PAUSE_MS)
      throw new TidegateError('SlowDown', 'the node has only just agreed on a channel')
    this.#agreedMs.set(from, nowMs)
    this.#drop(from)
    const channel = opened(device, name)
    const agreement = Buffer.alloc(8)
    fillRandom(agreement)
    const host = {
      node: from,
      agreement: agreement.readBigUInt64BE(),
      incarnation: member(from)?.incarnation,
      channel,
      grant: undefined,
    }
    this.#hosts.set(from, host)
    return encodeAgreement({ agreement: host.agreement, name: channel.name })
  }

  /** Undefined: that is agreed on no more. */
  find(from: number, agreement: bigint): Host | undefined {
    const host = this.#hosts.get(from)
    return host?.agreement === agreement ? host : undefined
  }

  /** The caller has closed its channel. */
  end(from: number, agreement: bigint): void {
    if (this.find(from, agreement) !== undefined) this.#drop(from)
  }

  /** One an agreement. @throws TidegateError */
  grant(from: number, agreement: bigint): GrantTold {
    const host = this.find(from, agreement)
    if (host === undefined) throw new TidegateError('Unavailable', 'no such agreement')
    const { device, limits } = this.#options
    host.grant ??= registered(device, limits.grantBytes, host.channel)
    const { key, address, memory } = host.grant
    return { key, address, bytes: memory.length }
  }

  /**
   * A body that was written to the grant, copied out before anything is done with it: whoever may write there may do so at any time. It is held until `release`.
   * @throws TidegateError
   */
  take(host: Host, { offset, bytes }: { readonly offset: number; readonly bytes: number }): Uint8Array {
    const { heldBytesMax } = this.#options.limits
    const memory = host.grant?.memory
    if (memory === undefined || offset + bytes > memory.length)
      throw new TidegateError('InvalidRequest', 'a body where nothing was granted')
    const held = (this.#heldBytes.get(host.node) ?? 0) + bytes
    if (held > heldBytesMax) throw new TidegateError('SlowDown', 'too many bodies are held here')
    this.#heldBytes.set(host.node, held)
    return Uint8Array.prototype.slice.call(memory, offset, offset + bytes)
  }

  /** Of what was taken. */
  release({ node }: Host, bytes: number): void {
    const left = (this.#heldBytes.get(node) ?? 0) - bytes
    if (left > 0) this.#heldBytes.set(node, left)
    else this.#heldBytes.delete(node)
  }

  /** Members have changed: what was agreed on with processes that are gone ends. */
  seen(): void {
    for (const [node, { incarnation }] of this.#hosts)
      if (this.#options.member(node)?.incarnation !== incarnation) this.#drop(node)
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    for (const node of this.#hosts.keys()) this.#drop(node)
    await Promise.all(this.#closing)
  }

  #drop(node: number): void {
    const host = this.#hosts.get(node)
    if (host === undefined) return
    this.#hosts.delete(node)
    const closing = host.channel.close().finally(() => {
      // Not before: a write that has begun may still land.
      host.grant?.close()
      this.#closing.delete(closing)
    })
    this.#closing.add(closing)
  }
}

/** @throws TidegateError */
function opened(device: FabricDevice, name: Uint8Array): Channel {
  let channel: Channel | undefined
  try {
    channel = device.open()
    channel.connect(name)
    return channel
  } catch (error) {
    void channel?.close()
    throw told(error)
  }
}

/** @throws TidegateError */
function registered(device: FabricDevice, bytes: number, through: Channel): Region {
  try {
    return device.register(fixedMemory(bytes), 'read and write', through)
  } catch (error) {
    throw told(error)
  }
}

function told(error: unknown): unknown {
  if (!(error instanceof FabricFailure)) return error
  return new TidegateError('Unavailable', `the fabric there: ${error.message}`, { cause: error })
}
