/**
 * ListObjectVersions: one page, read at one revision. It lists versions, not what keys name: one that has expired is shown,
 * as the latest too until the expirer has put a delete marker on top.
 */
import { utf8Bytes, utf8Text } from '../../common/ids.ts'
import type { BucketRecord, ListVersionsPage, ListVersionsRequest, ListedVersion } from '../../common/model.ts'
import type { ReadView } from '../ports.ts'
import { readBucket, type NamespaceContext } from './context.ts'
import { prefixEnd } from './keys.ts'
import {
  PAGE_ITEMS_MAX,
  PAGE_KEY_BYTES_MAX,
  baseDirectory,
  commonPrefix,
  pageScope,
  type PageScope,
} from './listing.ts'
import { listedObject } from './object-version.ts'
import type { VersionEntry } from './records-objects.ts'
import { findPlace } from './tree.ts'
import { NULL_VERSION_ID, formatVersionId, formatVersionNumber, parseVersionId } from './version-ids.ts'
import { VersionWalk } from './version-walk.ts'
import { findVersion } from './versions.ts'

export function listVersions(context: NamespaceContext, request: ListVersionsRequest): Promise<ListVersionsPage> {
  const limit = Math.min(request.limit, PAGE_ITEMS_MAX)
  return context.store.read(async (view) => {
    const bucket = await readBucket(view, request.bucket)
    const scope = pageScope(request, request.keyMarker)
    const resume = await resumePoint(view, bucket, request)
    const page = new VersionItems(limit)
    if (scope && limit > 0) await collectPage(view, { bucket, scope, resume, page })
    return page.finish(view.revision)
  })
}

/** Versions of this key numbered this and above were on earlier pages. */
interface Resume {
  readonly key: string
  readonly version: number
}

async function resumePoint(
  view: ReadView,
  bucket: BucketRecord,
  request: ListVersionsRequest,
): Promise<Resume | undefined> {
  const { keyMarker, versionIdMarker } = request
  if (keyMarker === '' || versionIdMarker === undefined || versionIdMarker === '') return undefined
  const key = utf8Bytes(keyMarker)
  if (!key.startsWith(utf8Bytes(request.prefix))) return undefined
  // A marker inside a common prefix: all of that was on earlier pages.
  if (commonPrefix(key, utf8Bytes(request.prefix), utf8Bytes(request.delimiter)) !== undefined) return undefined
  const parsed = parseVersionId(versionIdMarker)
  if (parsed !== NULL_VERSION_ID) return { key, version: parsed.version }
  const place = await findPlace(view, bucket, key)
  const found = place && (await findVersion(view, place, NULL_VERSION_ID))
  return found && { key, version: found.entry.version }
}

async function collectPage(
  view: ReadView,
  sought: { bucket: BucketRecord; scope: PageScope; resume: Resume | undefined; page: VersionItems },
): Promise<void> {
  const { scope, resume, page } = sought
  const base = await baseDirectory(view, sought.bucket, scope)
  if (!base) return
  const enter = scope.delimiter !== '/'
  const walk = await VersionWalk.begin(view, { ...base, from: resume?.key ?? scope.start, enter })
  for (let item = await walk.next(); item; item = await walk.next()) {
    if (resume && item.kind === 'version' && item.key === resume.key && item.entry.version >= resume.version) {
      walk.skipVersions(resume.version)
      continue
    }
    if (page.isFull) {
      page.truncated = true
      return
    }
    if (item.kind === 'directory') {
      page.addCommonPrefix(item.key)
      continue
    }
    const common = enter ? commonPrefix(item.key, scope.prefix, scope.delimiter) : undefined
    if (common === undefined) {
      page.addVersion(item.key, item.entry, item.isLatest)
    } else {
      page.addCommonPrefix(common)
      await walk.seek(prefixEnd(common))
    }
  }
}

class VersionItems {
  truncated = false
  readonly #limit: number
  readonly #versions: ListedVersion[] = []
  readonly #commonPrefixes: string[] = []
  #lastKey = ''
  #lastVersionId: string | undefined
  #keyBytes = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  get isFull(): boolean {
    const items = this.#versions.length + this.#commonPrefixes.length
    return items >= this.#limit || this.#keyBytes >= PAGE_KEY_BYTES_MAX
  }

  addVersion(key: string, entry: VersionEntry, isLatest: boolean): void {
    this.#lastKey = key
    this.#keyBytes += key.length
    this.#lastVersionId = formatVersionNumber(entry)
    this.#versions.push(listedVersion(key, entry, isLatest))
  }

  addCommonPrefix(key: string): void {
    this.#lastKey = key
    this.#keyBytes += key.length
    this.#lastVersionId = undefined
    this.#commonPrefixes.push(utf8Text(key))
  }

  finish(revision: number): ListVersionsPage {
    return {
      versions: this.#versions,
      commonPrefixes: this.#commonPrefixes,
      truncated: this.truncated,
      nextKeyMarker: this.truncated ? utf8Text(this.#lastKey) : undefined,
      // The number even of the null version, so that the next page begins right although `null` moved meanwhile.
      nextVersionIdMarker: this.truncated ? this.#lastVersionId : undefined,
      revision,
    }
  }
}

function listedVersion(key: string, entry: VersionEntry, isLatest: boolean): ListedVersion {
  const shown = { versionId: formatVersionId(entry), isLatest }
  if (entry.kind === 'object') return { ...listedObject(key, entry), ...shown, isDeleteMarker: false }
  return {
    key: utf8Text(key),
    size: 0,
    mtimeMs: entry.mtimeMs,
    etag: '',
    storageClass: 'STANDARD',
    owner: entry.owner,
    checksumAlgorithm: undefined,
    checksumType: undefined,
    revision: entry.revision,
    expiresMs: undefined,
    ...shown,
    isDeleteMarker: true,
  }
}
