/**
 * A double of the fabric's device (src/rdma/fabric/ports.ts) within one process: devices of one network reach each other's memory. What the port leaves open is done in the unkind way: bytes are moved when
 * an operation ends and not when it starts, operations end in a later turn, several at a time and in any order, what fails may have moved half of its bytes, what is cut off may have moved all of them just before
 * `close` resolves, and keys and addresses are of 64 bits, an address now and then 0. Held to test/conformance/fabric-device.ts like the real one.
 *
 * Faults are on the device whose memory is to be reached; those that refuse are on the device that is asked.
 */
import { assert } from '../../src/common/assert.ts'
import { systemClock } from '../../src/common/clock.ts'
import type { Clock } from '../../src/common/clock.ts'
import { FabricFailure } from '../../src/rdma/fabric/ports.ts'
import type {
  Channel,
  FabricDevice,
  FabricProvider,
  FailureKind,
  Operation,
  Region,
  RegionAccess,
} from '../../src/rdma/fabric/ports.ts'
import { Random } from '../model/random.ts'

const NAME_BYTES = 24
const UNSIGNED_64 = 64

export interface FakeDeviceOptions {
  readonly provider?: FabricProvider
  readonly operationBytesMax?: number
}

/** An operation that has been started. */
interface UnderWay {
  readonly operation: Operation
  readonly channel: FakeChannel
  /** By how its peer delays it. */
  isDue: boolean
}

export class FakeFabricNetwork {
  readonly clock: Clock
  readonly random: Random
  /** Those that are open, by their names. */
  readonly channels: Map<string, FakeChannel> = new Map()
  readonly underWay: Set<UnderWay> = new Set()
  #isAwake = false

  constructor(options: { readonly clock?: Clock; readonly seed?: number } = {}) {
    this.clock = options.clock ?? systemClock
    this.random = new Random(options.seed ?? 1)
  }

  device(options: FakeDeviceOptions = {}): FakeDevice {
    return new FakeDevice(this, options)
  }

  randomBytes(bytes: number): Uint8Array {
    return Uint8Array.from({ length: bytes }, () => this.random.below(256))
  }

  randomBits(bits: number): bigint {
    return BigInt.asUintN(bits, Buffer.from(this.randomBytes(8)).readBigUInt64LE())
  }

  /** Looks, in a later turn, whether something can end; again until nothing can. */
  wake(): void {
    if (this.#isAwake) return
    this.#isAwake = true
    setImmediate(() => {
      this.#isAwake = false
      this.#endSome()
    })
  }

  #endSome(): void {
    const able = [...this.underWay].filter((each) => each.channel.canEnd(each))
    for (let left = this.random.below(able.length) + 1; left > 0 && able.length > 0; left--) {
      const [chosen] = able.splice(this.random.below(able.length), 1)
      // Whoever was told of another may have closed its channel.
      if (chosen !== undefined && this.underWay.has(chosen)) chosen.channel.end(chosen)
    }
    if (able.length > 0) this.wake()
  }
}

export class FakeDevice implements FabricDevice {
  readonly provider: FabricProvider
  readonly domain = 'fake'
  readonly version = '0.0.0'
  readonly operationBytesMax: number
  readonly network: FakeFabricNetwork

  /** Operations on this device's memory take so long by the network's clock, from when they are started. */
  slowMs = 0
  /** So many operations are under way at once on one channel of this device; more are `later`. */
  operationsMax = Number.POSITIVE_INFINITY
  /** How probable it is that an operation on this device's memory is `later`. */
  laterChance = 0
  /** Of operations on this device's memory each so manyth fails. */
  failing: { readonly every: number; readonly kind: FailureKind } | undefined
  refusesRegistration = false
  refusesOpen = false

  /** Operations of this device that were started. */
  operations = 0
  /** Operations on this device's memory that ended well. */
  reached = 0

  readonly #regions = new Map<bigint, FakeRegion>()
  readonly #channels = new Set<FakeChannel>()
  #state: 'sound' | 'stalled' | 'dead' = 'sound'
  #closed: Promise<void> | undefined
  #asked = 0

  constructor(network: FakeFabricNetwork, options: FakeDeviceOptions) {
    this.network = network
    this.provider = options.provider ?? 'tcp'
    this.operationBytesMax = options.operationBytesMax ?? 8 * 1024 * 1024
  }

  get regionsRegistered(): number {
    return this.#regions.size
  }

  get channelsOpen(): number {
    return this.#channels.size
  }

