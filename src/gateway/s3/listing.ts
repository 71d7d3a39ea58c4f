/** What the listings share: owners, common prefixes, continuation tokens, encoding. */
import type { ListedObject } from '../../common/model.ts'
import type { Owner } from './call.ts'
import { invalidArgument } from './errors.ts'
import { isoDate } from '../http/http-times.ts'
import { element, encodeUrl, escapeXml } from './xml/escape.ts'

export type TextEncoding = (text: string) => string

/** How keys and prefixes are written: percent-encoded when the client asked for encoding-type=url, XML-escaped otherwise. */
export function keyEncoding(url: boolean): TextEncoding {
  return url ? encodeUrl : escapeXml
}

export function ownerElement(name: string, owner: Owner): string {
  return `<${name}>${element('ID', owner.id)}${element('DisplayName', owner.displayName)}</${name}>`
}

export function commonPrefixElements(prefixes: readonly string[], encode: TextEncoding): string {
  let xml = ''
  for (const prefix of prefixes) xml += `<CommonPrefixes><Prefix>${encode(prefix)}</Prefix></CommonPrefixes>`
  return xml
}

/** The elements that rows of objects and versions share, from Key to StorageClass. `etag` is absent of delete markers. */
export function objectElements(object: ListedObject, encode: TextEncoding): string {
  const algorithm =
    object.checksumAlgorithm === undefined
      ? ''
      : `<ChecksumAlgorithm>${object.checksumAlgorithm}</ChecksumAlgorithm>${element('ChecksumType', object.checksumType)}`
  return (
    `<Key>${encode(object.key)}</Key><LastModified>${isoDate(object.mtimeMs)}</LastModified>` +
    `<ETag>&quot;${object.etag}&quot;</ETag>${algorithm}<Size>${object.size}</Size>` +
    `<StorageClass>${escapeXml(object.storageClass)}</StorageClass>`
  )
}

/** Tokens are opaque to clients: base64url of the name after which the next page begins. */
export function encodeToken(after: string): string {
  return Buffer.from(after, 'utf8').toString('base64url')
}

/** @throws S3Error InvalidArgument */
export function decodeToken(token: string): string {
  const after = Buffer.from(token, 'base64url').toString('utf8')
  if (after === '' || encodeToken(after) !== token) {
    throw invalidArgument('continuation-token', token, 'The continuation token provided is incorrect')
  }
  return after
}
