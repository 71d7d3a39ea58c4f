/**
 * What is said of an object beside its bytes, as the SDK's commands take it and its answers tell it.
 *
 * Metadata that is not ASCII travels as RFC 2047 words, as AWS itself gives it back; a store that gives raw bytes is understood too. What
 * was written in words is read as what they say, so a round trip through any store leaves it as it was.
 */
import type {
  CopyObjectCommandInput,
  CreateMultipartUploadCommandInput,
  HeadObjectCommandOutput,
  PutObjectCommandInput,
} from '@aws-sdk/client-s3'
import type { ContentHeaders, ObjectAttributes } from '../../common/model.ts'
import { bareEtag } from '../remote/s3-etags.ts'
import type { ExternalDescription } from './ports.ts'

export type AttributeInput = Pick<
  PutObjectCommandInput & CreateMultipartUploadCommandInput & CopyObjectCommandInput,
  | 'ContentType'
  | 'CacheControl'
  | 'ContentDisposition'
  | 'ContentEncoding'
  | 'ContentLanguage'
  | 'Expires'
  | 'Metadata'
  | 'StorageClass'
  | 'WebsiteRedirectLocation'
  | 'Tagging'
>

/** What S3 makes of an object without a type. Said, since the SDK would say another one. */
const DEFAULT_TYPE = 'binary/octet-stream'

/** `Expires` is not among them: see `withExpires`. */
const CONTENT_FIELDS = [
  ['contentType', 'ContentType'],
  ['cacheControl', 'CacheControl'],
  ['contentDisposition', 'ContentDisposition'],
  ['contentEncoding', 'ContentEncoding'],
  ['contentLanguage', 'ContentLanguage'],
] as const satisfies readonly (readonly [keyof ContentHeaders, keyof AttributeInput & keyof HeadObjectCommandOutput])[]

export function attributeInput(attributes: ObjectAttributes): AttributeInput {
  const input: AttributeInput = { ContentType: DEFAULT_TYPE, ...labels(attributes) }
  for (const [from, to] of CONTENT_FIELDS) {
    const value = attributes.headers[from]
    if (value !== undefined) input[to] = headerText(value)
  }
  const metadata = Object.entries(attributes.userMetadata)
  if (metadata.length > 0) input.Metadata = Object.fromEntries(metadata.map(([name, text]) => [name, headerText(text)]))
  const tags = Object.entries(attributes.tags)
  if (tags.length > 0) input.Tagging = tags.map((pair) => pair.map(encodeURIComponent).join('=')).join('&')
  return input
}

/** What CopyObject does not take over from the source. */
export function labels({ storageClass, websiteRedirect }: ObjectAttributes): AttributeInput {
  return {
    // Stores have classes of their own, and the SDK sends what it is told.
    ...(storageClass === 'STANDARD' ? {} : { StorageClass: storageClass as AttributeInput['StorageClass'] & string }),
    ...(websiteRedirect === undefined ? {} : { WebsiteRedirectLocation: headerText(websiteRedirect) }),
  }
}

interface HeaderStack {
  add(
    middleware: (next: (args: never) => Promise<never>) => (args: { readonly request: unknown }) => Promise<never>,
    options: { readonly step: 'build'; readonly name: string },
  ): void
}

/** `Expires` as it was given: the SDK takes a date only, and `0` or `-1` is what many have there. */
export function withExpires<Command extends { readonly middlewareStack: unknown }>(
  command: Command,
  { headers: { expires } }: ObjectAttributes,
): Command {
  if (expires === undefined) return command
  const stack = command.middlewareStack as HeaderStack
  stack.add(
    (next) => async (args) => {
      const { headers } = args.request as { headers: Record<string, string> }
      headers['expires'] = headerText(expires)
      return await next(args as never)
    },
    { step: 'build', name: 'expiresAsGiven' },
  )
  return command
}

/** Undefined when the answer lacks what every object has. Tags are none, since HEAD tells no more than their number. */
export function describe(key: string, found: HeadObjectCommandOutput): ExternalDescription | undefined {
  const { ContentLength: size, ETag, LastModified, StorageClass: storageClass = 'STANDARD' } = found
  if (size === undefined || ETag === undefined || LastModified === undefined) return undefined
  const etag = bareEtag(ETag)
  return {
    key,
    size,
    etag,
    modifiedMs: LastModified.getTime(),
    storageClass,
    attributes: attributesOf(found, storageClass),
    partsCount: partsCountOf(etag),
  }
}

function attributesOf(found: HeadObjectCommandOutput, storageClass: string): ObjectAttributes {
  const headers: { -readonly [name in keyof ContentHeaders]: string } = {}
  for (const [to, from] of CONTENT_FIELDS) {
    const value = found[from]
    if (value !== undefined) headers[to] = plainText(value)
  }
  if (found.ExpiresString !== undefined) headers.expires = found.ExpiresString
  const { Metadata: metadata = {}, WebsiteRedirectLocation: websiteRedirect } = found
  return {
    headers,
    userMetadata: Object.fromEntries(Object.entries(metadata).map(([name, text]) => [name, plainText(text)])),
    tags: {},
    storageClass,
    ...(websiteRedirect === undefined ? {} : { websiteRedirect: plainText(websiteRedirect) }),
  }
}

function partsCountOf(etag: string): number | undefined {
  const count = /-(\d{1,5})$/.exec(etag)?.[1]
  return count === undefined ? undefined : Number(count)
}

const ASCII = /^[\t\x20-\x7e]*$/
const ENCODED_WORDS = /^=\?utf-8\?[bq]\?[^? ]*\?=(?:[ \t]+=\?utf-8\?[bq]\?[^? ]*\?=)*$/i

function headerText(text: string): string {
  return ASCII.test(text) ? text : `=?UTF-8?B?${Buffer.from(text).toString('base64')}?=`
}

function plainText(header: string): string {
  if (ENCODED_WORDS.test(header)) return decodedWords(header)
  if (ASCII.test(header)) return header
  // Node has each byte of a header as one character. Bytes that are no UTF-8 are what HTTP says they are: ISO-8859-1.
  const decoded = Buffer.from(header, 'latin1').toString('utf8')
  return decoded.includes('\ufffd') ? header : decoded
}

/** The bytes of all words together: a word may end within a character. */
function decodedWords(header: string): string {
  const bytes = header.split(/[ \t]+/).map((word) => {
    const [, , kind = '', text = ''] = word.split('?')
    if (kind.toLowerCase() === 'b') return Buffer.from(text, 'base64')
    const octets = text
      .replaceAll('_', ' ')
      .replace(/=([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)))
    return Buffer.from(octets, 'latin1')
  })
  return Buffer.concat(bytes).toString('utf8')
}
