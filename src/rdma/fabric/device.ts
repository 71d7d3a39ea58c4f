/**
 * The fabric as libfabric has it, through the native addon. Here lies what the addon leaves out: which ending belongs to which operation,
 * and what an error means.
 *
 * The addon holds on to `Endings` alone, never to a device: so a device that nobody refers to any more is collected, and closed by that.
 */
import { isIP } from 'node:net'
import { assert, must } from '../../common/assert.ts'
import { CHANNEL_CLOSED, CUT_OFF, DEVICE_STOPPED, loadFabricAddon, NUMBERS_EACH } from './addon.ts'
import type { FabricAddon, NativeChannel, NativeDevice, NativeRegion } from './addon.ts'
import { failureOf, failureOfCall } from './device-errors.ts'
import { FabricFailure } from './ports.ts'
import type {
  Channel,
  FabricDevice,
  FabricDeviceOptions,
  FabricProvider,
  Operation,
  Region,
  RegionAccess,
} from './ports.ts'

const PROVIDER_NAMES = { verbs: 'verbs;ofi_rxm', tcp: 'tcp;ofi_rxm' } as const satisfies Record<FabricProvider, string>
const ACCESS_NUMBERS = { none: 0, read: 1, 'read and write': 2 } as const satisfies Record<RegionAccess, number>

/** One call from the addon tells of so many at most. */
const BATCH_ENDINGS_MAX = 256

const LATER = -11

/** Undefined device: why not, in one line for people. Builds the addon if that was not done. Never rejects. */
export async function openFabricDevice(
  options: FabricDeviceOptions,
): Promise<{ device: FabricDevice; reason?: undefined } | { device?: undefined; reason: string }> {
  const { provider, address } = options
  if (!Object.hasOwn(PROVIDER_NAMES, provider)) return { reason: `the fabric has no provider ${provider}` }
  if (isIP(address) === 0) return { reason: `a fabric device is opened by an IP address; ${address} is none` }
  const { addon, reason } = await loadFabricAddon()
  if (addon === undefined) return { reason }
  const endings = new Endings(addon)
  const readsBehind = provider === 'verbs'
  const native = addon.openDevice(PROVIDER_NAMES[provider], address, readsBehind, endings.batch, (count) =>
    endings.take(count),
  )
  if (typeof native === 'string') return { reason: native }
  const device = new NativeFabricDevice({ addon, native, endings, provider })
  const unfit = await tryOnce(device)
  if (unfit === undefined) return { device }
  await device.close()
  return { reason: `${provider} at ${address}: ${unfit}` }
}

/** Some addresses and limits are found to be of no use only when an endpoint is opened. @returns why it cannot be used */
async function tryOnce(device: FabricDevice): Promise<string | undefined> {
  try {
    await device.open().close()
    return undefined
  } catch (error) {
    if (error instanceof FabricFailure) return error.message
    throw error
  }
}

interface Started {
  readonly operation: Operation
  readonly channel: NativeFabricChannel
}

/** What the addon will tell of. Ids are small numbers that are used again. */
class Endings {
  readonly batch: Int32Array = new Int32Array(NUMBERS_EACH * BATCH_ENDINGS_MAX)
  readonly #addon: FabricAddon
  readonly #started: (Started | undefined)[] = []
  readonly #closing = new Map<number, () => void>()
  #stopped: (() => void) | undefined

  constructor(addon: FabricAddon) {
    this.#addon = addon
  }

  add(id: number, started: Started): void {
    const before = this.#started[id]
    // It has begun, whatever is amiss: its ending must find it.
    this.#started[id] = started
    assert(before === undefined, 'an operation id of the fabric addon is given once at a time')
  }

  onceClosed(channelId: number, callback: () => void): void {
    this.#closing.set(channelId, callback)
  }

  onceStopped(callback: () => void): void {
    this.#stopped = callback
  }

  /** All are told, also when one of those who are told throws: it is thrown then. */
  take(count: number): void {
    const thrown: unknown[] = []
    for (let at = 0; at < count * NUMBERS_EACH; at += NUMBERS_EACH) {
      try {
        this.#tell(this.batch[at] ?? 0, this.batch[at + 1] ?? 0, this.batch[at + 2] ?? 0)
      } catch (error) {
        thrown.push(error)
      }
    }
    if (thrown.length > 0) throw thrown[0]
  }

