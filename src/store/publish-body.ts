/** Makes of a body that was taken over what a metadata transaction stores of it. */
import type { Limits } from '../common/limits.ts'
import type { AckLevel } from '../common/model.ts'
import type { Acknowledgement } from './acknowledgement.ts'
import type { TakenBody } from './bodies.ts'
import type { PublishBody } from './ports.ts'

type InlineBody = Extract<PublishBody, { kind: 'inline' }>
type RunBody = Extract<PublishBody, { kind: 'run' }>

/** Undefined for a body that needs the journal: it is too large, or must reach the remote store, where only segments go (C17). */
export function inlineBody(taken: TakenBody, ack: AckLevel, limits: Limits): InlineBody | undefined {
  if (!taken.bytes || taken.length > limits.inlineBytesMax) return undefined
  if (ack === 'persisted' && taken.length > 0) return undefined
  return { kind: 'inline', bytes: taken.bytes }
}

/** Resolves once the bytes are as safe as the level asks before a commit may name them. */
export async function journaledBody(
  taken: TakenBody,
  { acknowledgement, ack, label }: { acknowledgement: Acknowledgement; ack: AckLevel; label: BodyLabel },
): Promise<RunBody> {
  const journaled = await taken.journal(label)
  await acknowledgement.beforeCommit(ack, journaled)
  return { kind: 'run', run: journaled.run }
}

export interface BodyLabel {
  readonly bucket: string
  readonly key: string
}
