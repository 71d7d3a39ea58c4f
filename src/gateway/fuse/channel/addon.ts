/** The native addon as JavaScript sees it (native/fuse says what each call does), and the loading of it. */
import { createRequire } from 'node:module'
import { buildAddon } from '../../../common/native-addon.ts'

declare const deviceBrand: unique symbol

/** An open /dev/fuse. Opaque. */
export interface NativeDevice {
  readonly [deviceBrand]: true
}

/** 0 or more, or a negative errno. */
type Status = number

export interface FuseAddon {
  openDevice(): NativeDevice | Status
  cloneDevice(descriptor: number): NativeDevice | Status
  descriptorOf(device: NativeDevice): number
  openSocketPair(): [ours: number, theirs: number] | Status
  receiveDevice(socket: number): NativeDevice | Status
  closeDescriptor(socket: number): void
  closeDevice(device: NativeDevice): void
  startReading(
    device: NativeDevice,
    slots: Uint8Array,
    control: Int32Array,
    slotCount: number,
    spinUs: number,
    onBatch: (count: number, failure: number) => void,
  ): Status
  resumeReading(device: NativeDevice): Status
  reply(device: NativeDevice, head: Uint8Array, ...pieces: readonly Uint8Array[]): Status
  mount(source: string, target: string, type: string, options: string): Promise<Status> | Status
  unmount(target: string, isLazy: boolean): Promise<Status> | Status
  notify(device: NativeDevice, messages: Uint8Array): Promise<Status> | Status
}

/** The addon, or why there is none. */
export type LoadedAddon =
  | { readonly addon: FuseAddon; readonly reason?: undefined }
  | { readonly addon?: undefined; readonly reason: string }

let loading: Promise<LoadedAddon> | undefined

/** Builds it first where that has not been done. The answer is the same for the life of this thread. */
export function loadAddon(): Promise<LoadedAddon> {
  loading ??= load()
  return loading
}

async function load(): Promise<LoadedAddon> {
  const built = await buildAddon('fuse')
  if (built.path === undefined) return { reason: built.reason }
  try {
    return { addon: createRequire(import.meta.url)(built.path) as FuseAddon }
  } catch (error) {
    return { reason: `${built.path} does not load: ${String(error)}` }
  }
}
