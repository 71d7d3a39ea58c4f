/**
 * XML output. Text is built by plain concatenation: a listing of 1,000 keys is one pass of string appends.
 *
 * Control characters: tab, line feed and carriage return become character references, so that a parser's white-space
 * rules do not touch them. The others have no form in XML 1.0; they are written as references too, as AWS does, and
 * clients that have such keys ask for encoding-type=url (every AWS SDK does so by itself).
 */

// oxlint-disable-next-line no-control-regex -- control characters are what must be found
const SPECIAL = /[&<>"'\u0000-\u001f\u007f\ufffe\uffff]/
// oxlint-disable-next-line no-control-regex -- as above
const SPECIAL_ALL = /[&<>"'\u0000-\u001f\u007f\ufffe\uffff]/g

const NAMED: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

export function escapeXml(text: string): string {
  return SPECIAL.test(text) ? text.replace(SPECIAL_ALL, reference) : text
}

function reference(character: string): string {
  return NAMED[character] ?? `&#x${character.charCodeAt(0).toString(16).toUpperCase()};`
}

export const XML_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
export const S3_NAMESPACE = 'http://s3.amazonaws.com/doc/2006-03-01/'

/** One element with text, or nothing when there is no value. */
export function element(name: string, value: string | number | boolean | undefined): string {
  if (value === undefined) return ''
  return `<${name}>${typeof value === 'string' ? escapeXml(value) : value}</${name}>`
}

/** A whole document in S3's namespace. `content` is XML already. */
export function document(root: string, content: string): string {
  return `${XML_DECLARATION}<${root} xmlns="${S3_NAMESPACE}">${content}</${root}>`
}

/**
 * encoding-type=url: everything but unreserved characters and the slash, percent-encoded. A space is `%20`, never `+`,
 * because botocore decodes with a rule that would also accept `+`, while others decode strictly.
 */
export function encodeUrl(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]|%2F/g, (match) =>
    match === '%2F' ? '/' : `%${match.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}