  get state(): 'sound' | 'stalled' | 'dead' {
    return this.#state
  }

  /** As if the machine had lost power: nothing under way ends, and all that is started is `later`. */
  die(): void {
    this.#state = 'dead'
  }

  /** As if the process had been stopped: operations are started and stay under way. */
  stall(): void {
    this.#state = 'stalled'
  }

  /** After `die` or `stall`: what is still under way goes on. */
  release(): void {
    this.#state = 'sound'
    this.network.wake()
  }

  register(memory: Uint8Array, access: RegionAccess, through?: Channel): Region {
    assert(
      through === undefined || (through instanceof FakeChannel && through.device === this),
      'a channel is of this device',
    )
    if (this.#closed) throw new FabricFailure('cut off', 'the device is closed')
    assert(memory.length > 0, 'memory of some bytes is registered')
    if (this.refusesRegistration) throw new FabricFailure('unfit', 'no more memory can be registered')
    const region = new FakeRegion(this, memory, access, () => this.#regions.delete(region.key))
    this.#regions.set(region.key, region)
    return region
  }

  open(): Channel {
    if (this.#closed) throw new FabricFailure('cut off', 'the device is closed')
    if (this.refusesOpen) throw new FabricFailure('unfit', 'no more channels can be opened')
    const channel = new FakeChannel(this, () => this.#channels.delete(channel))
    this.#channels.add(channel)
    return channel
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      await Promise.all(Array.from(this.#channels, (channel) => channel.close()))
      for (const region of this.#regions.values()) region.close()
    })()
    return this.#closed
  }

  find(key: bigint): FakeRegion | undefined {
    return this.#regions.get(key)
  }

  /** How the operation that is asked of this device now fails by the test's will. */
  nextFailure(): FailureKind | undefined {
    this.#asked++
    return this.failing && this.#asked % this.failing.every === 0 ? this.failing.kind : undefined
  }
}

class FakeRegion implements Region {
  readonly memory: Uint8Array
  readonly access: RegionAccess
  readonly key: bigint
  readonly address: bigint
  readonly device: FakeDevice
  isClosed = false
  underWay = 0
  readonly #forget: () => void

  constructor(device: FakeDevice, memory: Uint8Array, access: RegionAccess, forget: () => void) {
    this.device = device
    this.memory = memory
    this.access = access
    this.#forget = forget
    this.key = device.network.randomBits(UNSIGNED_64)
    this.address = device.network.random.chance(0.25) ? 0n : device.network.randomBits(UNSIGNED_64 - 1)
  }

  close(): void {
    if (this.isClosed) return
    assert(this.underWay === 0, 'a region is closed when no operation of this node is under way on it')
    this.isClosed = true
    this.#forget()
  }

  /** Undefined: it may not be reached like this. */
  reach({ kind, remote, bytes }: Operation): Uint8Array | undefined {
    const isAllowed = this.access === 'read and write' || (this.access === 'read' && kind === 'read')
    const from = remote.address - this.address
    if (!isAllowed || from < 0n || from + BigInt(bytes) > BigInt(this.memory.length)) return undefined
    return this.memory.subarray(Number(from), Number(from) + bytes)
  }
}

class FakeChannel implements Channel {
  readonly name: Uint8Array
  readonly device: FakeDevice
  isClosed = false
  /** As was last said by `hurry`. */
  isHurried = false
  readonly #forget: () => void
  readonly #underWay = new Set<UnderWay>()
  /** Ends what its delays wait for. */
  readonly #closing = new AbortController()
  #peer: string | undefined
  /** Why nothing gets through any more: as on Soft-RoCE, where one key that is refused breaks the connection of the two ends. */
  #brokenBy: string | undefined
  #closed: Promise<void> | undefined

  constructor(device: FakeDevice, forget: () => void) {
    this.device = device
    this.#forget = forget
    this.name = device.network.randomBytes(NAME_BYTES)
    device.network.channels.set(nameText(this.name), this)
  }

  get underWay(): number {
    return this.#underWay.size
  }

  async resolve(name: Uint8Array): Promise<void> {
    if (name.length !== NAME_BYTES) throw new FabricFailure('failed', 'this is no name of a channel')
  }

  connect(name: Uint8Array): void {
    if (this.isClosed) throw new FabricFailure('cut off', 'the channel is closed')
    if (name.length !== NAME_BYTES) throw new FabricFailure('failed', 'this is no name of a channel')
    assert(this.#peer === undefined, 'a channel is connected once')
    this.#peer = nameText(name)
  }

  start(operation: Operation): 'started' | 'later' {
    const { region, offset, bytes } = operation
    if (this.isClosed) throw new FabricFailure('cut off', 'the channel is closed')
    assert(this.#peer !== undefined, 'a channel is connected before its first operation')
    assert(region instanceof FakeRegion && region.device === this.device, 'the region is of this device')
    assert(!region.isClosed, 'the region is open')
    assert(Number.isInteger(bytes) && bytes >= 1 && bytes <= this.device.operationBytesMax, `${bytes} bytes at once`)
    assert(Number.isInteger(offset) && offset >= 0 && offset + bytes <= region.memory.length, 'within the region')
    if (!this.#isTaken()) return 'later'
    this.device.operations++
    region.underWay++
    const started: UnderWay = { operation, channel: this, isDue: false }
    this.#underWay.add(started)
    this.device.network.underWay.add(started)
    this.#delay(started, this.#other?.device.slowMs ?? 0)
    return 'started'
  }

  hurry(isHeldBack: boolean): void {
    this.isHurried = isHeldBack && !this.isClosed
  }

  close(): Promise<void> {
    this.isClosed = true
    this.device.network.channels.delete(nameText(this.name))
    this.#closed ??= this.#end()
    return this.#closed
  }

  async #end(): Promise<void> {
    this.isHurried = false
    this.#closing.abort(new Error('the channel is closed'))
    // What is under way between this channel and another ends now, at either end.
    this.device.network.wake()
    await new Promise((resolve) => setImmediate(resolve))
    for (const left of this.#underWay) {
      if (left.isDue && this.device.network.random.chance(0.5)) this.#move(left.operation, left.operation.bytes)
      this.#settle(left, new FabricFailure('cut off', 'the channel was closed'))
    }
    this.#forget()
  }

  canEnd(started: UnderWay): boolean {
    if (this.isClosed) return false
    if (this.#brokenBy !== undefined || this.#other === undefined) return true
    return started.isDue && this.#other.device.state === 'sound'
  }

  end(started: UnderWay): void {
    this.#settle(started, this.#carryOut(started))
  }

  get #other(): FakeChannel | undefined {
    return this.device.network.channels.get(this.#peer ?? '')
  }

  #isTaken(): boolean {
    if (this.#underWay.size >= this.device.operationsMax) return false
    if (this.#brokenBy !== undefined) return true
    const other = this.#other
    return (
      other !== undefined &&
      other.device.state !== 'dead' &&
      !this.device.network.random.chance(other.device.laterChance)
    )
  }

  #delay(started: UnderWay, ms: number): void {
    const due = (): void => {
      started.isDue = true
      this.device.network.wake()
    }
    if (ms === 0) return due()
    this.device.network.clock.sleep(ms, this.#closing.signal).then(due, () => undefined)
  }

  /** Undefined: it went well. */
  #carryOut({ operation }: UnderWay): FabricFailure | undefined {
    if (this.#brokenBy !== undefined) return new FabricFailure('failed', `broken since ${this.#brokenBy}`)
    const { device } = this.#other ?? {}
    if (device === undefined) return new FabricFailure('gone', 'there is nobody any more')
    const kind = device.nextFailure()
    if (kind !== undefined) {
      if (kind === 'refused') this.#brokenBy = 'a key was refused'
      else this.#move(operation, Math.floor(operation.bytes / 2))
      return new FabricFailure(kind, 'as the test wants it')
    }
    if (!this.#move(operation, operation.bytes)) {
      this.#brokenBy = 'a key was refused'
      return new FabricFailure('refused', 'the memory may not be reached like this')
    }
    device.reached++
    return undefined
  }

  #move(operation: Operation, bytes: number): boolean {
    const there = this.#other?.device.find(operation.remote.key)?.reach(operation)?.subarray(0, bytes)
    if (there === undefined) return false
    const here = operation.region.memory.subarray(operation.offset, operation.offset + bytes)
    if (operation.kind === 'read') here.set(there)
    else there.set(here)
    return true
  }

  #settle(ended: UnderWay, failure: FabricFailure | undefined): void {
    this.#underWay.delete(ended)
    this.device.network.underWay.delete(ended)
    const { region } = ended.operation
    assert(region instanceof FakeRegion, 'the region is of this device')
    region.underWay--
    ended.operation.ended(failure)
  }
}

function nameText(name: Uint8Array): string {
  return Buffer.from(name).toString('hex')
}
