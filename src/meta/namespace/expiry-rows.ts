/** The rows of table T: which current versions expire, and when. Every transaction that changes D keeps them in step. */
import { assert } from '../../common/assert.ts'
import type { Step } from './context.ts'
import { expiryKey } from './keys.ts'
import type { ObjectEntry } from './records-objects.ts'

const NO_VALUE = new Uint8Array(0)

/** To be called with every entry that becomes the current one. */
export function armExpiry(step: Step, entry: ObjectEntry): void {
  if (entry.expiresMs !== undefined) step.tx.put(expiryKey(entry.expiresMs, entry.inode), NO_VALUE)
}

/** To be called with every entry that was the current one and is no longer, and stays as a version or goes. */
export function disarmExpiry(step: Step, entry: ObjectEntry): void {
  if (entry.expiresMs !== undefined) step.tx.delete(expiryKey(entry.expiresMs, entry.inode))
}

/** When something made in this step expires; undefined for never. */
export function expiryAfter(step: Step, ttlMs: number | undefined): number | undefined {
  if (ttlMs === undefined) return undefined
  const expiresMs = step.nowMs + ttlMs
  assert(ttlMs > 0 && Number.isSafeInteger(expiresMs), `doors check that a time to live is possible: ${ttlMs}`)
  return expiresMs
}
