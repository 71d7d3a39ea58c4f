/** What names of a namespace that several nodes share ask of metadata and of the node's surroundings. */
import type { Revision } from '../../../common/ids.ts'
import type { NamesSource } from '../ports.ts'

/** Rows of the metadata, satisfied by meta (meta/namespace/names-holder.ts). */
export interface HolderRows {
  /** This node's number. */
  readonly node: number
  look(): Promise<{ readonly row: Uint8Array | undefined; readonly wanted: Revision }>
  /** Compare-and-swap. @returns the revision of the commit */
  change(change: (row: Uint8Array | undefined) => Uint8Array): Promise<Revision>
  want(revision: Revision): Promise<void>
}

export interface SharedNamesSource extends NamesSource {
  /** The revision that is durable, if no name has changed since that one; undefined when one has, or when that cannot be told. */
  unchangedThrough(after: Revision): Revision | undefined
}

/** What is known of the nodes (common/node-view.ts). */
export interface LivingNodes {
  /** Of this node's process, as the others are told. */
  readonly incarnation: string
  /** Whether that process is among them, as far as is known here. */
  isAlive(node: number, incarnation: string): boolean
}
