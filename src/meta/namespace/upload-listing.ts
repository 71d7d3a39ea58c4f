/** ListMultipartUploads: by key, then by age. One page at one revision. */
import { must } from '../../common/assert.ts'
import { utf8Bytes, utf8Text, type ByteString } from '../../common/ids.ts'
import type { UploadRecord } from '../../common/model.ts'
import type { ReadView, Row } from '../ports.ts'
import { readBucket, type NamespaceContext } from './context.ts'
import {
  UPLOAD_KEY_AT,
  bytesHex,
  hexBytes,
  orderedAt,
  orderedBytes,
  orderedPrefixRange,
  prefixEnd,
  uploadsPrefix,
} from './keys.ts'
import { PAGE_ITEMS_MAX, commonPrefix, pageScope } from './listing.ts'
import { decodeUpload } from './records-contents.ts'
import { uploadRecord } from './uploads.ts'

export interface ListUploadsRequest {
  readonly bucket: string
  readonly prefix: string
  readonly delimiter: string
  readonly keyMarker: string
  readonly uploadIdMarker: string
  readonly limit: number
}

export interface ListUploadsPage {
  uploads: UploadRecord[]
  commonPrefixes: string[]
  truncated: boolean
  nextKeyMarker?: string
  nextUploadIdMarker?: string
}

export function listUploads(context: NamespaceContext, request: ListUploadsRequest): Promise<ListUploadsPage> {
  const limit = Math.min(request.limit, PAGE_ITEMS_MAX)
  return context.store.read(async (view) => {
    const bucket = await readBucket(view, request.bucket)
    const page: ListUploadsPage = { uploads: [], commonPrefixes: [], truncated: false }
    const scope = pageScope(request, request.keyMarker)
    if (!scope || limit <= 0) return page
    const before = uploadsPrefix(bucket.id)
    const range = orderedPrefixRange(before, scope.prefix)
    const from = resumeKey(request, before) ?? before + orderedBytes(scope.start)
    const start = from > range.start ? (from as ByteString) : range.start
    await collectUploads(view, { request, range: { start, end: range.end }, limit }, page)
    return page
  })
}

/** With an upload id marker: right after that upload, unless a common prefix swallows its key. */
function resumeKey(request: ListUploadsRequest, before: string): string | undefined {
  const { keyMarker, uploadIdMarker } = request
  if (keyMarker === '' || !/^[0-9a-f]{32}$/.test(uploadIdMarker)) return undefined
  const key = utf8Bytes(keyMarker)
  if (commonPrefix(key, utf8Bytes(request.prefix), utf8Bytes(request.delimiter)) !== undefined) return undefined
  return `${before}${orderedBytes(key)}${hexBytes(uploadIdMarker)}\0`
}

async function collectUploads(
  view: ReadView,
  sought: { request: ListUploadsRequest; range: { start: ByteString; end: ByteString }; limit: number },
  page: ListUploadsPage,
): Promise<void> {
  const { request, limit } = sought
  const prefix = utf8Bytes(request.prefix)
  const delimiter = utf8Bytes(request.delimiter)
  let { start } = sought.range
  for (;;) {
    const rows: Row[] = start < sought.range.end ? await view.scan({ start, end: sought.range.end }, limit + 1) : []
    let skipped: string | undefined
    for (const row of rows) {
      if (page.uploads.length + page.commonPrefixes.length >= limit) {
        page.truncated = true
        return
      }
      const { raw: key, next } = orderedAt(row.key, UPLOAD_KEY_AT)
      const common = commonPrefix(key, prefix, delimiter)
      if (common !== undefined) {
        page.commonPrefixes.push(utf8Text(common))
        page.nextKeyMarker = utf8Text(common)
        page.nextUploadIdMarker = ''
        skipped = common
        break
      }
      const uploadId = bytesHex(row.key.slice(next))
      const address = { bucket: request.bucket, key: utf8Text(key), uploadId }
      page.uploads.push(uploadRecord(address, decodeUpload(row.value)))
      page.nextKeyMarker = address.key
      page.nextUploadIdMarker = uploadId
    }
    if (skipped === undefined && rows.length <= limit) return
    const after =
      skipped === undefined ? `${must(rows.at(-1), 'row').key}\0` : orderedAfter(sought.range.start, skipped)
    start = after as ByteString
  }
}

function orderedAfter(anyKey: string, common: string): string {
  return anyKey.slice(0, UPLOAD_KEY_AT) + orderedBytes(prefixEnd(common))
}
