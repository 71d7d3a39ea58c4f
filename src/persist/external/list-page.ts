/**
 * Reads the answer to ListObjectsV2. The SDK makes a tree of it and then another one by its schema, which takes twenty times as long as this, and as
 * much as all else that taking over a page costs.
 *
 *   [<?xml ...?>] <ListBucketResult ...> element* </ListBucketResult>
 *   element   <Name> text </Name>  |  <Name> element* </Name>  |  <Name/>
 *
 * Only what stores write is read: no comments, CDATA, processing instructions, document types, or entities but the five and numbers; no attributes
 * but where a `>` cannot be in them; every element ended by its own name; a text of an object's once at most. Elements that are not known here are
 * passed over, whole. For anything else it has no opinion (`undefined`), and the SDK is asked: this is never the one to say that an answer is bad.
 */
import { readPlainObject, timeMs, type ListedObject, type PlainObject } from './list-object.ts'

export interface ListedPage {
  readonly isTruncated: boolean
  readonly token: string | undefined
  readonly isUrlEncoded: boolean
  readonly objects: readonly ListedObject[]
  /** As they were sent. */
  readonly prefixes: readonly (string | undefined)[]
}

const ROOT = 'ListBucketResult'
const DECLARATION = /^\ufeff?\s*<\?xml [^<>]*\?>/
const DEPTH_MAX = 16
const SIZE = /^\d{1,15}$/
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,3})?Z$/
const ENTITY = /&(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#x([0-9a-fA-F]{1,6}));/g
const QUOTE = '&quot;'
const NAMED_ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }
const NAME = /^[A-Za-z][A-Za-z0-9]*$/
const LESS = 0x3c
const GREATER = 0x3e
const SLASH = 0x2f
const TAG = /^([A-Za-z][A-Za-z0-9]*)((?:\s[^<]*)?)$/
const ATTRIBUTES = /^(?:\s+[A-Za-z][A-Za-z0-9:]*="[^"<>&]*")*\s*$/

export function readListPage(xml: string): ListedPage | undefined {
  try {
    return new PageReader(xml).page()
  } catch (error) {
    if (error instanceof NotPlain) return undefined
    throw error
  }
}

class NotPlain extends Error {}

function notPlain(): never {
  throw new NotPlain('not as stores write it')
}

class PageReader {
  readonly #xml: string
  #at: number

  constructor(xml: string) {
    this.#xml = xml
    this.#at = DECLARATION.exec(xml)?.[0].length ?? 0
  }

