/**
 * What the remote store holds under `names/` and `backups/`, mirrored: listed once at the start, then kept in step with what is written and
 * removed here. Nothing local is trusted. An object that a former life of this gateway still had on its way when it died may
 * arrive after the listing: it is whole, it is of this lineage and its rows were durable here, so it does no harm, and a later life
 * finds it.
 */
import { listAll } from '../remote/list-all.ts'
import type { RemoteStore } from '../remote/ports.ts'
import type { EncodedObject } from './encode-parts.ts'
import {
  BACKUPS_PREFIX,
  MANIFEST_BYTES_MAX,
  backupIdOf,
  backupObjectName,
  compareAges,
  decodeManifest,
  encodeManifest,
  type BackupManifest,
} from './manifest.ts'
import { NAMES_PREFIX, lineagePrefix, parseNamesObject, type Lineage, type NamesObject } from './object-names.ts'

const REMOVED_AT_ONCE = 1000

export class RemoteNames {
  readonly #remote: RemoteStore
  readonly lineage: Lineage
  readonly #nowMs: () => number
  /** By name. */
  readonly #objects = new Map<string, NamesObject>()
  readonly #backups = new Map<string, BackupManifest>()
  /** Manifests that cannot be read: somebody must look at them, and what they may need is kept. */
  readonly unreadable: Set<string> = new Set()
  loaded = false

  constructor(parts: { remote: RemoteStore; lineage: Lineage; nowMs: () => number }) {
    this.#remote = parts.remote
    this.lineage = parts.lineage
    this.#nowMs = parts.nowMs
  }

  /** @throws what the remote store does; then it is to be called again */
  async load(): Promise<void> {
    const objects: NamesObject[] = []
    for await (const object of listAll(this.#remote, NAMES_PREFIX)) {
      const parsed = parseNamesObject(object)
      if (parsed) objects.push(parsed)
    }
    const backups: BackupManifest[] = []
    this.unreadable.clear()
    for await (const { name } of listAll(this.#remote, BACKUPS_PREFIX)) {
      const id = backupIdOf(name)
      const found = id === undefined ? undefined : await this.#remote.get(name, MANIFEST_BYTES_MAX)
      if (id === undefined || !found) continue
      try {
        backups.push(decodeManifest(found.bytes, id))
      } catch {
        this.unreadable.add(id)
      }
    }
    // Records may have been written meanwhile.
    for (const object of objects) this.#objects.set(object.name, object)
    for (const manifest of backups) this.#backups.set(manifest.id, manifest)
    this.loaded = true
  }

  /** Where several nodes put records. What was removed here meanwhile stays removed, and does no harm if it comes back. */
  async lookForRecords(): Promise<void> {
    for await (const object of listAll(this.#remote, lineagePrefix(this.lineage))) {
      const parsed = parseNamesObject(object)
      if (parsed?.kind === 'records') this.#objects.set(parsed.name, parsed)
    }
  }

  own(): NamesObject[] {
    return [...this.#objects.values()].filter(({ lineage }) => lineage === this.lineage)
  }

  /** Of former holders of the remote store. */
  ancestral(): NamesObject[] {
    return [...this.#objects.values()].filter(({ lineage }) => lineage !== this.lineage)
  }

  get anyAncestral(): boolean {
    for (const { lineage } of this.#objects.values()) if (lineage !== this.lineage) return true
    return false
  }

  /** By age, the oldest first. */
  backups(): BackupManifest[] {
    return [...this.#backups.values()].toSorted(compareAges)
  }

  async put(object: EncodedObject): Promise<NamesObject | undefined> {
    const { name, bytes } = object
    await this.#remote.put(name, bytes)
    const parsed = parseNamesObject({ name, bytes: bytes.length, modifiedMs: this.#nowMs() })
    if (parsed) this.#objects.set(name, parsed)
    return parsed
  }

  /** What the manifest names is kept from now on, though it may not have arrived when this rejects; to be called again then. */
  async putBackup(manifest: BackupManifest): Promise<void> {
    this.#backups.set(manifest.id, manifest)
    await this.#remote.put(backupObjectName(manifest.id), encodeManifest(manifest))
  }

  async removeBackup(id: string): Promise<void> {
    await this.#remote.remove([backupObjectName(id)])
    this.#backups.delete(id)
    this.unreadable.delete(id)
  }

  async remove(objects: readonly NamesObject[]): Promise<void> {
    for (let at = 0; at < objects.length; at += REMOVED_AT_ONCE) {
      const some = objects.slice(at, at + REMOVED_AT_ONCE).map(({ name }) => name)
      await this.#remote.remove(some)
      for (const name of some) this.#objects.delete(name)
    }
  }

  pinned(): Set<string> {
    return new Set([...this.#backups.values()].flatMap(({ objects }) => objects.map(({ name }) => name)))
  }
}
