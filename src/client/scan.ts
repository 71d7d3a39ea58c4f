/** Ordered scans: NDJSON, a line a key, and one that closes each page. */
import { badAnswer, brokenOff, errorFromProblem, KvError } from './errors.ts'
import { linesOf } from './lines.ts'
import { queryOf } from './names.ts'
import type { KvTransport } from './transport.ts'
import type { ScanEntry, ScanOptions, ScanPage, ScanPageOptions } from './types.ts'

/** Keys asked for in one request: some pages, so that a scan given up early has not asked for everything. */
const KEYS_PER_REQUEST = 10_000
/** A value of 1 MiB in base64, and its attributes. */
const LINE_BYTES_MAX = 4 * 1024 * 1024

interface EntryLine {
  readonly key: string
  readonly revision: number
  readonly etag: string
  readonly size: number
  readonly modified: string
  readonly expires?: string
  readonly value?: string | null
  readonly contentType?: string
  readonly metadata?: Readonly<Record<string, string>>
}

interface PageMark {
  readonly revision: number
  readonly cursor: string | null
}

type Line = EntryLine | { readonly page: PageMark } | { readonly error: Readonly<Record<string, unknown>> }

export class KvScan {
  readonly #transport: KvTransport
  readonly #bucketPath: string

  constructor(transport: KvTransport, bucketPath: string) {
    this.#transport = transport
    this.#bucketPath = bucketPath
  }

  async *entries(options: ScanOptions): AsyncGenerator<ScanEntry, void, void> {
    let left = options.limit ?? Infinity
    let cursor: string | undefined
    do {
      const limit = Math.min(left, KEYS_PER_REQUEST)
      const lines = this.#lines({ ...options, limit, cursor })
      cursor = undefined
      for await (const line of lines) {
        if ('page' in line) cursor = line.page.cursor ?? undefined
        else {
          left--
          yield entryFrom(line)
        }
      }
    } while (cursor !== undefined && left > 0)
  }

  async page(options: ScanPageOptions): Promise<ScanPage> {
    const entries: ScanEntry[] = []
    let mark: PageMark | undefined
    for await (const line of this.#lines(options)) {
      if ('page' in line) mark = line.page
      else entries.push(entryFrom(line))
    }
    if (mark === undefined) throw badAnswer('a scan without a page')
    return { entries, cursor: mark.cursor ?? undefined, revision: mark.revision }
  }

  async *#lines(options: ScanPageOptions): AsyncGenerator<EntryLine | { readonly page: PageMark }, void, void> {
    const { prefix, start, end, limit, cursor } = options
    const flags = { reverse: options.reverse === true || undefined, values: options.values === true || undefined }
    const stream = await this.#transport.open({
      method: 'GET',
      path: this.#bucketPath + queryOf({ prefix, start, end, limit, cursor, ...flags }),
      headers: { accept: 'application/x-ndjson' },
      idempotent: true,
      signal: options.signal,
    })
    let closed = false
    try {
      for await (const bytes of linesOf(stream, LINE_BYTES_MAX)) {
        const line = JSON.parse(bytes.toString()) as Line
        if ('error' in line) throw errorFromProblem(line.error, 500)
        closed = 'page' in line
        yield line
      }
    } catch (error) {
      throw brokenOff(error, 'a scan broke off', options.signal)
    }
    if (!closed) throw new KvError({ code: 'NoAnswer', status: 0, detail: 'a scan ended within a page' })
  }
}

function entryFrom(line: EntryLine): ScanEntry {
  return {
    key: line.key,
    etag: line.etag,
    revision: line.revision,
    size: line.size,
    modified: new Date(line.modified),
    expires: line.expires === undefined ? undefined : new Date(line.expires),
    value: typeof line.value === 'string' ? Buffer.from(line.value, 'base64') : undefined,
    contentType: line.contentType,
    metadata: line.metadata,
  }
}
