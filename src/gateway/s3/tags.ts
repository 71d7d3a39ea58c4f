/** Object tags: the x-amz-tagging header and the `Tagging` document, under S3's limits. */
import { S3Error } from './errors.ts'
import { parseQuery } from './target.ts'
import { document, element } from './xml/escape.ts'
import { child, childrenNamed, childText, parseRoot } from './xml/parse.ts'

export type Tags = Readonly<Record<string, string>>

const NO_TAGS: Tags = {}
const KEY_LENGTH_MAX = 128
const VALUE_LENGTH_MAX = 256
/** Letters, digits, spaces and `_ . : / = + - @`, in any script. */
const ALLOWED = /^[\p{L}\p{N}\p{Z}_.:/=+\-@]*$/u

/** @throws S3Error InvalidTag, InvalidArgument */
export function parseTaggingHeader(header: string | undefined, tagsMax: number): Tags {
  if (header === undefined || header === '') return NO_TAGS
  let query: ReadonlyMap<string, string>
  try {
    query = parseQuery(header)
  } catch {
    throw invalidHeader()
  }
  if (query.size !== header.split('&').filter((pair) => pair !== '').length) throw invalidHeader()
  return checkTags([...query], tagsMax)
}

function invalidHeader(): S3Error {
  return new S3Error(
    'InvalidArgument',
    "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.",
    { ArgumentName: 'x-amz-tagging' },
  )
}

/** @throws S3Error MalformedXML, InvalidTag */
export function parseTaggingXml(text: string, tagsMax: number): Tags {
  const tagSet = child(parseRoot(text, 'Tagging'), 'TagSet')
  if (tagSet === undefined) throw new S3Error('MalformedXML')
  const pairs = childrenNamed(tagSet, 'Tag').map((tag): [string, string] => {
    const key = childText(tag, 'Key')
    const value = childText(tag, 'Value')
    if (key === undefined || value === undefined) throw new S3Error('MalformedXML')
    return [key, value]
  })
  return checkTags(pairs, tagsMax)
}

function checkTags(pairs: readonly (readonly [string, string])[], tagsMax: number): Tags {
  if (pairs.length > tagsMax) throw new S3Error('InvalidTag', `Object tags cannot be greater than ${tagsMax}`)
  const tags = new Map<string, string>()
  for (const [key, value] of pairs) {
    if (key === '' || key.length > KEY_LENGTH_MAX || !ALLOWED.test(key) || key.startsWith('aws:')) {
      throw new S3Error('InvalidTag', 'The TagKey you have provided is invalid', { TagKey: key })
    }
    if (value.length > VALUE_LENGTH_MAX || !ALLOWED.test(value)) {
      throw new S3Error('InvalidTag', 'The TagValue you have provided is invalid', { TagKey: key, TagValue: value })
    }
    if (tags.has(key))
      throw new S3Error('InvalidTag', 'Cannot provide multiple Tags with the same key', { TagKey: key })
    tags.set(key, value)
  }
  // Not by assignment: a tag may be called `__proto__`.
  return Object.fromEntries(tags)
}

/** Sorted by key: AWS keeps no order, and clients compare. */
export function taggingDocument(tags: Tags): string {
  const content = Object.keys(tags)
    .sort()
    .map((key) => `<Tag>${element('Key', key)}${element('Value', tags[key])}</Tag>`)
    .join('')
  return document('Tagging', `<TagSet>${content}</TagSet>`)
}
