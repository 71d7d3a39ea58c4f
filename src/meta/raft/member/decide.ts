/** What a node does when it starts: the table of docs/decisions/0017-the-supervised-member.md. */
import { unreachable } from '../../../common/assert.ts'
import type { KnownMember, NodeRecord } from './node-record.ts'

export type Step =
  /** With what it has; `launch` counts only where it has nothing. */
  | { readonly kind: 'start'; readonly launch: 'new' | 'existing' }
  /** Only the members can tell: `decideAmong`. */
  | { readonly kind: 'ask' }
  | { readonly kind: 'client' }

export type StepAmong =
  | { readonly kind: 'add' }
  /** Its disk was lost. */
  | { readonly kind: 'replace'; readonly member: KnownMember }
  | { readonly kind: 'client' }

export function decide(record: NodeRecord | undefined, hasData: boolean): Step {
  if (record === undefined) return { kind: 'ask' }
  switch (record.state) {
    case 'founding':
      return { kind: 'start', launch: 'new' }
    case 'member':
    case 'joining':
      return hasData ? { kind: 'start', launch: 'existing' } : { kind: 'ask' }
    case 'client':
      return { kind: 'ask' }
    case 'removed':
      return { kind: 'client' }
    default:
      return unreachable(record.state, 'state of a node')
  }
}

export function decideAmong(members: readonly KnownMember[], own: { peerUrl: string; voters: number }): StepAmong {
  const known = members.find((member) => member.peerUrl === own.peerUrl)
  if (known !== undefined) return { kind: 'replace', member: known }
  // A learner is about to vote.
  return members.length < own.voters ? { kind: 'add' } : { kind: 'client' }
}
