/** Names in a remote store: relative, so that none can lead out of its place, whether that is a directory or a prefix. */
import { assert } from '../../common/assert.ts'

const NAME_BYTES_MAX = 255
const PRINTABLE = /^[!-~]+$/

export function isObjectName(text: string): boolean {
  if (!PRINTABLE.test(text) || text.length > NAME_BYTES_MAX) return false
  return text.split('/').every((component) => component !== '' && component !== '.' && component !== '..')
}

/** Names are made by Tidegate and never taken from a request, so a bad one is a bug. */
export function assertObjectName(name: string): void {
  assert(isObjectName(name), `${JSON.stringify(name)} names no remote object`)
}
