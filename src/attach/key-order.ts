/** Keys in the order of listings, which is that of their UTF-8 bytes, and not that of JavaScript's strings. */
import { utf8Bytes } from '../common/ids.ts'
import type { Scope } from './ports.ts'

/** S3's limit of a key, in UTF-8: no store holds a longer one. */
export const KEY_BYTES_MAX = 1024

/** Behind every key that begins with what it is appended to. */
export const END = '\u{10ffff}'

export function inByteOrder(one: string, other: string): number {
  const left = utf8Bytes(one)
  const right = utf8Bytes(other)
  return left < right ? -1 : left > right ? 1 : 0
}

export function later(one: string, other: string): string {
  return inByteOrder(one, other) >= 0 ? one : other
}

/** Whether what is told up to there, inclusive, tells of the key: `a` and U+10FFFF stands for all that begins with `a`. */
export function reaches(through: string, key: string): boolean {
  return inByteOrder(through, key) >= 0 || (through.endsWith(END) && key.startsWith(through.slice(0, -END.length)))
}

/** The next key there could be, behind all of what `END` stands for. */
export function successor(key: string): string {
  if (!key.endsWith(END)) return `${key}\0`
  const characters = Array.from(key.slice(0, -END.length))
  for (let last = characters.pop(); last !== undefined; last = characters.pop()) {
    const code = last.codePointAt(0) as number
    // Surrogates are no characters.
    if (last !== END) return characters.join('') + String.fromCodePoint(code === 0xd7ff ? 0xe000 : code + 1)
  }
  return key
}

/**
 * A key before this one and behind all that really lie before it: what could lie between ends in the last character of Unicode. For stores,
 * which list what comes *after* a key.
 */
export function predecessor(key: string): string {
  const characters = Array.from(key)
  const last = characters.pop()?.codePointAt(0) ?? 0
  const head = characters.join('')
  if (last === 0) return head
  // Surrogates are no characters.
  return head + String.fromCodePoint(last === 0xe000 ? 0xd7ff : last - 1) + END
}

/** Of `a/b/c` and of `a/b/`: what they lie in, `a/b/`. */
export function directoryOf(key: string): string {
  return key.slice(0, key.lastIndexOf('/') + 1)
}

/** How a listing of the directory calls what lies anywhere below it: `a/b/c` in `a/` is `a/b/`. */
export function nameWithin(scope: Scope, key: string): string {
  if (scope.kind === 'deep' || !key.startsWith(scope.directory)) return key
  const slash = key.indexOf('/', scope.directory.length)
  return slash < 0 ? key : key.slice(0, slash + 1)
}
