/**
 * Labels: what a segment says of each body in it, so that names can be rebuilt from segments alone (C17). JSON with short names, written
 * beside the bytes when they come, with what is known then; never changed after.
 *
 *   b  bucket                  k  key
 *   e  ETag                    m  when the bytes had come, ms since 1970
 *   t  content type            h  other headers, those that are set, by their names in `ContentHeaders`
 *   d  user metadata           g  tags
 *   s  storage class, unless STANDARD
 *   r  website redirect        x  when it expires, ms since 1970
 *   u  upload id, and p the part's number: a part of that upload
 *   f  inode, and o an offset: bytes of that file, from there on
 *
 * All but `b` and `k` may be missing; labels from before there were others have only those. What is not in a label: what became of the name
 * later. What reads a label takes nothing in it on trust: who can write to the remote store can write labels. A label is bounded: metadata and tags that would make it larger than `LABEL_CHARACTERS_MAX` are left out.
 */
import type { InodeId } from '../common/ids.ts'
import type { ContentHeaders, ObjectAttributes } from '../common/model.ts'

export interface BodyLabel {
  readonly bucket: string
  readonly key: string
  readonly etag?: string | undefined
  readonly modifiedMs?: number | undefined
  readonly attributes?: ObjectAttributes | undefined
  readonly expiresMs?: number | undefined
  readonly part?: { readonly uploadId: string; readonly partNumber: number } | undefined
  readonly file?: { readonly inode: InodeId; readonly offset: number } | undefined
}

const LABEL_CHARACTERS_MAX = 16 * 1024
const DEFAULT_STORAGE_CLASS = 'STANDARD'
const UPLOAD_ID = /^[0-9a-f]{32}$/
const PARTS_MAX = 10_000
const IDS_MAX = 2 ** 52
/** As files/limits.ts. */
const FILE_BYTES_MAX = 2 ** 50
/** The last that a `Date` knows. */
const TIME_MS_MAX = 8_640_000_000_000_000

export function encodeLabel(label: BodyLabel): string {
  const text = labelText(label)
  if (text.length <= LABEL_CHARACTERS_MAX || !label.attributes) return text
  const { storageClass } = label.attributes
  return labelText({ ...label, attributes: { headers: {}, userMetadata: {}, tags: {}, storageClass } })
}

/** Put together by hand: it is on the way of every small write, and a third of what `JSON.stringify` of an object takes. */
function labelText({ bucket, key, etag, modifiedMs, attributes, expiresMs, part, file }: BodyLabel): string {
  let text = `{"b":${JSON.stringify(bucket)},"k":${JSON.stringify(key)}`
  if (etag !== undefined) text += `,"e":${JSON.stringify(etag)}`
  if (modifiedMs !== undefined) text += `,"m":${modifiedMs}`
  if (attributes) text += attributesText(attributes)
  if (expiresMs !== undefined) text += `,"x":${expiresMs}`
  if (part) text += `,"u":${JSON.stringify(part.uploadId)},"p":${part.partNumber}`
  if (file) text += `,"f":${file.inode},"o":${file.offset}`
  return `${text}}`
}

function attributesText({ headers, userMetadata, tags, storageClass, websiteRedirect }: ObjectAttributes): string {
  let text = ''
  if (headers.contentType !== undefined) text += `,"t":${JSON.stringify(headers.contentType)}`
  if (hasOthers(headers)) text += `,"h":${JSON.stringify({ ...headers, contentType: undefined })}`
  if (hasFields(userMetadata)) text += `,"d":${JSON.stringify(userMetadata)}`
  if (hasFields(tags)) text += `,"g":${JSON.stringify(tags)}`
  if (storageClass !== DEFAULT_STORAGE_CLASS) text += `,"s":${JSON.stringify(storageClass)}`
  if (websiteRedirect !== undefined) text += `,"r":${JSON.stringify(websiteRedirect)}`
  return text
}

function hasOthers(headers: ContentHeaders): boolean {
  for (const name in headers) {
    if (name !== 'contentType' && headers[name as keyof ContentHeaders] !== undefined) return true
  }
  return false
}

function hasFields(fields: Readonly<Record<string, string>>): boolean {
  for (const name in fields) if (Object.hasOwn(fields, name)) return true
  return false
}

/**
 * Undefined for what is no label, and for one of a part or of a file that does not say which: as an object it would take the place of the
 * real one. Other fields that this program does not know are ignored.
 */
export function decodeLabel(text: string): BodyLabel | undefined {
  const fields = parsed(text)
  if (!fields || typeof fields['b'] !== 'string' || typeof fields['k'] !== 'string') return undefined
  const { b: bucket, k: key, e, m, x, u, p, f, o } = fields
  const part = isUploadId(u) && isWithin(p, 1, PARTS_MAX) ? { uploadId: u, partNumber: p } : undefined
  const file = isWithin(f, 1, IDS_MAX) && isWithin(o, 0, FILE_BYTES_MAX) ? { inode: f, offset: o } : undefined
  if ((u !== undefined && !part) || (f !== undefined && !file)) return undefined
  return {
    bucket,
    key,
    etag: typeof e === 'string' ? e : undefined,
    modifiedMs: isWithin(m, 0, TIME_MS_MAX) ? m : undefined,
    attributes: attributesOf(fields),
    expiresMs: isWithin(x, 0, TIME_MS_MAX) ? x : undefined,
    part,
    file,
  }
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

function isWithin(value: unknown, least: number, most: number): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most
}

function isUploadId(value: unknown): value is string {
  return typeof value === 'string' && UPLOAD_ID.test(value)
}

function attributesOf({ t, h, d, g, s, r }: Record<string, unknown>): ObjectAttributes {
  const headers: ContentHeaders = { ...texts(h), ...(typeof t === 'string' ? { contentType: t } : {}) }
  return {
    headers,
    userMetadata: texts(d),
    tags: texts(g),
    storageClass: typeof s === 'string' ? s : DEFAULT_STORAGE_CLASS,
    ...(typeof r === 'string' ? { websiteRedirect: r } : {}),
  }
}

function texts(value: unknown): Record<string, string> {
  if (typeof value !== 'object' || value === null) return {}
  return Object.fromEntries(
    Object.entries(value).filter((field): field is [string, string] => typeof field[1] === 'string'),
  )
}
