/**
 * Fields that several kinds of records have: attributes, ETags, checksums (records-objects.ts, records-contents.ts say where).
 *
 * etag       byte form: 0 text follows; 1 the 16 bytes of 32 hex digits; 2 the same, then integer n for `<hex>-<n>`
 */
import { must } from '../../common/assert.ts'
import {
  CHECKSUM_ALGORITHMS,
  type ChecksumAlgorithm,
  type ChecksumType,
  type ContentHeaders,
  type ObjectAttributes,
  type ObjectChecksum,
} from '../../common/model.ts'
import type { RecordReader, RecordWriter } from './codec.ts'

export const CHECKSUM_TYPES: readonly ChecksumType[] = ['FULL_OBJECT', 'COMPOSITE']
export const DEFAULT_STORAGE_CLASS = 'STANDARD'

/** Bits of what an inode record has; those of attributes are the same wherever attributes lie. */
export const MASK = {
  inline: 1,
  checksum: 2,
  partsCount: 4,
  uploadId: 8,
  storageClass: 16,
  websiteRedirect: 32,
  userMetadata: 64,
  tags: 128,
} as const

/** Bit 8 and on of the mask, in this order. */
const HEADER_NAMES = [
  'contentType',
  'cacheControl',
  'contentDisposition',
  'contentEncoding',
  'contentLanguage',
  'expires',
] as const satisfies readonly (keyof ContentHeaders)[]
const FIRST_HEADER_BIT = 256
/** Of the mask of an inode: the first that attributes do not use. */
export const FIRST_BIT_FREE: number = FIRST_HEADER_BIT << HEADER_NAMES.length

/** The bits of `MASK` and the header bits that these attributes need. */
export function attributesMask(attributes: ObjectAttributes): number {
  let mask = 0
  if (attributes.storageClass !== DEFAULT_STORAGE_CLASS) mask |= MASK.storageClass
  if (attributes.websiteRedirect !== undefined) mask |= MASK.websiteRedirect
  if (hasFields(attributes.userMetadata)) mask |= MASK.userMetadata
  if (hasFields(attributes.tags)) mask |= MASK.tags
  for (let index = 0; index < HEADER_NAMES.length; index++) {
    const name = HEADER_NAMES[index]
    if (name !== undefined && attributes.headers[name] !== undefined) mask |= FIRST_HEADER_BIT << index
  }
  return mask
}

export function writeAttributes(writer: RecordWriter, attributes: ObjectAttributes): void {
  if (attributes.storageClass !== DEFAULT_STORAGE_CLASS) writer.text(attributes.storageClass)
  if (attributes.websiteRedirect !== undefined) writer.text(attributes.websiteRedirect)
  if (hasFields(attributes.userMetadata)) writeFields(writer, attributes.userMetadata)
  if (hasFields(attributes.tags)) writeFields(writer, attributes.tags)
  for (const name of HEADER_NAMES) {
    const value = attributes.headers[name]
    if (value !== undefined) writer.text(value)
  }
}

export function readAttributes(reader: RecordReader, mask: number): ObjectAttributes {
  const storageClass = mask & MASK.storageClass ? reader.text() : DEFAULT_STORAGE_CLASS
  const websiteRedirect = mask & MASK.websiteRedirect ? reader.text() : undefined
  const userMetadata = mask & MASK.userMetadata ? readFields(reader) : {}
  const tags = mask & MASK.tags ? readFields(reader) : {}
  const headers: { -readonly [Name in keyof ContentHeaders]: ContentHeaders[Name] } = {}
  HEADER_NAMES.forEach((name, index) => {
    if (mask & (FIRST_HEADER_BIT << index)) headers[name] = reader.text()
  })
  return { headers, userMetadata, tags, storageClass, ...(websiteRedirect === undefined ? {} : { websiteRedirect }) }
}

function hasFields(fields: Readonly<Record<string, string>>): boolean {
  for (const name in fields) if (Object.hasOwn(fields, name)) return true
  return false
}

function writeFields(writer: RecordWriter, fields: Readonly<Record<string, string>>): void {
  const pairs = Object.entries(fields)
  writer.integer(pairs.length)
  for (const [name, value] of pairs) {
    writer.text(name)
    writer.text(value)
  }
}

function readFields(reader: RecordReader): Record<string, string> {
  const pairs: [string, string][] = []
  for (let left = reader.integer(); left > 0; left--) pairs.push([reader.text(), reader.text()])
  // fromEntries defines own properties, so a name such as __proto__ is one field among others.
  return Object.fromEntries(pairs)
}

const ETAG_FORM = { text: 0, hex: 1, hexWithCount: 2 } as const
const DIGEST_DIGITS = 32
const HEX_ETAG = /^([0-9a-f]{32})-([1-9][0-9]{0,8})$/

export function writeEtag(writer: RecordWriter, etag: string): void {
  // Almost all are of this form.
  if (isHexDigest(etag)) {
    writer.byte(ETAG_FORM.hex)
    writer.hex(etag)
    return
  }
  const match = HEX_ETAG.exec(etag)
  if (!match) {
    writer.byte(ETAG_FORM.text)
    writer.text(etag)
    return
  }
  writer.byte(ETAG_FORM.hexWithCount)
  writer.hex(must(match[1], 'digest of etag'))
  writer.integer(Number(match[2]))
}

function isHexDigest(etag: string): boolean {
  if (etag.length !== DIGEST_DIGITS) return false
  for (let at = 0; at < DIGEST_DIGITS; at++) {
    const code = etag.charCodeAt(at)
    const isDigit = code >= 0x30 && code <= 0x39
    if (!isDigit && (code < 0x61 || code > 0x66)) return false
  }
  return true
}

export function readEtag(reader: RecordReader): string {
  const form = reader.byte()
  if (form === ETAG_FORM.text) return reader.text()
  const digest = reader.hex(16)
  return form === ETAG_FORM.hex ? digest : `${digest}-${reader.integer()}`
}

export function checksumByte(algorithm: ChecksumAlgorithm, type: ChecksumType | undefined): number {
  return CHECKSUM_ALGORITHMS.indexOf(algorithm) * 2 + CHECKSUM_TYPES.indexOf(type ?? 'FULL_OBJECT')
}

export function checksumOfByte(byte: number): { algorithm: ChecksumAlgorithm; type: ChecksumType } {
  return {
    algorithm: must(CHECKSUM_ALGORITHMS[byte >> 1], 'checksum algorithm'),
    type: must(CHECKSUM_TYPES[byte & 1], 'checksum type'),
  }
}

export function writeChecksum(writer: RecordWriter, checksum: ObjectChecksum): void {
  writer.byte(checksumByte(checksum.algorithm, checksum.type))
  writer.text(checksum.value)
}

export function readChecksum(reader: RecordReader): ObjectChecksum {
  return { ...checksumOfByte(reader.byte()), value: reader.text() }
}
