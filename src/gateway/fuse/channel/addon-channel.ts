/** The channel over the native addon. */
import { constants } from 'node:os'
import { assert } from '../../../common/assert.ts'
import { TidegateError } from '../../../common/errors.ts'
import type { FuseAddon, NativeDevice } from './addon.ts'
import { deviceError, isEnd } from './device-errors.ts'
import { mountByFusermount } from './fusermount.ts'
import { FILE_SYSTEM_TYPE, findMount, setReadAheadKib, unmountByProgram } from './mount-table.ts'
import { kernelMountOptions } from './mount-options.ts'
import { NotificationQueue } from './notification-queue.ts'
import {
  type ChannelOptions,
  type FuseChannel,
  type MountOptions,
  type OnRequests,
  REPLY_PIECES_MAX,
  type RequestSlot,
} from './ports.ts'
import { SlotPool } from './slot-pool.ts'

const { EBUSY, EINVAL, ENODEV, ENOENT } = constants.errno

export async function mountByAddon(addon: FuseAddon, mountPoint: string, options: MountOptions): Promise<FuseChannel> {
  const device =
    process.geteuid?.() === 0
      ? await mountAsRoot(addon, mountPoint, options)
      : await mountByFusermount(addon, mountPoint, options)
  return new AddonChannel(addon, device, mountPoint, options)
}

async function mountAsRoot(addon: FuseAddon, mountPoint: string, options: MountOptions): Promise<NativeDevice> {
  const device = addon.openDevice()
  if (typeof device === 'number') throw deviceError('/dev/fuse', -device)
  const status = await addon.mount(
    options.name,
    mountPoint,
    FILE_SYSTEM_TYPE,
    kernelMountOptions(addon.descriptorOf(device), options),
  )
  if (status === 0) return device
  addon.closeDevice(device)
  throw deviceError(`mounting on ${mountPoint}`, -status)
}

/** A descriptor of its own on a mount of this process, so that another thread serves with it. */
export function cloneByAddon(
  addon: FuseAddon,
  original: { readonly mountPoint: string; readonly descriptor: number },
  options: ChannelOptions,
): FuseChannel {
  const device = addon.cloneDevice(original.descriptor)
  if (typeof device === 'number') throw deviceError(`cloning the device of ${original.mountPoint}`, -device)
  return new AddonChannel(addon, device, original.mountPoint, options)
}

class AddonChannel implements FuseChannel {
  readonly twin = 'addon'
  readonly mountPoint: string
  readonly descriptor: number
  readonly closed: Promise<void>
  readonly #addon: FuseAddon
  readonly #device: NativeDevice
  readonly #options: ChannelOptions
  readonly #pool: SlotPool
  readonly #notifications: NotificationQueue
  readonly #end: PromiseWithResolvers<void> = Promise.withResolvers()
  #isStarted = false
  #isClosed = false

  constructor(addon: FuseAddon, device: NativeDevice, mountPoint: string, options: ChannelOptions) {
    this.#addon = addon
    this.#device = device
    this.#options = options
    this.mountPoint = mountPoint
    this.descriptor = addon.descriptorOf(device)
    this.#pool = new SlotPool(options)
    this.#notifications = new NotificationQueue((messages) => this.#writeNotifications(messages))
    this.closed = this.#end.promise
    // Whoever does not wait for the end need not be told of it.
    this.closed.catch(() => undefined)
  }

  start(onRequests: OnRequests): void {
    assert(!this.#isStarted, 'a channel is started once')
    this.#isStarted = true
    const batch: RequestSlot[] = []
    const onBatch = (count: number, failure: number): void => {
      if (count > 0) {
        this.#pool.takeBatch(count, batch)
        onRequests(batch)
      }
      if (failure !== 0) this.#finish(failure)
    }
    const { memory, control, slots } = this.#pool
    const spinUs = this.#options.spinUsMax
    const status = this.#addon.startReading(this.#device, memory, control, slots.length, spinUs, onBatch)
    if (status < 0) throw deviceError(`reading the device of ${this.mountPoint}`, -status)
  }

  keep(slot: RequestSlot): void {
    this.#pool.keep(slot)
  }

  release(slot: RequestSlot): void {
    if (this.#pool.release(slot) && !this.#isClosed) this.#addon.resumeReading(this.#device)
  }

  reply(head: Uint8Array, ...pieces: readonly Uint8Array[]): boolean {
    assert(pieces.length <= REPLY_PIECES_MAX, `reply of ${pieces.length} pieces`)
    const status =
      pieces.length === 0 ? this.#addon.reply(this.#device, head) : this.#addon.reply(this.#device, head, ...pieces)
    if (status === 0) return true
    if (status === -ENOENT || this.#isClosed || isEnd(-status)) return false
    throw deviceError('the kernel refused a reply', -status, 'Internal')
  }

  notify(message: Uint8Array): Promise<void> {
    return this.#notifications.send(message)
  }

  async setReadAheadKib(kib: number): Promise<boolean> {
    const mount = await findMount(this.mountPoint)
    return mount !== undefined && setReadAheadKib(mount.device, kib)
  }

  async unmount(options: { readonly lazy?: boolean } = {}): Promise<void> {
    const lazy = options.lazy ?? false
    if ((await findMount(this.mountPoint)) === undefined) return
    if (process.geteuid?.() !== 0) return unmountByProgram(this.mountPoint, { lazy })
    const status = await this.#addon.unmount(this.mountPoint, lazy)
    if (status === 0 || status === -EINVAL || status === -ENOENT) return
    throw deviceError(`unmounting ${this.mountPoint}`, -status, status === -EBUSY ? 'Unavailable' : 'Internal')
  }

  async close(): Promise<void> {
    this.#finish(ENODEV)
  }

  #finish(errno: number): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#addon.closeDevice(this.#device)
    if (isEnd(errno)) this.#end.resolve()
    else this.#end.reject(deviceError(`reading the device of ${this.mountPoint}`, errno))
  }

  async #writeNotifications(messages: Uint8Array): Promise<void> {
    if (this.#isClosed) throw new TidegateError('Unavailable', `${this.mountPoint} is not mounted any more`)
    const status = await this.#addon.notify(this.#device, messages)
    if (status < 0) throw deviceError('the kernel refused a notification', -status)
  }
}
