/** ListObjects: one page, read at one revision (C5, C31). */
import { utf8Bytes, utf8Text, type InodeId } from '../../common/ids.ts'
import type { BucketRecord, ListPage, ListRequest, ListedObject } from '../../common/model.ts'
import type { ReadView } from '../ports.ts'
import { readBucket, type NamespaceContext } from './context.ts'
import { prefixEnd } from './keys.ts'
import { splitKey } from './names.ts'
import { listedObject } from './object-version.ts'
import { findDirectory, type DirectoryState } from './tree.ts'
import { ObjectWalk } from './walk.ts'

export const PAGE_ITEMS_MAX = 1000
/** Keys of one page: a thousand of the longest that S3 makes. Where the mount made longer ones, pages have fewer. */
export const PAGE_KEY_BYTES_MAX: number = 1024 * 1024

export function list(context: NamespaceContext, request: ListRequest): Promise<ListPage> {
  const scope = pageScope(request, request.after)
  const limit = Math.min(request.limit, PAGE_ITEMS_MAX)
  return context.store.read(async (view) => {
    const bucket = await readBucket(view, request.bucket)
    const page = new PageItems(limit)
    const base = scope && limit > 0 ? await baseDirectory(view, bucket, scope) : undefined
    if (scope && base) await collectPage(view, { scope, base, page, nowMs: context.clock.nowMs() })
    return page.finish(view.revision)
  })
}

/** What a page is asked for, in bytes. */
export interface PageScope {
  readonly prefix: string
  readonly delimiter: string
  /** First key that may be on the page. */
  readonly start: string
}

/** Undefined when nothing can match. */
export function pageScope(request: { prefix: string; delimiter: string }, after: string): PageScope | undefined {
  const prefix = utf8Bytes(request.prefix)
  const delimiter = utf8Bytes(request.delimiter)
  const afterBytes = utf8Bytes(after)
  if (afterBytes < prefix || afterBytes === '') return { prefix, delimiter, start: prefix }
  if (!afterBytes.startsWith(prefix)) return undefined
  const common = commonPrefix(afterBytes, prefix, delimiter)
  return { prefix, delimiter, start: common === undefined ? `${afterBytes}\0` : prefixEnd(common) }
}

/** What S3 rolls a key up to: it up to and with the first delimiter after the prefix. */
export function commonPrefix(key: string, prefix: string, delimiter: string): string | undefined {
  if (delimiter === '') return undefined
  const at = key.indexOf(delimiter, prefix.length)
  return at < 0 ? undefined : key.slice(0, at + delimiter.length)
}

export interface BaseDirectory {
  readonly inode: InodeId
  readonly path: string
  readonly namePrefix: string
  readonly state: DirectoryState
}

/** The deepest directory that holds everything with the prefix. */
export async function baseDirectory(
  view: ReadView,
  bucket: BucketRecord,
  scope: PageScope,
): Promise<BaseDirectory | undefined> {
  const { directories, name } = splitKey(scope.prefix)
  let inode = bucket.root
  let state: DirectoryState = 'live'
  for (const directory of directories) {
    const found = await findDirectory(view, { bucket, parent: inode, name: directory, under: state })
    if (!found) return undefined
    inode = found.inode
    state = found.state
  }
  return { inode, state, namePrefix: name, path: scope.prefix.slice(0, scope.prefix.length - name.length) }
}

async function collectPage(
  view: ReadView,
  sought: { scope: PageScope; base: BaseDirectory; page: PageItems; nowMs: number },
): Promise<void> {
  const { scope, base, page, nowMs } = sought
  const enter = scope.delimiter !== '/'
  const walk = await ObjectWalk.begin(view, { ...base, from: scope.start, enter, nowMs }, page.limit)
  for (let item = await walk.next(); item; item = await walk.next()) {
    if (page.isFull) {
      page.truncated = true
      return
    }
    if (item.entry.kind === 'directory') {
      page.addCommonPrefix(item.key)
      continue
    }
    const common = enter ? commonPrefix(item.key, scope.prefix, scope.delimiter) : undefined
    if (common === undefined) {
      page.addObject(item.key, listedObject(item.key, item.entry))
    } else {
      page.addCommonPrefix(common)
      await walk.seek(prefixEnd(common))
    }
  }
}

class PageItems {
  readonly limit: number
  truncated = false
  readonly #objects: ListedObject[] = []
  readonly #commonPrefixes: string[] = []
  #last = ''
  #keyBytes = 0

  constructor(limit: number) {
    this.limit = limit
  }

  get isFull(): boolean {
    const items = this.#objects.length + this.#commonPrefixes.length
    return items >= this.limit || this.#keyBytes >= PAGE_KEY_BYTES_MAX
  }

  addObject(key: string, object: ListedObject): void {
    this.#last = key
    this.#keyBytes += key.length
    this.#objects.push(object)
  }

  addCommonPrefix(key: string): void {
    this.#last = key
    this.#keyBytes += key.length
    this.#commonPrefixes.push(utf8Text(key))
  }

  finish(revision: number): ListPage {
    return {
      objects: this.#objects,
      commonPrefixes: this.#commonPrefixes,
      truncated: this.truncated,
      next: this.truncated ? utf8Text(this.#last) : undefined,
      revision,
    }
  }
}
