/**
 * What a bucket should hold and list, kept the simplest way: one flat map. Deliberately knows nothing of directories, except
 * that a common prefix with the delimiter `/` is shown until the expirer has removed what is below it.
 */
import { utf8Bytes, utf8Text } from '../../src/common/ids.ts'
import type { Versioning } from '../../src/common/model.ts'

export interface ModelVersion {
  readonly id: string
  readonly marker: boolean
  readonly isNull: boolean
  readonly size: number
  readonly inode?: number | undefined
  readonly expiresMs?: number | undefined
}

export interface ModelPage {
  objects: string[]
  commonPrefixes: string[]
  truncated: boolean
}

export interface ModelVersionsPage {
  versions: string[]
  commonPrefixes: string[]
  truncated: boolean
}

export class BucketModel {
  versioning: Versioning = 'off'
  /** By key in bytes; newest version first. */
  readonly keys = new Map<string, ModelVersion[]>()
  readonly #nowMs: () => number

  constructor(nowMs: () => number = () => 0) {
    this.#nowMs = nowMs
  }

  /** What the key names. */

  current(key: string): ModelVersion | undefined {
    const newest = this.keys.get(utf8Bytes(key))?.[0]
    return newest?.marker || (newest && this.isExpired(newest)) ? undefined : newest
  }

  isExpired(version: ModelVersion): boolean {
    return version.expiresMs !== undefined && version.expiresMs <= this.#nowMs()
  }

  /** Whether the version can be had by its id: always, but where the key is its only name. */
  isKept(version: ModelVersion): boolean {
    return this.versioning !== 'off' || !this.isExpired(version)
  }

  /** Newest versions that have expired: what the expirer removes. */
  expired(): { key: string; version: ModelVersion }[] {
    const found: { key: string; version: ModelVersion }[] = []
    for (const [key, [newest]] of this.keys) {
      if (newest && this.isExpired(newest)) found.push({ key: utf8Text(key), version: newest })
    }
    return found
  }

  versions(key: string): readonly ModelVersion[] {
    return this.keys.get(utf8Bytes(key)) ?? []
  }

  /** A new newest version, object or marker. `id` is the one that the implementation gave. */
  add(key: string, version: Omit<ModelVersion, 'isNull'>): void {
    const isNull = this.versioning !== 'enabled'
    const bytes = utf8Bytes(key)
    const older = (this.keys.get(bytes) ?? []).filter((known) => !(isNull && known.isNull))
    this.keys.set(bytes, [{ ...version, isNull, id: isNull ? 'null' : version.id }, ...older])
  }

  drop(key: string, id: string): void {
    const bytes = utf8Bytes(key)
    const left = (this.keys.get(bytes) ?? []).filter((known) => known.id !== id)
    if (left.length > 0) this.keys.set(bytes, left)
    else this.keys.delete(bytes)
  }

  sortedKeys(): string[] {
    return [...this.keys.keys()].sort((a, b) => (a < b ? -1 : 1))
  }

  list(request: { prefix: string; delimiter: string; after: string; limit: number }): ModelPage {
    const prefix = utf8Bytes(request.prefix)
    const after = utf8Bytes(request.after)
    const page: ModelPage = { objects: [], commonPrefixes: [], truncated: false }
    for (const key of this.sortedKeys()) {
      const newest = this.keys.get(key)?.[0]
      if (!newest || newest.marker || !key.startsWith(prefix)) continue
      if (key <= after && after !== '') continue
      const common = rolledUp(key, prefix, utf8Bytes(request.delimiter))
      if (this.isExpired(newest) && (common === undefined || request.delimiter !== '/')) continue
      if (common !== undefined && (after.startsWith(common) || page.commonPrefixes.at(-1) === utf8Text(common)))
        continue
      if (page.objects.length + page.commonPrefixes.length >= request.limit) {
        return { ...page, truncated: request.limit > 0 }
      }
      if (common === undefined) page.objects.push(utf8Text(key))
      else page.commonPrefixes.push(utf8Text(common))
    }
    return page
  }

  listVersions(request: {
    prefix: string
    delimiter: string
    keyMarker: string
    versionIdMarker: string | undefined
    limit: number
  }): ModelVersionsPage {
    const prefix = utf8Bytes(request.prefix)
    const after = utf8Bytes(request.keyMarker)
    const delimiter = utf8Bytes(request.delimiter)
    const page: ModelVersionsPage = { versions: [], commonPrefixes: [], truncated: false }
    for (const key of this.sortedKeys()) {
      if (!key.startsWith(prefix) || (key < after && after !== '')) continue
      const common = rolledUp(key, prefix, delimiter)
      if (common !== undefined) {
        if (after.startsWith(common) || page.commonPrefixes.at(-1) === utf8Text(common)) continue
        if (page.versions.length + page.commonPrefixes.length >= request.limit)
          return { ...page, truncated: request.limit > 0 }
        page.commonPrefixes.push(utf8Text(common))
        continue
      }
      const all = this.keys.get(key) ?? []
      let from = 0
      if (key === after) {
        if (request.versionIdMarker === undefined) continue
        from = all.findIndex((version) => version.id === request.versionIdMarker) + 1
        if (from === 0) continue
      }
      for (const [index, version] of all.entries()) {
        if (index < from) continue
        if (page.versions.length + page.commonPrefixes.length >= request.limit)
          return { ...page, truncated: request.limit > 0 }
        page.versions.push(
          shownVersion(utf8Text(key), version.id, { isLatest: index === 0, isDeleteMarker: version.marker }),
        )
      }
    }
    return page
  }
}

export function shownVersion(
  key: string,
  id: string,
  flags: { readonly isLatest: boolean; readonly isDeleteMarker: boolean },
): string {
  return JSON.stringify([key, id, flags.isLatest, flags.isDeleteMarker])
}

function rolledUp(key: string, prefix: string, delimiter: string): string | undefined {
  const at = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length)
  return at < 0 ? undefined : key.slice(0, at + delimiter.length)
}
