/** Attributes of a value as they stand in headers, both ways. */
import type { IncomingHttpHeaders } from 'node:http'
import { conditionOf } from './names.ts'
import type { GetOptions, HeadOptions, KvAttributes, KvHeaders, PutOptions, WriteOptions } from './types.ts'

export type RequestHeaders = Record<string, string | number>

const METADATA = 'x-tidegate-meta-'

const REPRESENTATION = [
  ['contentType', 'content-type'],
  ['cacheControl', 'cache-control'],
  ['contentDisposition', 'content-disposition'],
  ['contentEncoding', 'content-encoding'],
  ['contentLanguage', 'content-language'],
  ['httpExpires', 'expires'],
] as const satisfies readonly (readonly [keyof KvHeaders, string])[]

export function readHeaders(options: GetOptions | HeadOptions): RequestHeaders {
  const headers: RequestHeaders = {}
  addConditions(headers, options)
  if ('range' in options && options.range !== undefined) {
    const { range } = options
    headers['range'] =
      'last' in range ? `bytes=-${range.last}` : `bytes=${range.start}-${range.end === undefined ? '' : range.end - 1}`
  }
  return headers
}

export function writeHeaders(options: WriteOptions & Pick<HeadOptions, 'ifMatch' | 'ifNoneMatch'>): RequestHeaders {
  const headers: RequestHeaders = {}
  addConditions(headers, options)
  if (options.ack !== undefined) headers['x-tidegate-ack'] = options.ack
  return headers
}

export function putHeaders(options: PutOptions): RequestHeaders {
  const headers = writeHeaders(options)
  for (const [field, name] of REPRESENTATION) {
    const value = options[field]
    if (value !== undefined) headers[name] = value
  }
  const { metadata } = options
  for (const name in metadata) headers[METADATA + name] = encodedWord(metadata[name] ?? '')
  if (options.size !== undefined) headers['content-length'] = options.size
  return headers
}

function addConditions(headers: RequestHeaders, options: Pick<HeadOptions, 'ifMatch' | 'ifNoneMatch'>): void {
  const ifMatch = conditionOf(options.ifMatch)
  const ifNoneMatch = conditionOf(options.ifNoneMatch)
  if (ifMatch !== undefined) headers['if-match'] = ifMatch
  if (ifNoneMatch !== undefined) headers['if-none-match'] = ifNoneMatch
}

export function attributesFrom(headers: IncomingHttpHeaders): KvAttributes {
  const metadata: Record<string, string> = {}
  for (const name in headers) {
    if (name.startsWith(METADATA)) metadata[name.slice(METADATA.length)] = decodedWord(String(headers[name]))
  }
  const representation: Record<string, string> = {}
  for (const [field, name] of REPRESENTATION) {
    const value = headers[name]
    if (typeof value === 'string') representation[field] = value
  }
  return {
    ...representation,
    etag: etagFrom(headers),
    revision: Number(headers['x-tidegate-revision']),
    size: sizeFrom(headers),
    modified: new Date(headers['last-modified'] ?? Number.NaN),
    expires: timeFrom(headers['x-tidegate-expires']),
    metadata,
    pinned: numberFrom(headers['x-tidegate-pinned']),
  }
}

/** Without its quotes. */
export function etagFrom(headers: IncomingHttpHeaders): string {
  return (headers.etag ?? '').replaceAll('"', '')
}

export function timeFrom(value: string | string[] | undefined): Date | undefined {
  return typeof value === 'string' ? new Date(value) : undefined
}

export function numberFrom(value: string | string[] | undefined): number | undefined {
  return typeof value === 'string' ? Number(value) : undefined
}

function sizeFrom(headers: IncomingHttpHeaders): number {
  const whole = /\/(?<size>\d+)$/.exec(headers['content-range'] ?? '')?.groups?.['size']
  return Number(whole ?? headers['content-length'])
}

/** RFC 2047, which is how both doors say a value that no header can hold. */
function encodedWord(value: string): string {
  // oxlint-disable-next-line no-control-regex
  if (/^[\t\x20-\x7e\xa0-\xff]*$/.test(value)) return value
  return `=?UTF-8?B?${Buffer.from(value).toString('base64')}?=`
}

function decodedWord(value: string): string {
  const base64 = /^=\?UTF-8\?B\?(?<base64>[A-Za-z\d+/]*=*)\?=$/i.exec(value)?.groups?.['base64']
  return base64 === undefined ? value : Buffer.from(base64, 'base64').toString()
}
