/**
 * Pages of names. Each call begins after a name, whatever that is, so that nobody has to keep a store's continuation token: it may go on
 * days later, or where somebody else stopped.
 *
 * What S3 does not say is how `StartAfter` goes with a delimiter: stores begin within a common prefix, and tell that prefix again. So a page
 * after `a/` (or after anything in it) is asked for from the end of `a/` on, and what comes all the same is passed over.
 *
 * Keys come percent-encoded, for XML cannot hold all of them. A page that is not in byte order, or shows what was not asked for, is a bad
 * answer: the mirror takes everything between two names for told.
 */
import type { ListObjectsV2CommandInput } from '@aws-sdk/client-s3'
import { assert } from '../../common/assert.ts'
import type { S3Calls } from '../remote/s3-calls.ts'
import { badAnswer } from '../remote/s3-errors.ts'
import { bareEtag } from '../remote/s3-etags.ts'
import { PROBE_PREFIX } from './external-probe.ts'
import { listPage } from './list-call.ts'
import type { ListedPage } from './list-page.ts'
import type { ExternalObject, ExternalPage, ListExternal } from './ports.ts'

export interface ExternalListSource {
  readonly calls: S3Calls
  readonly bucket: string
  /** What all keys begin with: empty, or ending in `/`. */
  readonly base: string
}

const LIMIT_MAX = 1000
/** Nearly empty pages are allowed, an endless row of them is not. */
const PAGES_MAX = 10_000
/** No character comes after it. */
const LAST_CHARACTER = '\u{10ffff}'

export async function listExternal(source: ExternalListSource, request: ListExternal): Promise<ExternalPage> {
  const { prefix, after, delimiter, limit } = request
  assert(limit >= 1 && limit <= LIMIT_MAX, 'a page has 1 to 1000 names')
  const what = `list ${prefix}`
  const collected = new Collected(source.base, request, what)
  const start = startAfter(request)
  let position: Partial<ListObjectsV2CommandInput> = start === '' ? {} : { StartAfter: `${source.base}${start}` }
  for (let pages = 0; pages < PAGES_MAX; pages++) {
    const input: ListObjectsV2CommandInput = {
      Bucket: source.bucket,
      Prefix: `${source.base}${prefix}`,
      ...(delimiter === '' ? {} : { Delimiter: delimiter }),
      MaxKeys: limit - collected.size,
      EncodingType: 'url',
      ...position,
    }
    const target = { what, kind: 'other', signal: request.signal } as const
    const page = await source.calls.call(target, (attempt) => listPage(attempt, what, input))
    collected.add(page)
    if (!page.isTruncated) return collected.page(false)
    if (collected.size >= limit) return collected.page(true)
    if (page.token === undefined) throw badAnswer(what, `there is more after ${after}, and no way to it`)
    position = { ContinuationToken: page.token }
  }
  throw badAnswer(what, `no end after ${PAGES_MAX} pages`)
}

/** The end of the common prefix that `after` is or lies in, else `after`. */
function startAfter({ prefix, after, delimiter }: ListExternal): string {
  if (delimiter === '' || !after.startsWith(prefix)) return after
  const end = after.indexOf(delimiter, prefix.length)
  return end < 0 ? after : `${after.slice(0, end + 1)}${LAST_CHARACTER}`
}

class Collected {
  readonly #base: string
  /** What all keys of the answer begin with. */
  readonly #start: string
  readonly #request: ListExternal
  readonly #what: string
  readonly #objects: ExternalObject[] = []
  readonly #prefixes: string[] = []
  #lastObject = ''
  #lastPrefix = ''

  constructor(base: string, request: ListExternal, what: string) {
    this.#base = base
    this.#start = `${base}${request.prefix}`
    this.#request = request
    this.#what = what
  }

  get size(): number {
    return this.#objects.length + this.#prefixes.length
  }

  page(isTruncated: boolean): ExternalPage {
    const last = isBefore(this.#lastObject, this.#lastPrefix) ? this.#lastPrefix : this.#lastObject
    return { objects: this.#objects, prefixes: this.#prefixes, next: isTruncated ? last : undefined }
  }

  add(page: ListedPage): void {
    const decode = page.isUrlEncoded ? decodedKey : (text: string) => text
    for (const { Key, Size, ETag, modifiedMs, StorageClass } of page.objects) {
      if (Key === undefined || Size === undefined || ETag === undefined || modifiedMs === undefined) {
        throw badAnswer(this.#what, 'an object without key, size, ETag or time')
      }
      const key = this.#name(decode(Key))
      if (key === undefined) continue
      this.#lastObject = this.#inOrder(this.#lastObject, key)
      const storageClass = StorageClass ?? 'STANDARD'
      this.#objects.push({ key, size: Size, etag: bareEtag(ETag), modifiedMs, storageClass })
    }
    for (const sent of page.prefixes) {
      const prefix = sent === undefined ? undefined : this.#name(decode(sent))
      if (prefix === undefined) continue
      this.#lastPrefix = this.#inOrder(this.#lastPrefix, prefix)
      this.#prefixes.push(prefix)
    }
  }

  /** Undefined for what is passed over: no UTF-8, the marker of the prefix itself, what is tried with, or told before. */
  #name(key: string | undefined): string | undefined {
    if (key === undefined) return undefined
    const { after } = this.#request
    if (!key.startsWith(this.#start)) throw badAnswer(this.#what, `${key} is not below what was asked for`)
    const name = key.slice(this.#base.length)
    if (name === '' || name.startsWith(PROBE_PREFIX) || !isBefore(after, name)) return undefined
    return name
  }

  #inOrder(last: string, name: string): string {
    if (!isBefore(last, name)) throw badAnswer(this.#what, `${name} comes after ${last}: names are not in byte order`)
    return name
  }
}

/** As AWS encodes them: as in a form, so a space may be `+`. Undefined for what is no UTF-8. */
function decodedKey(text: string): string | undefined {
  if (!ENCODED.test(text)) return text
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    return undefined
  }
}

const ENCODED = /[%+]/

/** Where UTF-16 units are in another order than the code points they stand for. */
const HIGH = /[\ud800-\uffff]/

/** In byte order of UTF-8, which is that of code points. */
function isBefore(one: string, other: string): boolean {
  return HIGH.test(other) && HIGH.test(one) ? Buffer.compare(Buffer.from(one), Buffer.from(other)) < 0 : one < other
}
