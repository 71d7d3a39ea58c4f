/** Which nodes there are, as this one knows it: from rows that each node keeps alive by a lease (meta/raft/nodes). May be some seconds old. */

/** What a node says of itself. */
export interface NodeMember {
  /** From 1; 0 is the node whose metadata were moved to where they are shared. */
  readonly number: number
  /** For people; unique only if they see to it. */
  readonly name: string
  /** 16 hex digits, anew at each start of its process. */
  readonly incarnation: string
  /** Where the others reach it: HOST:PORT. */
  readonly address: string
  /** Its share of the blocks among the others; 0: it owns none. */
  readonly weight: number
  /** Such as `zone=a`, by name. Two nodes that differ in a label fail apart. */
  readonly labels: Readonly<Record<string, string>>
  /** `starting`: it answers nothing yet. `leaving`: it serves what it has, and is to be given nothing new. */
  readonly state: 'starting' | 'serving' | 'leaving'
  /** Of its gateway, for people. */
  readonly version: string
}

export interface NodeView {
  /** This node's number. */
  readonly self: number
  /** Those alive, this one too, ascending by number. */
  members(): readonly NodeMember[]
  member(number: number): NodeMember | undefined
  /** Called after each change; returns what ends that. */
  onChange(listener: () => void): () => void
}
