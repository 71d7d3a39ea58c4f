/**
 * A page of a scan as lines. A scan of a hundred thousand keys spends most of its time here, so lines are put together by hand; only
 * what may hold a character that JSON escapes goes through JSON.stringify.
 */
import type { Reading } from '../../store/doors.ts'
import type { ScannedKey, ScanPage } from '../../store/kv-types.ts'
import type { ReaderId } from '../../store/types.ts'
import { base64Of, expiryMember, metadataMember } from './batch-json.ts'
import { encodeCursor } from './scan-cursor.ts'
import { CONTENT_TYPE_DEFAULT } from './value-attributes.ts'
import { readValue } from './value-bytes.ts'

/** Values read from their segments at once. */
const READS_CONCURRENT_MAX = 16
/** Of them together. */
const READ_BYTES_MAX = 1024 * 1024
/** Lines with values are put together until they are worth a write. */
const LINES_LENGTH_MIN = 128 * 1024

export function keyLines({ keys }: ScanPage): string {
  let text = ''
  for (const { key } of keys) text += `{"key":${JSON.stringify(key)}}\n`
  return text
}

export function entryLines({ keys }: ScanPage): string {
  let text = ''
  for (const listed of keys) text += `{${entryMembers(listed)}}\n`
  return text
}

/**
 * Some lines at a time, as the client takes them: what it holds in memory while it waits is a few values, not a page of them.
 * Closes all readers of the page when it ends or is left. `mayRead`: whether a value may be shown. @throws DataLost
 */
export async function* valueLines(
  reading: Reading,
  { keys }: ScanPage,
  mayRead: (key: string) => boolean,
): AsyncGenerator<string, void> {
  try {
    let lines = ''
    for (let first = 0; first < keys.length;) {
      const some = readTogether(keys, first)
      first += some.length
      const reads = await Promise.allSettled(some.map((listed) => readListed(reading, listed, mayRead)))
      for (const read of reads) {
        if (read.status === 'rejected') throw read.reason
        lines += read.value
      }
      if (lines.length < LINES_LENGTH_MIN) continue
      yield lines
      lines = ''
    }
    if (lines !== '') yield lines
  } finally {
    for (const { value } of keys) if (value?.body.kind === 'content') reading.close(value.body.reader)
  }
}

/** From `first` on: as many as may be read at once, but one at least. */
function readTogether(keys: readonly ScannedKey[], first: number): readonly ScannedKey[] {
  let end = first
  let bytes = 0
  for (; end < keys.length && end - first < READS_CONCURRENT_MAX; end++) {
    const { value, size = 0 } = keys[end] ?? {}
    bytes += value === undefined ? 0 : size
    if (end > first && bytes > READ_BYTES_MAX) break
  }
  return keys.slice(first, end)
}

async function readListed(reading: Reading, listed: ScannedKey, mayRead: (key: string) => boolean): Promise<string> {
  const members = entryMembers(listed)
  if (!mayRead(listed.key)) return `{${members},"value":null,"denied":true}\n`
  const { value } = listed
  if (value === undefined) return `{${members},"value":null}\n`
  const bytes = value.body.kind === 'inline' ? value.body.bytes : await readContent(reading, value.body, listed)
  const { headers, userMetadata } = value.attributes
  const contentType = JSON.stringify(headers.contentType ?? CONTENT_TYPE_DEFAULT)
  return `{${members},"value":"${base64Of(bytes)}","contentType":${contentType}${metadataMember(userMetadata)}}\n`
}

function readContent(reading: Reading, { reader }: { reader: ReaderId }, { size }: ScannedKey): Promise<Buffer> {
  return readValue(reading, reader, size)
}

/** ETags, numbers and times hold nothing that JSON escapes. */
function entryMembers({ key, revision, etag, size, mtimeMs, expiresMs }: ScannedKey): string {
  const modified = new Date(mtimeMs).toISOString()
  return `"key":${JSON.stringify(key)},"revision":${revision},"etag":"${etag}","size":${size},"modified":"${modified}"${expiryMember(expiresMs)}`
}

/** The line that closes a page. `next`: where the scan can go on. */
export function pageLine(revision: number, next: string | undefined): string {
  const cursor = next === undefined ? 'null' : `"${encodeCursor(next)}"`
  return `{"page":{"revision":${revision},"cursor":${cursor}}}\n`
}
