/** Where a scan goes on: a version digit and the key behind which, base64url. Clients must not look into it. */
import { isUtf8 } from 'node:buffer'
import { badParameter } from './parameters.ts'

const VERSION = '1'
/** More than a request line can carry. */
const CURSOR_LENGTH_MAX = 64 * 1024

export function encodeCursor(key: string): string {
  return Buffer.from(VERSION + key).toString('base64url')
}

/** @throws InvalidArgument */
export function decodeCursor(cursor: string): string {
  const bytes = Buffer.from(cursor.slice(0, CURSOR_LENGTH_MAX), 'base64url')
  const text = isUtf8(bytes) ? bytes.toString() : ''
  const valid = text.length > 1 && text.startsWith(VERSION) && bytes.toString('base64url') === cursor
  if (!valid) throw badParameter('cursor', cursor, 'is none that a scan gave')
  return text.slice(VERSION.length)
}
