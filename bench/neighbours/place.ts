/** What the two processes of `neighbours-hit` agree on. */
import type { SegmentId } from '../../src/common/ids.ts'
import type { NodeMember } from '../../src/common/node-view.ts'

export const MIB: number = 2 ** 20
export const SMALL_BYTES = 4096
export const LARGE_BLOCKS = 32
export const SMALL_SEGMENTS = 32
export const SLAB_BYTES: number = 96 * MIB
export const LARGE: SegmentId = 'a'.repeat(32) as SegmentId

/** By node number. */
export const READER = 1
export const HOLDER = 2
export const INCARNATION: string = '0'.repeat(16)

export function smallSegment(index: number): SegmentId {
  return (index + 1).toString(16).padStart(32, '0') as SegmentId
}

export function memberAt(number: number, address: string): NodeMember {
  const rest = { incarnation: INCARNATION, weight: 1, labels: {}, version: '' } as const
  return { ...rest, number, name: `n${number}`, address, state: 'serving' }
}

/** What the reader is told by the holder once it can be asked. */
export interface HolderReady {
  readonly address: string
  readonly rawPort: number
}
