/**
 * Scanning keys in order, forward or back: one page, read at one revision (C31).
 *
 * What is asked for (a prefix, a first key, an end, the place where the page before ended) becomes one range of keys in bytes.
 * The page is walked first, from entries alone; these say how large each value is, so it is known which inodes are
 * read for their values before any is.
 */
import { assert, must } from '../../../common/assert.ts'
import { utf8Bytes, utf8Text } from '../../../common/ids.ts'
import type { BucketRecord, ListedObject, ObjectVersion } from '../../../common/model.ts'
import type { ReadView } from '../../ports.ts'
import { readBucket, type NamespaceContext } from '../context.ts'
import { inodeKey, prefixEnd } from '../keys.ts'
import { PAGE_ITEMS_MAX, PAGE_KEY_BYTES_MAX, baseDirectory } from '../listing.ts'
import { listedObject, objectVersion } from '../object-version.ts'
import { decodeInode, type ObjectEntry } from '../records-objects.ts'
import { ObjectWalk } from '../walk.ts'
import { ReverseWalk } from './reverse-walk.ts'

/** Values of one page, but for a first one that is larger alone. */
const PAGE_VALUE_BYTES_MAX = 4 * 1024 * 1024
const INODES_PER_READ = 256

export interface ScanRequest {
  readonly bucket: string
  readonly prefix: string
  /** Inclusive; empty for none. */
  readonly start: string
  /** Exclusive; empty for none. */
  readonly end: string
  /** Where the page before ended. */
  readonly after: string | undefined
  readonly reverse: boolean
  readonly limit: number
  readonly values: boolean
  readonly valueBytesMax: number
}

export interface ScanPage {
  readonly keys: readonly (ListedObject & { readonly version: ObjectVersion | undefined })[]
  /** The last key of the page when there are more. */
  readonly next: string | undefined
  readonly revision: number
}

/** In bytes, never empty. */
interface KeySpan {
  readonly prefix: string
  /** Inclusive. */
  readonly from: string
  /** Exclusive; undefined for none. */
  readonly below: string | undefined
}

interface Item {
  readonly key: string
  readonly entry: ObjectEntry
}

export function scan(context: NamespaceContext, request: ScanRequest): Promise<ScanPage> {
  assert(request.limit >= 1, 'a page has room for a key')
  const span = keySpan(request)
  return context.store.read(async (view) => {
    const bucket = await readBucket(view, request.bucket)
    const page = new PageKeys(request)
    if (span) await walkPage(view, { bucket, span, page, nowMs: context.clock.nowMs() })
    const versions = request.values ? await readVersions(view, bucket, page) : []
    return {
      keys: page.items.map(({ key, entry }, index) => ({ ...listedObject(key, entry), version: versions[index] })),
      next: page.next,
      revision: view.revision,
    }
  })
}

/** Undefined when no key can lie in it. */
function keySpan(request: ScanRequest): KeySpan | undefined {
  const prefix = utf8Bytes(request.prefix)
  const after = request.after === undefined ? undefined : utf8Bytes(request.after)
  let from = greater(prefix, utf8Bytes(request.start))
  let below: string | undefined = prefix === '' ? undefined : prefixEnd(prefix)
  if (request.end !== '') below = lesser(below, utf8Bytes(request.end))
  if (after !== undefined && request.reverse) below = lesser(below, after)
  if (after !== undefined && !request.reverse) from = greater(from, `${after}\0`)
  return below !== undefined && from >= below ? undefined : { prefix, from, below }
}

function greater(a: string, b: string): string {
  return a > b ? a : b
}

function lesser(a: string | undefined, b: string): string {
  return a !== undefined && a < b ? a : b
}

async function walkPage(
  view: ReadView,
  sought: { bucket: BucketRecord; span: KeySpan; page: PageKeys; nowMs: number },
): Promise<void> {
  const { bucket, span, page, nowMs } = sought
  const base = await baseDirectory(view, bucket, { prefix: span.prefix, delimiter: '', start: span.from })
  if (!base) return
  const start = { ...base, from: span.from, below: span.below, enter: true, nowMs }
  const wanted = page.limit + 1
  const walk = page.reverse ? await ReverseWalk.begin(view, start, wanted) : await ObjectWalk.begin(view, start, wanted)
  for (let item = await walk.next(); item; item = await walk.next()) {
    const { key, entry } = item
    if (!page.reverse && span.below !== undefined && key >= span.below) return
    assert(entry.kind === 'object', 'a walk that enters directories shows objects')
    if (!page.take({ key, entry })) return
  }
}

/** The page as it grows. */
class PageKeys {
  readonly limit: number
  readonly reverse: boolean
  readonly items: Item[] = []
  /** Undefined when values are not asked for. */
  readonly #valueBytesMax: number | undefined
  #valueBytes = 0
  #keyBytes = 0
  #more = false

  constructor(request: ScanRequest) {
    this.limit = Math.min(request.limit, PAGE_ITEMS_MAX)
    this.reverse = request.reverse
    this.#valueBytesMax = request.values ? request.valueBytesMax : undefined
  }

  get next(): string | undefined {
    const last = this.items.at(-1)
    return this.#more && last ? utf8Text(last.key) : undefined
  }

  /** False when the page ends before this one. */
  take(item: Item): boolean {
    if (!this.#hasRoom(item.entry)) {
      this.#more = true
      return false
    }
    this.items.push(item)
    this.#keyBytes += item.key.length
    if (this.carriesValue(item.entry)) this.#valueBytes += item.entry.size
    return true
  }

  carriesValue(entry: ObjectEntry): boolean {
    return this.#valueBytesMax !== undefined && entry.size <= this.#valueBytesMax
  }

  #hasRoom(entry: ObjectEntry): boolean {
    if (this.items.length >= this.limit || this.#keyBytes >= PAGE_KEY_BYTES_MAX) return false
    if (this.#valueBytes === 0 || !this.carriesValue(entry)) return true
    return this.#valueBytes + entry.size <= PAGE_VALUE_BYTES_MAX
  }
}

/** By index in the page; undefined where the value is too large to come along. */
async function readVersions(
  view: ReadView,
  bucket: BucketRecord,
  page: PageKeys,
): Promise<readonly (ObjectVersion | undefined)[]> {
  const versions: (ObjectVersion | undefined)[] = Array.from({ length: page.items.length })
  const carrying = [...page.items.entries()].filter(([, { entry }]) => page.carriesValue(entry))
  for (let at = 0; at < carrying.length; at += INODES_PER_READ) {
    const batch = carrying.slice(at, at + INODES_PER_READ)
    const rows = await view.getMany(batch.map(([, { entry }]) => inodeKey(entry.inode)))
    for (const [offset, row] of rows.entries()) {
      const [index, { key, entry }] = must(batch[offset], 'item of a row')
      const inode = decodeInode(must(row, `inode ${entry.inode}`))
      assert(inode.kind === 'object', `inode ${entry.inode} is an object`)
      versions[index] = objectVersion(bucket, utf8Text(key), entry, inode)
    }
  }
  return versions
}
