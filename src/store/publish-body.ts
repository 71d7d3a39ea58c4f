/** Makes of a body that was taken over what a metadata transaction stores of it. */
import type { Limits } from '../common/limits.ts'
import type { AckLevel } from '../common/model.ts'
import type { Acknowledgement } from './acknowledgement.ts'
import type { MeantFor, TakenBody } from './bodies.ts'
import type { PublishBody } from './ports.ts'

type InlineBody = Extract<PublishBody, { kind: 'inline' }>
type RunBody = Extract<PublishBody, { kind: 'run' }>

/** Undefined for a body that is too large and needs the journal. Inline bytes are as safe as the rows they lie in, at every level (C17). */
export function inlineBody(taken: TakenBody, limits: Limits): InlineBody | undefined {
  if (!taken.bytes || taken.length > limits.inlineBytesMax) return undefined
  return { kind: 'inline', bytes: taken.bytes }
}

/** Resolves once the bytes are as safe as the level asks before a commit may name them. */
export async function journaledBody(
  taken: TakenBody,
  { acknowledgement, ack, label }: { acknowledgement: Acknowledgement; ack: AckLevel; label: MeantFor },
): Promise<RunBody> {
  const journaled = await taken.journal(label, { copied: ack === 'replicated' })
  await acknowledgement.beforeCommit(ack, journaled)
  return { kind: 'run', run: journaled.run }
}
