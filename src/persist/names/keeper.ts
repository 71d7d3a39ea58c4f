import type { BackgroundJob } from '../../common/background.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { BackupSummary } from './backups.ts'
import type { MadeBackup } from './names-stream.ts'
import type { Names } from './ports.ts'
import type { NamesStatus } from './status.ts'

/** Names as the engine runs them: a stream of this node's own (names-stream.ts), or one that nodes take turns at (shared/shared-names.ts). */
export interface NamesKeeper extends Names {
  readonly job: BackgroundJob
  readonly backups: { list(): readonly BackupSummary[] }
  /** Whether somebody may need a segment that metadata does not know. */
  needsUnknown(segment: SegmentId): boolean
  /** One bounded step. @returns whether there is more to do at once */
  round(): Promise<boolean>
  backUp(deadlineMs: number): Promise<MadeBackup>
  dropBackup(id: string): Promise<void>
  drain(deadlineMs: number): Promise<void>
  status(): NamesStatus
  stop(): Promise<void>
}