  #tell(id: number, error: number, detail: number): void {
    if (id >= 0) this.#end(id, error, detail)
    else if (id === CHANNEL_CLOSED) this.#close(error)
    else if (id === DEVICE_STOPPED) this.#stopped?.()
  }

  #end(id: number, error: number, detail: number): void {
    const { operation, channel } = must(this.#started[id], 'an operation that the fabric addon says has ended')
    this.#started[id] = undefined
    channel.hasEnded()
    operation.ended(error === 0 ? undefined : this.#failureOf(error, detail))
  }

  #failureOf(error: number, detail: number): FabricFailure {
    return error === CUT_OFF
      ? new FabricFailure('cut off', 'the channel was closed')
      : failureOf(error, detail, this.#addon.explain(error))
  }

  #close(channelId: number): void {
    const callback = this.#closing.get(channelId)
    this.#closing.delete(channelId)
    callback?.()
  }
}

interface DeviceParts {
  readonly addon: FabricAddon
  readonly native: NativeDevice
  readonly endings: Endings
  readonly provider: FabricProvider
}

class NativeFabricDevice implements FabricDevice {
  readonly provider: FabricProvider
  readonly domain: string
  readonly version: string
  readonly operationBytesMax: number
  readonly #parts: DeviceParts
  readonly #channels = new Set<NativeFabricChannel>()
  readonly #regions = new Set<NativeFabricRegion>()
  #closing: Promise<void> | undefined

  constructor(parts: DeviceParts) {
    this.#parts = parts
    this.provider = parts.provider
    const [domain, version, operationBytesMax] = parts.addon.describeDevice(parts.native)
    this.domain = domain
    this.version = version
    this.operationBytesMax = operationBytesMax
  }

