/** What a node tells of itself and of etcd, for metrics and health. */
import type { EmbeddedStore } from '../stage/ports.ts'

export interface EtcdFigures {
  /** Sent to etcd, and the transactions in them. */
  readonly groups: number
  readonly grouped: number
  /** Groups of which it had to be found out whether they took effect. */
  readonly lost: number
  /** Transactions that ran again because of another node's change. */
  readonly conflicts: number
  /** Barriers that were answered, and how long that took together. */
  readonly barriers: number
  readonly barriersMs: number
  /** How often etcd has been away. */
  readonly outages: number
  /** Reads that were told what this node knew while etcd was away. */
  readonly staleReads: number
  /** Transactions and reads under way. */
  readonly underWay: number
}

export interface SharedStore extends EmbeddedStore {
  readonly figures: EtcdFigures
  /** Why etcd is away, in words; undefined: a majority answers. */
  readonly away: string | undefined
}
