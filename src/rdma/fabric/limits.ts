/** Bounds of what the fabric does, by node and in all. */
import { assert } from '../../common/assert.ts'

const MIB = 1024 * 1024

export interface FabricLimits {
  /** How long what is lent may be read, from when it was asked for. */
  readonly leaseMs: number
  /** Beyond it, before the owner of what was lent uses the memory again: clocks do not run alike, and the reader's began later than its owner knows (C33). */
  readonly leaseMarginMs: number
  /** What one node may have borrowed at once; beyond that bytes go in the reply. */
  readonly lentBytesMax: number
  /** For one body to be moved, unless its call has less time. */
  readonly transferMs: number
  /** Moved at once between this node and another; more wait. */
  readonly operationsMax: number
  readonly bytesMax: number
  /** What a node lets one other write to. */
  readonly grantBytes: number
  /** Bodies that one node's calls hold here, beside those in its connection. */
  readonly heldBytesMax: number
  /** After a failure the connection is used for so long, and twice as long each time. */
  readonly restMs: number
  readonly restMsMax: number
  /** For another node to answer what the fabric itself asks. */
  readonly agreeMs: number
  /** Bodies from here on go by the fabric, whatever is measured. Undefined: what is measured. */
  readonly lineBytes: number | undefined
  /** What was measured is believed for so long, and for `lineNeverMs` where the fabric was never faster: perhaps the machine was busy. */
  readonly lineMs: number
  readonly lineNeverMs: number
  /** As `lineBytes`, where what is measured says more than this. */
  readonly lineBytesMax: number
}

export const FABRIC_LIMITS: FabricLimits = {
  leaseMs: 5_000,
  leaseMarginMs: 1_000,
  lentBytesMax: 64 * MIB,
  transferMs: 2_000,
  operationsMax: 64,
  bytesMax: 32 * MIB,
  grantBytes: 16 * MIB,
  heldBytesMax: 64 * MIB,
  restMs: 1_000,
  restMsMax: 60_000,
  agreeMs: 5_000,
  lineBytes: undefined,
  lineMs: 600_000,
  lineNeverMs: 60_000,
  lineBytesMax: Number.POSITIVE_INFINITY,
}

assert(FABRIC_LIMITS.transferMs < FABRIC_LIMITS.leaseMs, 'what is lent can be read in time')
