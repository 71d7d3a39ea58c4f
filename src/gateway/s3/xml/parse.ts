/**
 * A parser for the XML that S3 clients send, and for nothing more (SECURITY-LESSONS 5.1.12).
 *
 * It reads elements and text into a small tree. Attributes are checked for form and dropped (clients send only xmlns,
 * and xsi:type where grants are set), namespace prefixes are cut off, comments and the XML declaration are skipped, CDATA is text.
 *
 * Refused with MalformedXML: DOCTYPE and every other `<!` declaration, processing instructions after the first byte,
 * entities other than the five of XML and numeric ones, references to characters that XML does not have, elements
 * nested deeper than `depthMax`, more elements than `elementsMax`, text outside the root, anything unclosed. There is no
 * entity table to extend and no external resource to fetch, so there is nothing that expands: the tree is never larger
 * than the input, whose size the caller has bounded.
 */
import { S3Error } from '../errors.ts'

export interface XmlElement {
  readonly name: string
  readonly children: readonly XmlElement[]
  /** Text directly inside, joined; of an element that has children it is white space, and ignored. */
  readonly text: string
}

export interface XmlBounds {
  readonly depthMax: number
  readonly elementsMax: number
}

/** 10,000 parts of 12 elements at most, or 1,000 keys of 6. */
export const XML_BOUNDS: XmlBounds = { depthMax: 12, elementsMax: 130_000 }

interface OpenElement {
  name: string
  children: XmlElement[]
  text: string
}

const NAME = /[A-Za-z_][\w.-]*(?::[A-Za-z_][\w.-]*)?/y
const ATTRIBUTE = /\s+[A-Za-z_:][\w.:-]*\s*=\s*(?:"[^"<]*"|'[^'<]*')/y
const TAG_END = /\s*(\/?)>/y
const CLOSE = /<\/([A-Za-z_][\w.:-]*)\s*>/y
const DECLARATION = /^\uFEFF?<\?xml\s[^?<>]*\?>/
const REFERENCE = /&([^;&]{0,12});?/g
const BLANK = /^\s*$/

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

/** The root element. @throws S3Error MalformedXML */
export function parseXml(source: string, bounds: XmlBounds = XML_BOUNDS): XmlElement {
  return new Parser(source, bounds).document()
}

class Parser {
  readonly #source: string
  readonly #bounds: XmlBounds
  #position = 0
  #elements = 0

  constructor(source: string, bounds: XmlBounds) {
    this.#source = source
    this.#bounds = bounds
  }

  document(): XmlElement {
    const declaration = DECLARATION.exec(this.#source)
    if (declaration !== null) this.#position = declaration[0].length
    const top: OpenElement = { name: '', children: [], text: '' }
    const stack: OpenElement[] = [top]
    while (this.#position < this.#source.length) this.#step(stack)
    const root = top.children[0]
    if (stack.length !== 1 || root === undefined || top.children.length !== 1 || !BLANK.test(top.text))
      throw malformed()
    return root
  }

  #step(stack: OpenElement[]): void {
    const current = stack[stack.length - 1]
    if (current === undefined) throw malformed()
    const source = this.#source
    const at = this.#position
    if (source.charCodeAt(at) !== 60 /* < */) return this.#text(current)
    const next = source[at + 1]
    if (next === '/') return this.#close(stack)
    if (next === '!') return this.#commentOrCdata(current)
    if (next === '?') throw malformed('Processing instructions are not accepted.')
    this.#open(stack)
  }

  #text(current: OpenElement): void {
    const end = this.#source.indexOf('<', this.#position)
    const text = this.#source.slice(this.#position, end < 0 ? undefined : end)
    this.#position = end < 0 ? this.#source.length : end
    current.text += text.includes('&') ? text.replace(REFERENCE, decodeReference) : text
  }

  #commentOrCdata(current: OpenElement): void {
    const source = this.#source
    const cdata = source.startsWith('<![CDATA[', this.#position)
    if (!cdata && !source.startsWith('<!--', this.#position)) throw malformed('DOCTYPE is not accepted.')
    const start = this.#position + (cdata ? 9 : 4)
    const end = source.indexOf(cdata ? ']]>' : '-->', start)
    if (end < 0) throw malformed()
    if (cdata) current.text += source.slice(start, end)
    this.#position = end + 3
  }

  #open(stack: OpenElement[]): void {
    const name = this.#match(NAME, this.#position + 1)?.[0]
    if (name === undefined) throw malformed()
    while (this.#match(ATTRIBUTE, this.#position) !== undefined);
    const end = this.#match(TAG_END, this.#position)
    if (end === undefined) throw malformed()
    if (++this.#elements > this.#bounds.elementsMax || stack.length > this.#bounds.depthMax) throw malformed()
    const element: OpenElement = { name: localName(name), children: [], text: '' }
    const parent = stack[stack.length - 1]
    parent?.children.push(element)
    if (end[1] !== '/') stack.push(element)
  }

  #close(stack: OpenElement[]): void {
    const name = this.#match(CLOSE, this.#position)?.[1]
    const current = stack.pop()
    if (name === undefined || stack.length === 0 || current?.name !== localName(name)) throw malformed()
  }

  /** Matches at exactly `at`, and moves behind the match. */
  #match(pattern: RegExp, at: number): RegExpExecArray | undefined {
    pattern.lastIndex = at
    const match = pattern.exec(this.#source)
    if (match === null) return undefined
    this.#position = pattern.lastIndex
    return match
  }
}

function localName(name: string): string {
  const colon = name.indexOf(':')
  return colon < 0 ? name : name.slice(colon + 1)
}

function decodeReference(whole: string, name: string): string {
  if (!whole.endsWith(';')) throw malformed()
  const entity = Object.hasOwn(ENTITIES, name) ? ENTITIES[name] : undefined
  if (entity !== undefined) return entity
  const digits = /^#(?:x([0-9A-Fa-f]{1,6})|([0-9]{1,7}))$/.exec(name)
  if (digits === null) throw malformed('Entities other than the predefined ones are not accepted.')
  const code = digits[1] === undefined ? Number(digits[2]) : Number.parseInt(digits[1], 16)
  if (!isCharacter(code)) throw malformed()
  return String.fromCodePoint(code)
}

/**
 * XML 1.0 `Char`, widened by the C0 controls but NUL: a client that deletes a key holding one can only name it this way.
 */
function isCharacter(code: number): boolean {
  return code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) && code !== 0xfffe && code !== 0xffff
}

function malformed(message?: string): S3Error {
  return new S3Error('MalformedXML', message)
}

/** The only child of that name, or undefined. @throws MalformedXML when there are several */
export function child(parent: XmlElement, name: string): XmlElement | undefined {
  let found: XmlElement | undefined
  for (const candidate of parent.children) {
    if (candidate.name !== name) continue
    if (found !== undefined) throw malformed()
    found = candidate
  }
  return found
}

/** Text of the only child of that name, or undefined. */
export function childText(parent: XmlElement, name: string): string | undefined {
  return child(parent, name)?.text
}

export function childrenNamed(parent: XmlElement, name: string): XmlElement[] {
  return parent.children.filter((candidate) => candidate.name === name)
}

/** The root, asserted to have this name. @throws MalformedXML */
export function parseRoot(source: string, name: string): XmlElement {
  const root = parseXml(source)
  if (root.name !== name) throw malformed()
  return root
}
