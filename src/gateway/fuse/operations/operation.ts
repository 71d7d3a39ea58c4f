/** What every operation of the mount is, and works with. One file for each group of operations; the table is operations.ts. */
import type { Logger } from '../../../common/logging.ts'
import type { Files, Reading } from '../../../store/doors.ts'
import type { FileNode } from '../../../common/file-model.ts'
import type { Answers } from '../answers.ts'
import type { Coherence } from '../coherence.ts'
import type { DirectoryCursors } from '../directory-cursors.ts'
import type { MountLocks } from '../lock-table.ts'
import { attributesOf, nodeIdOf } from '../nodes.ts'
import type { MountMetrics } from '../mount-metrics.ts'
import type { OpenFiles } from '../open-files.ts'
import type { CacheTimes, EntryReply } from '../protocol/attributes.ts'
import type { DirectoryReply } from '../protocol/directory-reply.ts'
import type { OperationName } from '../protocol/opcodes.ts'
import type { RequestHeader, RequestOf } from '../protocol/requests.ts'
import type { MountStatistics } from '../virtual/statistics.ts'
import type { VirtualTree } from '../virtual/tree.ts'

export interface MountState {
  readonly files: Files
  readonly reading: Pick<Reading, 'view' | 'release'>
  readonly answers: Answers
  readonly coherence: Coherence
  readonly locks: MountLocks
  readonly openFiles: OpenFiles
  /** Whether no other mount shows the same files. */
  readonly isAlone: () => boolean
  readonly cursors: DirectoryCursors
  /** Built and sent in one turn, so one serves all. */
  readonly listing: DirectoryReply
  /** The kernel and the session have agreed on how to speak. */
  readonly onInit: () => void
  /** `.tidegate` at the root. */
  readonly virtual: VirtualTree
  readonly metrics: MountMetrics
  readonly statistics: MountStatistics
  readonly log: Logger
}

/**
 * Does what is asked and answers it through `mount.answers`. What it throws is answered by the session: TidegateError and FuseError with
 * their errno. `request.data` is valid until it resolves.
 */
export type Operation<Name extends OperationName> = (
  request: RequestOf<Name>,
  mount: MountState,
) => Promise<void> | void

export type Operations<Name extends OperationName> = { readonly [Each in Name]: Operation<Each> }

export function entryOf(node: FileNode, cacheTimes: CacheTimes): EntryReply {
  return { nodeId: nodeIdOf(node.inode), attributes: attributesOf(node), cacheTimes }
}

/** The kernel holds a reference from now on, unless it did not get the answer. */
export function answerEntry(
  mount: MountState,
  header: RequestHeader,
  { node, cacheTimes }: { node: FileNode; cacheTimes: CacheTimes },
): void {
  const sent = mount.answers.send(header, (encoder, unique) => encoder.entry(unique, entryOf(node, cacheTimes)))
  if (sent) mount.coherence.known(node.inode)
}
