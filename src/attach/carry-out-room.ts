/**
 * Renames that went round in a circle: `a` has what was `b` and `b` has what was `a`, so neither can be overwritten before the other has been. What lies outside at
 * one of them is then copied to a key of its own, `.tidegate-moving/<id>`, and what needed it refers to that from now on (`relocate`). The copy has a dirty row
 * that says so, like any key that something was renamed from: so it does not show here, and is deleted when it is needed no longer, by
 * whichever process.
 *
 * So is a file's that was removed or replaced while somebody has it open, and lies outside: its copy is deleted once it is closed.
 *
 * The id is that of the external segment, so it stands for these very bytes: killed between the copy and the row, the next try finds the copy and goes on.
 */
import { externalSegment } from '../common/external.ts'
import { isGone } from './carry-out-content.ts'
import type { Attached } from './attached.ts'
import type { AttachedNames, DirtyState, ExternalCapabilities } from './ports.ts'

export const ROOM_PREFIX = '.tidegate-moving/'

/** Whether the key is one of those copies. */
export function isRoom(key: string): boolean {
  return key.startsWith(ROOM_PREFIX)
}

export interface Room {
  readonly names: AttachedNames
  readonly attached: Attached
  readonly capabilities: ExternalCapabilities
  readonly state: DirtyState
  readonly signal: AbortSignal
}

/** `gone`: what was needed is not there any more, so nothing is lost by going on; who needs it finds that out, and is listed. */
export type RoomMade = 'made' | 'gone' | 'none'

export async function makeRoom({ names, attached, capabilities, state, signal }: Room): Promise<RoomMade> {
  const { external } = attached
  const { bucketId } = attached.record
  const { key, base } = state.dirty
  // Written only where nothing lies, it takes nothing away.
  if (base.kind === 'absent') return 'gone'
  const from = { key, etag: base.etag, size: base.size }
  const room = ROOM_PREFIX + externalSegment(bucketId, from)
  try {
    const expected = { kind: capabilities.conditionalCopy ? 'absent' : 'anything' } as const
    await external.copy(from, room, { attributes: undefined, expected, signal })
  } catch (error) {
    if (!isGone(error)) throw error
  }
  const copy = await external.head(room, signal)
  if (copy?.size !== from.size) {
    const lying = await external.head(key, signal)
    return lying?.etag === from.etag ? 'none' : 'gone'
  }
  const relocated = await names.relocate({ bucketId, from, to: { key: room, etag: copy.etag } })
  await relocated.durable
  // They need what lay there before: somebody has decided against what took its place, so that became the base.
  return relocated.value ? 'made' : 'gone'
}
