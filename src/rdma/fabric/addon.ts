/** The native addon as JavaScript sees it (native/fabric says what each call does), and the loading of it. */
import { createRequire } from 'node:module'
import { buildAddon } from '../../common/native-addon.ts'

declare const deviceBrand: unique symbol
declare const regionBrand: unique symbol
declare const channelBrand: unique symbol

/** Opaque. */
export interface NativeDevice {
  readonly [deviceBrand]: true
}
export interface NativeRegion {
  readonly [regionBrand]: true
}
export interface NativeChannel {
  readonly [channelBrand]: true
}

/** 0 or more, or a negative error of libfabric's; up to 255 those are errno. */
type Status = number

export interface FabricAddon {
  /** @returns the device, or why there is none */
  openDevice(
    provider: string,
    address: string,
    readsBehind: boolean,
    batch: Int32Array,
    onBatch: (count: number) => void,
  ): NativeDevice | string
  describeDevice(device: NativeDevice): [domain: string, version: string, operationBytesMax: number]
  closeDevice(device: NativeDevice): void
  registerRegion(
    device: NativeDevice,
    memory: Uint8Array,
    access: number,
    through: NativeChannel | undefined,
  ): NativeRegion | Status
  describeRegion(region: NativeRegion): [key: bigint, address: bigint]
  closeRegion(region: NativeRegion): Status
  openChannel(device: NativeDevice): NativeChannel | Status
  describeChannel(channel: NativeChannel): [id: number, name: ArrayBuffer]
  /** Beside this thread; with verbs alone there is anything to resolve. */
  resolveName(channel: NativeChannel, name: Uint8Array): Promise<Status>
  connectChannel(channel: NativeChannel, name: Uint8Array): Status
  /** @returns the operation's id, which the batch will have once */
  start(
    channel: NativeChannel,
    isWrite: boolean,
    region: NativeRegion,
    offset: number,
    bytes: number,
    remoteAddress: bigint,
    remoteKey: bigint,
  ): Status
  hurry(channel: NativeChannel, isHeldBack: boolean): void
  closeChannel(channel: NativeChannel): void
  explain(error: number): string
}

/** Of the batch: numbers each ending has, and what the first of them is when it is no operation's id. */
export const NUMBERS_EACH = 3
export const DEVICE_STOPPED = -1
export const CHANNEL_CLOSED = -2
/** In the place of an error. */
export const CUT_OFF = -1

/** The addon, or why there is none. */
export type LoadedFabricAddon =
  | { readonly addon: FabricAddon; readonly reason?: undefined }
  | { readonly addon?: undefined; readonly reason: string }

let loading: Promise<LoadedFabricAddon> | undefined

/** Builds it first where that has not been done. The answer is the same for the life of this thread. */
export function loadFabricAddon(): Promise<LoadedFabricAddon> {
  loading ??= load()
  return loading
}

async function load(): Promise<LoadedFabricAddon> {
  const built = await buildAddon('fabric')
  if (built.path === undefined) return { reason: built.reason }
  try {
    return { addon: createRequire(import.meta.url)(built.path) as FabricAddon }
  } catch (error) {
    return { reason: `${built.path} does not load: ${error instanceof Error ? error.message : String(error)}` }
  }
}