  page(): ListedPage {
    const seen = new Map<string, string>()
    const objects: ListedObject[] = []
    const prefixes: (string | undefined)[] = []
    if (this.#open() !== ROOT) notPlain()
    for (let name = this.#open(); name !== undefined; name = this.#open()) {
      if (name === 'Contents') objects.push(this.#object())
      else if (name === 'CommonPrefixes') prefixes.push(this.#prefix())
      else if (name === 'IsTruncated' || name === 'NextContinuationToken' || name === 'EncodingType') {
        if (seen.has(name)) notPlain()
        seen.set(name, this.#text(name))
      } else this.#skip(name, 0)
    }
    this.#close(ROOT)
    if (this.#xml.slice(this.#at).trim() !== '') notPlain()
    const isTruncated = seen.get('IsTruncated')
    if (isTruncated !== 'true' && isTruncated !== 'false') notPlain()
    return {
      isTruncated: isTruncated === 'true',
      token: seen.get('NextContinuationToken'),
      isUrlEncoded: seen.get('EncodingType') === 'url',
      objects,
      prefixes,
    }
  }

  #object(): ListedObject {
    const object: ListedObject = {}
    if (this.#isEmpty('Contents')) return object
    const plain = readPlainObject(this.#xml, this.#at)
    if (plain) {
      this.#at = plain.end
      return objectOf(plain)
    }
    for (let name = this.#open(); name !== undefined; name = this.#open()) {
      switch (name) {
        case 'Key':
          if (object.Key !== undefined) notPlain()
          object.Key = this.#text(name)
          break
        case 'LastModified':
          if (object.modifiedMs !== undefined) notPlain()
          object.modifiedMs = time(this.#text(name))
          break
        case 'ETag':
          if (object.ETag !== undefined) notPlain()
          object.ETag = this.#text(name)
          break
        case 'Size':
          if (object.Size !== undefined) notPlain()
          object.Size = size(this.#text(name))
          break
        case 'StorageClass':
          if (object.StorageClass !== undefined) notPlain()
          object.StorageClass = this.#text(name)
          break
        default:
          this.#skip(name, 0)
      }
    }
    this.#close('Contents')
    return object
  }

  #prefix(): string | undefined {
    let prefix: string | undefined
    if (this.#isEmpty('CommonPrefixes')) return prefix
    for (let name = this.#open(); name !== undefined; name = this.#open()) {
      if (name !== 'Prefix') this.#skip(name, 0)
      else if (prefix !== undefined) notPlain()
      else prefix = this.#text(name)
    }
    this.#close('CommonPrefixes')
    return prefix
  }

  /** Name of the element that begins here, which is gone into; undefined: what ends here is the one around. */
  #open(): string | undefined {
    this.#space()
    const xml = this.#xml
    if (xml.charCodeAt(this.#at) !== LESS) notPlain()
    if (xml.charCodeAt(this.#at + 1) === SLASH) return undefined
    const end = xml.indexOf('>', this.#at)
    if (end < 0) notPlain()
    const tag = xml.slice(this.#at + 1, end)
    this.#at = end + 1
    // Almost all are of this form.
    if (NAME.test(tag)) return tag
    return this.#openWith(tag, end)
  }

  /** With attributes, or empty: then what follows is made to look like its end. */
  #openWith(tag: string, end: number): string {
    const isEmpty = tag.endsWith('/')
    const [, name = notPlain(), attributes = ''] = TAG.exec(isEmpty ? tag.slice(0, -1) : tag) ?? []
    if (!ATTRIBUTES.test(attributes)) notPlain()
    if (isEmpty) {
      this.#empty = name
      this.#at = end + 1
    }
    return name
  }

  /** An element `<Name/>` that was gone into and not left. */
  #empty: string | undefined

  #close(name: string): void {
    if (this.#isEmpty(name)) return
    const xml = this.#xml
    const end = this.#at + name.length + 2
    if (!xml.startsWith(name, this.#at + 2) || xml.charCodeAt(this.#at) !== LESS) notPlain()
    if (xml.charCodeAt(this.#at + 1) !== SLASH || xml.charCodeAt(end) !== GREATER) notPlain()
    this.#at = end + 1
  }

  #isEmpty(name: string): boolean {
    if (this.#empty === undefined) return false
    if (this.#empty !== name) notPlain()
    this.#empty = undefined
    return true
  }

  #text(name: string): string {
    if (this.#isEmpty(name)) return ''
    const end = this.#xml.indexOf('<', this.#at)
    if (end < 0) notPlain()
    const text = this.#xml.slice(this.#at, end)
    this.#at = end
    this.#close(name)
    return decoded(text)
  }

  /** Of an element that was gone into: all up to its end. */
  #skip(name: string, depth: number): void {
    if (depth > DEPTH_MAX) notPlain()
    if (this.#isEmpty(name)) return
    const end = this.#xml.indexOf('<', this.#at)
    if (end < 0) notPlain()
    if (this.#xml.slice(this.#at, end).trim() === '') {
      for (let child = this.#open(); child !== undefined; child = this.#open()) this.#skip(child, depth + 1)
    } else this.#at = end
    this.#close(name)
  }

  #space(): void {
    if (this.#empty !== undefined) notPlain()
    for (;;) {
      const code = this.#xml.charCodeAt(this.#at)
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return
      this.#at++
    }
  }
}

function objectOf({ texts: [Key, modified, ETag, length, StorageClass] }: PlainObject): ListedObject {
  const object: ListedObject = {}
  if (Key !== undefined) object.Key = decoded(Key)
  if (modified !== undefined) object.modifiedMs = time(decoded(modified))
  if (ETag !== undefined) object.ETag = decoded(ETag)
  if (length !== undefined) object.Size = size(decoded(length))
  if (StorageClass !== undefined) object.StorageClass = decoded(StorageClass)
  return object
}

function decoded(text: string): string {
  return text.includes('&') ? withoutEntities(text) : text
}

function withoutEntities(text: string): string {
  // As an ETag is written by almost all.
  if (text.startsWith(QUOTE) && text.endsWith(QUOTE) && text.length >= QUOTE.length * 2) {
    const inside = text.slice(QUOTE.length, -QUOTE.length)
    if (!inside.includes('&')) return `"${inside}"`
  }
  let isPlain = true
  const decoded = text.replace(ENTITY, (_, named?: string, decimal?: string, hex?: string) => {
    if (named !== undefined) return NAMED_ENTITIES[named] ?? ''
    const code = decimal === undefined ? Number.parseInt(hex ?? '', 16) : Number(decimal)
    isPlain &&= code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff)
    return isPlain ? String.fromCodePoint(code) : ''
  })
  // Each ampersand was the beginning of an entity.
  return isPlain && !text.replace(ENTITY, '').includes('&') ? decoded : notPlain()
}

function size(text: string): number {
  return SIZE.test(text) ? Number(text) : notPlain()
}

function time(text: string): number {
  const ms = TIME.test(text) ? timeMs(text) : Number.NaN
  return Number.isNaN(ms) ? notPlain() : ms
}
