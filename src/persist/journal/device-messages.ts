/** What the journal's thread is told: here, since the module of the thread itself runs only in it. */
import type { DeviceOperation } from './device.ts'

export interface DeviceThreadData {
  readonly slab: SharedArrayBuffer
  readonly blockBytes: number
  readonly pageBytes: number
}

/** Nothing comes after it, and the thread ends. */
export const END = 'end'

export type DeviceMessage = readonly DeviceOperation[] | typeof END
