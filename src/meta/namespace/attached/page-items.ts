/**
 * A listed page as the merge takes it: its names in bytes and in their order, whatever the store's order was, and without those that
 * the namespace cannot hold.
 */
import { utf8Bytes, type ByteString } from '../../../common/ids.ts'
import { SCOPE_END, reaches } from './coverage.ts'
import type { SeenObject, SeenPage } from './types.ts'

/** An object, or (of a shallow page) a directory: then without `object`, and its key ends in a slash. */
export interface PageItem {
  /** In bytes. */
  readonly key: ByteString
  readonly object: SeenObject | undefined
}

export interface PageItems {
  /** Ascending, each key once. */
  readonly items: readonly PageItem[]
  /** First and last key of what the page tells. */
  readonly from: string
  readonly through: string
  /** Of the shallow scope, in bytes; undefined for the deep one. */
  readonly directory: string | undefined
  /** Keys that cannot be held. */
  readonly unheld: number
}

export function pageItems(page: SeenPage, keyBytesMax: number): PageItems {
  const directory = page.scope.kind === 'shallow' ? utf8Bytes(page.scope.directory) : undefined
  const prefix = utf8Bytes(page.prefix)
  const after = utf8Bytes(page.after)
  const within = directory !== undefined && directory > prefix ? directory : prefix
  const from = after !== '' && after >= within ? `${after}\0` : within
  const through = page.through === undefined ? within + SCOPE_END : utf8Bytes(page.through)
  const items: PageItem[] = []
  let unheld = 0
  const add = (text: string, object: SeenObject | undefined): void => {
    const key = text.isWellFormed() ? utf8Bytes(text) : undefined
    if (key === undefined || key === '' || key.length > keyBytesMax || (object && !isHeld(object))) unheld++
    else if (key >= from && reaches(through, key) && isIn(key, directory, object)) items.push({ key, object })
  }
  for (const object of page.objects) add(object.key, object)
  if (directory !== undefined) for (const name of page.prefixes) add(name, undefined)
  return { items: inOrder(items), from, through, directory, unheld }
}

/** Whether it is what a listing of this directory tells: a name in it, or a directory in it. */
function isIn(key: string, directory: string | undefined, object: SeenObject | undefined): boolean {
  if (directory === undefined) return true
  if (!key.startsWith(directory)) return false
  const slash = key.indexOf('/', directory.length)
  return object ? slash < 0 : slash === key.length - 1
}

/** Without an ETag nothing could be changed on condition. */
export function isHeld({ size, etag }: Pick<SeenObject, 'size' | 'etag'>): boolean {
  return Number.isSafeInteger(size) && size >= 0 && etag !== ''
}

/** Stores list in the order of UTF-8, or nearly so; the merge must not depend on that. */
function inOrder(items: PageItem[]): PageItem[] {
  const isOrdered = items.every((item, index) => index === 0 || (items[index - 1]?.key ?? '') < item.key)
  if (isOrdered) return items
  items.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
  return items.filter((item, index) => index === 0 || items[index - 1]?.key !== item.key)
}
