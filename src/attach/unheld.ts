/**
 * Keys of external buckets that cannot be held here, and so do not show: mostly objects without an ETag, as some stores list files that were put into their directories
 * past S3. Nothing could be changed on condition there.
 *
 * They are known by name, as they were last listed: a listing of a range takes the place of what was known of it, so none is counted twice, and none that has gone. In memory and
 * bounded: of a bucket with very many it is known that there are more. After a restart they are known again as they are listed.
 */
import { inByteOrder, nameWithin, reaches } from './key-order.ts'
import type { AttachedNames, ExternalObject, SeenPage } from './ports.ts'

export interface UnheldStatus {
  readonly keys: number
  /** There were more than are remembered. */
  readonly isAtLeast: boolean
  /** The first of them, in no order. */
  readonly listed: readonly string[]
}

interface Unheld {
  readonly keys: Set<string>
  isAtLeast: boolean
}

const KEYS_MAX = 1000
const LISTED_MAX = 20
const NONE: UnheldStatus = { keys: 0, isAtLeast: false, listed: [] }

export class UnheldKeys {
  readonly #keyBytesMax: number
  readonly #keysMax: number
  /** Of buckets that have any. */
  readonly #buckets = new Map<number, Unheld>()

  constructor({ keyBytesMax, keysMax = KEYS_MAX }: { readonly keyBytesMax: number; readonly keysMax?: number }) {
    this.#keyBytesMax = keyBytesMax
    this.#keysMax = keysMax
  }

  /** The names, with what their merges are told noted on the way. */
  watching(names: AttachedNames): AttachedNames {
    return {
      ...names,
      merge: (page) => {
        this.listed(page)
        return names.merge(page)
      },
      mergeOne: (seen) => {
        this.looked(seen.bucketId, seen.key, seen.found)
        return names.mergeOne(seen)
      },
    }
  }

  listed(page: SeenPage): void {
    const { bucketId, objects } = page
    const known = this.#buckets.get(bucketId)
    for (const key of known?.keys ?? []) if (isTold(page, key)) known?.keys.delete(key)
    for (const object of objects) if (!this.#isHeld(object)) this.#add(bucketId, object.key)
    if (known?.keys.size === 0) this.#buckets.delete(bucketId)
  }

  looked(bucketId: number, key: string, found: ExternalObject | undefined): void {
    if (found && !this.#isHeld(found)) return this.#add(bucketId, key)
    const known = this.#buckets.get(bucketId)
    if (known?.keys.delete(key) && known.keys.size === 0) this.#buckets.delete(bucketId)
  }

  status(bucketId: number): UnheldStatus {
    const known = this.#buckets.get(bucketId)
    if (!known) return NONE
    const { keys, isAtLeast } = known
    return { keys: keys.size, isAtLeast, listed: [...keys].slice(0, LISTED_MAX) }
  }

  /** The bucket is detached. */
  forget(bucketId: number): void {
    this.#buckets.delete(bucketId)
  }

  #add(bucketId: number, key: string): void {
    const known = this.#buckets.get(bucketId) ?? { keys: new Set<string>(), isAtLeast: false }
    this.#buckets.set(bucketId, known)
    if (known.keys.size < this.#keysMax || known.keys.has(key)) known.keys.add(key)
    else known.isAtLeast = true
  }

  /** As the mirror takes it (meta/namespace/attached/page-items.ts). */
  #isHeld({ key, etag, size }: ExternalObject): boolean {
    const isSized = Number.isSafeInteger(size) && size >= 0
    return etag !== '' && isSized && key !== '' && key.isWellFormed() && Buffer.byteLength(key) <= this.#keyBytesMax
  }
}

/** Whether the page would have told of the key if it were there. */
function isTold({ scope, prefix, after, through }: SeenPage, key: string): boolean {
  if (!key.startsWith(prefix) || (after !== '' && inByteOrder(key, after) <= 0)) return false
  if (through !== undefined && !reaches(through, key)) return false
  return scope.kind === 'deep' || (key.startsWith(scope.directory) && nameWithin(scope, key) === key)
}
