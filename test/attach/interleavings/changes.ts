/** Changes as the ledger enters them. */
import { isTidegateError } from '../../../src/common/errors.ts'
import type { Change } from './ledger.ts'

export function replacing(what: string, key: string): Change {
  const isIt = (at: string): boolean => at === key
  return { what, touches: isIt, destroys: isIt }
}

export function touching(what: string, key: string): Change {
  return { what, touches: (at) => at === key, destroys: () => false }
}

export function isBelow(key: string, directory: string): boolean {
  return key.startsWith(`${directory}/`)
}

export function told(error: unknown): string {
  return isTidegateError(error) ? `${error.code}: ${error.message}` : String(error)
}
