/**
 * Backups: when one is made, which are dropped, and what they keep alive (manifest.ts). A manifest counts from the moment on at which it
 * is sent: whether it arrived is not known when the store does not answer, so it is sent again, the same, until the store does.
 */
import { TidegateError } from '../../common/errors.ts'
import type { Revision, SegmentId } from '../../common/ids.ts'
import { objectsOfState, type NamesState } from './chain.ts'
import { isBackupId, newBackupId, type BackupManifest } from './manifest.ts'
import type { Lineage } from './object-names.ts'
import type { NamesSource } from './ports.ts'
import type { RemoteNames } from './remote-names.ts'

export interface BackupsParts {
  readonly source: Pick<NamesSource, 'newestSegment'>
  readonly remote: RemoteNames
  readonly lineage: Lineage
  readonly nowMs: () => number
  readonly fillRandom: (bytes: Uint8Array) => void
  /** Whether this gateway still may remove things (src/persist/remote-marker.ts). */
  readonly mayDelete: () => Promise<boolean>
  /** 0: none are made but on demand. */
  readonly intervalMs: number
  /** Of all; older ones are dropped when one is made. */
  readonly keep: number
  /** Awaited before anything of a backup is put: from then on it is known that what it needs must stay. */
  readonly announce?: (manifest: BackupManifest) => Promise<void>
}

/** A backup as people are told of it. */
export interface BackupSummary {
  readonly id: string
  readonly createdMs: number
  readonly revision: Revision
  readonly stateMs: number
  readonly objects: number
  readonly bytes: number
  /** Of a former holder of this remote store. */
  readonly ancestral: boolean
}

export class Backups {
  readonly #parts: BackupsParts
  /** Sent, and not known to have arrived. */
  #unsure: BackupManifest | undefined

  constructor(parts: BackupsParts) {
    this.#parts = parts
  }

  list(): BackupSummary[] {
    return this.#parts.remote.backups().map((manifest) => this.#summary(manifest))
  }

  /** When the next one is due, in ms since 1970; undefined: never. */
  get dueMs(): number | undefined {
    const { intervalMs, remote, lineage, nowMs } = this.#parts
    if (intervalMs === 0) return undefined
    const now = nowMs()
    // One from the future was made before the clock was set back: it says nothing of how long ago the last one was.
    const last = remote.backups().findLast((manifest) => manifest.lineage === lineage && manifest.createdMs <= now)
    return last ? last.createdMs + intervalMs : now
  }

  /** Sends again what may not have arrived. */
  async settle(): Promise<void> {
    if (!this.#unsure) return
    await this.#parts.remote.putBackup(this.#unsure)
    this.#unsure = undefined
  }

  async make(state: NamesState, stateMs: number): Promise<BackupSummary> {
    await this.settle()
    const { remote, lineage, nowMs, fillRandom, source } = this.#parts
    const createdMs = nowMs()
    const manifest: BackupManifest = {
      id: newBackupId(createdMs, fillRandom),
      lineage,
      createdMs,
      revision: state.revision,
      stateMs,
      newestSegment: (await source.newestSegment()) ?? '',
      objects: objectsOfState(state).map(({ name, bytes }) => ({ name, bytes })),
    }
    await this.#parts.announce?.(manifest)
    this.#unsure = manifest
    await remote.putBackup(manifest)
    this.#unsure = undefined
    await this.#dropOldest(manifest)
    return this.#summary(manifest)
  }

  /** Revisions tell age where clocks may have been set back; what a former holder made is older than all of them. */
  async #dropOldest(made: BackupManifest): Promise<void> {
    const { remote, keep, mayDelete, lineage } = this.#parts
    const age = (backup: BackupManifest): Revision => (backup.lineage === lineage ? backup.revision : -1)
    const others = remote.backups().filter(({ id }) => id !== made.id)
    const old = others.toSorted((one, other) => age(one) - age(other)).slice(0, Math.max(0, others.length - keep + 1))
    if (old.length === 0 || !(await mayDelete())) return
    for (const { id } of old) await remote.removeBackup(id)
  }

  /** @throws NoSuchKey, InvalidArgument; InvalidRequest when the remote store is somebody else's by now */
  async drop(id: string): Promise<void> {
    const { remote, mayDelete } = this.#parts
    if (!isBackupId(id)) throw new TidegateError('InvalidArgument', `${JSON.stringify(id)} is no id of a backup`)
    const known = remote.unreadable.has(id) || remote.backups().some((manifest) => manifest.id === id)
    if (!known) throw new TidegateError('NoSuchKey', `no backup ${id}`)
    if (!(await mayDelete())) {
      throw new TidegateError('InvalidRequest', 'the remote store is not known to be held by this gateway')
    }
    await this.settle()
    await remote.removeBackup(id)
  }

  /** Whether a backup needs a segment whose last reference was dropped at that revision. */
  pins(segment: SegmentId, emptiedAt: Revision): boolean {
    const { remote, lineage } = this.#parts
    if (remote.unreadable.size > 0) return true
    return remote
      .backups()
      .some((backup) => segment <= backup.newestSegment && (backup.lineage !== lineage || backup.revision < emptiedAt))
  }

  /** Whether a backup of a former holder may need a segment that is not known here. */
  pinsUnknown(segment: SegmentId): boolean {
    const { remote, lineage } = this.#parts
    if (remote.unreadable.size > 0) return true
    return remote.backups().some((backup) => backup.lineage !== lineage && segment <= backup.newestSegment)
  }

  #summary({ id, createdMs, revision, stateMs, objects, lineage }: BackupManifest): BackupSummary {
    const bytes = objects.reduce((sum, object) => sum + object.bytes, 0)
    const ancestral = lineage !== this.#parts.lineage
    return { id, createdMs, revision, stateMs, objects: objects.length, bytes, ancestral }
  }
}
