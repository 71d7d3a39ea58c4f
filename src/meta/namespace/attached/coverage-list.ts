/** What was ever listed of a bucket, for who lists it again (attach/ports.ts, `coverage`). */
import { utf8Bytes, utf8Text, type ByteString } from '../../../common/ids.ts'
import { orderedAt, prefixEnd } from '../keys.ts'
import type { MirrorContext } from './mirror-context.ts'
import { coveragePrefix, coveredFrom, decodeCovered, scopePrefix } from './rows.ts'
import type { Scope } from './types.ts'

export interface CoveredRange {
  readonly scope: Scope
  readonly from: string
  readonly through: string
  readonly sinceMs: number
  readonly position: string
}

/** Ascending, after a position. */
export function coverage(
  context: MirrorContext,
  bucketId: number,
  { after, limit }: { readonly after: string; readonly limit: number },
): Promise<readonly CoveredRange[]> {
  const prefix = coveragePrefix(bucketId)
  const start = (after === '' ? prefix : `${prefix}${after}\0`) as ByteString
  return context.store.read(async (view) => {
    const rows = await view.scan({ start, end: prefixEnd(prefix) }, limit)
    return rows.map(({ key, value }) => {
      const { through, sinceMs } = decodeCovered(value)
      const directory = key[prefix.length] === 'd' ? undefined : orderedAt(key, prefix.length + 1).raw
      const from = coveredFrom(scopePrefix(bucketId, directory), key)
      const scope: Scope =
        directory === undefined ? { kind: 'deep' } : { kind: 'shallow', directory: utf8Text(directory) }
      return { scope, from: textUpTo(from), through: utf8Text(through), sinceMs, position: key.slice(prefix.length) }
    })
  })
}

/** Where a range begins may lie in the middle of a character; without its last bytes it begins a little earlier. */
function textUpTo(bytes: string): string {
  for (let end = bytes.length; end > 0; end--) {
    const text = utf8Text(bytes.slice(0, end))
    if (utf8Bytes(text) === bytes.slice(0, end)) return text
  }
  return ''
}
