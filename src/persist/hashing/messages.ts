/**
 * What the engine's thread and a hash worker say to each other. The engine posts arrays of commands, the worker arrays of
 * answers; both keep their order. Each command with a ticket is answered exactly once; the worker's first message
 * is an empty array and says that it is ready. Bytes never travel: commands name
 * places in the slab, which both threads see.
 */
import type { LaneAlgorithm } from './lanes.ts'

export interface HashWorkerData {
  readonly slab: SharedArrayBuffer
}

export type HashCommand =
  | { readonly kind: 'open'; readonly lane: number; readonly algorithm: LaneAlgorithm }
  | { readonly kind: 'close'; readonly lane: number }
  | HashJob

/** Work that is answered. `digest` also closes the lane. */
export type HashJob =
  | {
      readonly kind: 'update'
      readonly ticket: number
      readonly lane: number
      readonly slabOffset: number
      readonly length: number
    }
  | { readonly kind: 'digest'; readonly ticket: number; readonly lane: number }
  | {
      readonly kind: 'pages'
      readonly ticket: number
      readonly slabOffset: number
      readonly length: number
      readonly pageBytes: number
    }

/** Undefined for an update, text for a digest, checksums for pages. */
export type HashResult = string | Uint32Array | undefined

export interface HashAnswer {
  readonly ticket: number
  readonly result: HashResult
}
