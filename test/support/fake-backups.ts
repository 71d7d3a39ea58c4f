/** The names stream as the admin API of backups sees it, with backups that a test sets. */
import { TidegateError } from '../../src/common/errors.ts'
import type { SegmentId } from '../../src/common/ids.ts'
import type { BackupControl } from '../../src/gateway/admin/backups.ts'

type Backup = ReturnType<BackupControl['backups']['list']>[number]
type Names = ReturnType<BackupControl['status']>

const CREATED_MS = Date.UTC(2026, 10, 22, 6, 39, 18)

export const OLD_BACKUP: Backup = {
  id: '20261122T063918Z-3fa9',
  createdMs: CREATED_MS,
  revision: 1234,
  stateMs: CREATED_MS - 1000,
  objects: 5,
  bytes: 70_000,
  ancestral: true,
}

export class FakeBackups implements BackupControl {
  readonly calls: unknown[] = []
  kept: Backup[] = [OLD_BACKUP]
  names: Names = {
    shippedThrough: 2000,
    durableRevision: 2005,
    behindMs: 1500,
    stateMs: CREATED_MS,
    heldBytes: 4096,
    heldUpBy: Array.from({ length: 25 }, (_, index) => index.toString(16).padStart(32, '0') as SegmentId),
    writesWaiting: 2,
    baseBytes: 60_000,
    deltas: 3,
    deltaBytes: 10_000,
    baseDueBytes: 67_108_864,
    unreadableBackups: [],
    nextBackupMs: CREATED_MS + 86_400_000,
    lastError: undefined,
  }
  /** What the next one that is made has; an error is thrown. */
  complete: boolean | Error = true

  readonly backups = { list: (): readonly Backup[] => this.kept }

  backUp(deadlineMs: number): Promise<Backup & { readonly complete: boolean }> {
    this.calls.push({ deadlineMs })
    if (this.complete instanceof Error) return Promise.reject(this.complete)
    const made = { ...OLD_BACKUP, id: `20261123T063918Z-000${this.kept.length}`, ancestral: false }
    this.kept.push(made)
    return Promise.resolve({ ...made, complete: this.complete })
  }

  dropBackup(id: string): Promise<void> {
    this.calls.push({ drop: id })
    if (!this.kept.some((backup) => backup.id === id)) {
      return Promise.reject(new TidegateError('NoSuchKey', `no backup ${id}`))
    }
    this.kept = this.kept.filter((backup) => backup.id !== id)
    return Promise.resolve()
  }

  status(): Names {
    return this.names
  }
}