  register(memory: Uint8Array, access: RegionAccess, through?: Channel): Region {
    // What shrinks or moves would be pulled away from under the hardware.
    assert(memory.byteLength > 0 && !isResizable(memory.buffer), 'registered memory is of a fixed size')
    const { addon, native } = this.#parts
    if (this.#closing !== undefined) throw closed()
    assert(through === undefined || through instanceof NativeFabricChannel, 'a channel is of this addon')
    const region = addon.registerRegion(native, memory, ACCESS_NUMBERS[access], through?.native)
    if (typeof region === 'number') {
      // What is pinned counts against a limit, and going over it is told as one of several errors.
      const hint = this.provider === 'verbs' ? ' (is the limit of locked memory, `ulimit -l`, high enough?)' : ''
      throw failureOfCall(-region, `${memory.byteLength} bytes cannot be registered${hint}`, addon.explain(-region))
    }
    const registered = new NativeFabricRegion(this, { addon, native: region, memory }, (closed) =>
      this.#regions.delete(closed),
    )
    this.#regions.add(registered)
    return registered
  }

  open(): Channel {
    if (this.#closing !== undefined) throw closed()
    const { addon, native, endings } = this.#parts
    const channel = addon.openChannel(native)
    if (typeof channel === 'number') {
      throw failureOfCall(-channel, 'no endpoint can be opened', addon.explain(-channel))
    }
    const opened = new NativeFabricChannel(this, { addon, native: channel, endings }, (closed) =>
      this.#channels.delete(closed),
    )
    this.#channels.add(opened)
    return opened
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const { addon, native, endings } = this.#parts
    await Promise.all([...this.#channels].map((channel) => channel.close()))
    for (const region of this.#regions) region.close()
    await new Promise<void>((resolve) => {
      endings.onceStopped(resolve)
      addon.closeDevice(native)
    })
  }
}

class NativeFabricRegion implements Region {
  readonly key: bigint
  readonly address: bigint
  readonly memory: Uint8Array
  /** Kept, since a device that is collected is closed. */
  readonly device: NativeFabricDevice
  readonly native: NativeRegion
  readonly #addon: FabricAddon
  readonly #onClose: (region: NativeFabricRegion) => void
  #isClosed = false

  constructor(
    device: NativeFabricDevice,
    parts: { readonly addon: FabricAddon; readonly native: NativeRegion; readonly memory: Uint8Array },
    onClose: (region: NativeFabricRegion) => void,
  ) {
    this.device = device
    this.native = parts.native
    this.memory = parts.memory
    this.#addon = parts.addon
    this.#onClose = onClose
    const [key, address] = parts.addon.describeRegion(parts.native)
    this.key = key
    this.address = address
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  close(): void {
    if (this.#isClosed) return
    assert(this.#addon.closeRegion(this.native) === 0, 'a region is closed when its operations have ended')
    this.#isClosed = true
    this.#onClose(this)
  }
}

interface ChannelParts {
  readonly addon: FabricAddon
  readonly native: NativeChannel
  readonly endings: Endings
}

class NativeFabricChannel implements Channel {
  readonly name: Uint8Array
  readonly #device: NativeFabricDevice
  readonly #parts: ChannelParts
  readonly #id: number
  readonly #onClose: (channel: NativeFabricChannel) => void
  #isConnected = false
  #underWay = 0
  #closing: Promise<void> | undefined

  constructor(device: NativeFabricDevice, parts: ChannelParts, onClose: (channel: NativeFabricChannel) => void) {
    this.#device = device
    this.#parts = parts
    this.#onClose = onClose
    const [id, name] = parts.addon.describeChannel(parts.native)
    this.#id = id
    this.name = new Uint8Array(name)
  }

  get isClosed(): boolean {
    return this.#closing !== undefined
  }

  get underWay(): number {
    return this.#underWay
  }

  get native(): NativeChannel {
    return this.#parts.native
  }

  /** For Endings. */
  hasEnded(): void {
    this.#underWay -= 1
  }

  async resolve(name: Uint8Array): Promise<void> {
    if (this.#device.provider !== 'verbs') return
    const { addon, native } = this.#parts
    const status = await addon.resolveName(native, name)
    if (status < 0)
      throw failureOfCall(-status, 'the address of the other end cannot be resolved', addon.explain(-status))
  }

  connect(name: Uint8Array): void {
    assert(!this.#isConnected, 'a channel is connected once')
    const { addon, native } = this.#parts
    const status = addon.connectChannel(native, name)
    if (status < 0) throw failureOfCall(-status, 'the name of the other end is not used', addon.explain(-status))
    this.#isConnected = true
  }

  start(operation: Operation): 'started' | 'later' {
    const { kind, region, offset, bytes, remote } = operation
    assert(region instanceof NativeFabricRegion && region.device === this.#device, 'a region is of this device')
    assert(!region.isClosed && this.#isConnected, 'an operation needs an open region and a connected channel')
    assert(Number.isInteger(offset) && Number.isInteger(bytes), 'an operation is of whole bytes')
    assert(bytes > 0 && bytes <= this.#device.operationBytesMax, 'an operation moves at least a byte and not too many')
    assert(offset >= 0 && offset + bytes <= region.memory.byteLength, 'an operation lies within its region')
    const { addon, native, endings } = this.#parts
    const isWrite = kind === 'write'
    const id = addon.start(native, isWrite, region.native, offset, bytes, remote.address, remote.key)
    if (id >= 0) {
      endings.add(id, { operation, channel: this })
      this.#underWay += 1
      return 'started'
    }
    if (id === LATER) return 'later'
    throw failureOfCall(-id, `a ${kind} cannot be started`, addon.explain(-id))
  }

  hurry(isHeldBack: boolean): void {
    this.#parts.addon.hurry(this.#parts.native, isHeldBack)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const { addon, native, endings } = this.#parts
    await new Promise<void>((resolve) => {
      endings.onceClosed(this.#id, resolve)
      addon.closeChannel(native)
    })
    this.#onClose(this)
  }
}

function closed(): FabricFailure {
  return new FabricFailure('cut off', 'the device is closed')
}

function isResizable(buffer: ArrayBufferLike): boolean {
  return buffer instanceof ArrayBuffer && buffer.resizable
}
