import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { S3Error } from '../../../../src/gateway/s3/errors.ts'
import { document, element, encodeUrl, escapeXml } from '../../../../src/gateway/s3/xml/escape.ts'
import { child, childText, parseXml } from '../../../../src/gateway/s3/xml/parse.ts'

function refused(source: string): boolean {
  try {
    parseXml(source)
    return false
  } catch (error) {
    return error instanceof S3Error && error.code === 'MalformedXML'
  }
}

describe('parseXml', () => {
  it('reads elements, text, attributes, CDATA, comments and prefixes', () => {
    const root = parseXml(
      '\uFEFF<?xml version="1.0" encoding="UTF-8"?>\n<!-- c --><s3:Delete xmlns:s3="x" a=\'b\'><Object ><Key>a&amp;b&#65;&#x1F600;<![CDATA[<&]]></Key></Object ><Empty/></s3:Delete>\n',
    )
    expect(root.name).toBe('Delete')
    const object = child(root, 'Object')
    expect(object && childText(object, 'Key')).toBe('a&bA\u{1F600}<&')
    expect(childText(root, 'Empty')).toBe('')
  })

  it.each([
    ['a DOCTYPE', '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'],
    ['a DOCTYPE inside', '<a><!DOCTYPE b></a>'],
    ['an entity of its own', '<a>&x;</a>'],
    ['an entity of a prototype', '<a>&constructor;</a>'],
    ['an unfinished reference', '<a>a & b</a>'],
    ['a NUL', '<a>&#0;</a>'],
    ['a surrogate', '<a>&#xD800;</a>'],
    ['too large a character', '<a>&#x110000;</a>'],
    ['a processing instruction', '<a><?php ?></a>'],
    ['two roots', '<a/><b/>'],
    ['text outside', 'x<a/>'],
    ['nothing', ''],
    ['only white space', ' \n'],
    ['an open element', '<a><b></b>'],
    ['a crossed element', '<a><b></a></b>'],
    ['a stray end', '</a>'],
    ['a bare attribute', '<a b></a>'],
    ['an unfinished tag', '<a'],
    ['a number for a name', '<1/>'],
  ])('refuses %s (lesson 5.1.12)', (_what, source) => expect(refused(source)).toBe(true))

  it('bounds depth and number of elements (lesson 5.1.12)', () => {
    expect(refused('<a>'.repeat(12) + '</a>'.repeat(12))).toBe(false)
    expect(refused('<a>'.repeat(13) + '</a>'.repeat(13))).toBe(true)
    expect(() => parseXml(`<a>${'<b/>'.repeat(10)}</a>`, { depthMax: 3, elementsMax: 10 })).toThrow(S3Error)
  })

  it('gives back any text that was escaped', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        fc.pre(text.isWellFormed() && !/[\0\ufffe\uffff]/.test(text))
        expect(parseXml(document('Root', element('Key', text))).children[0]?.text).toBe(text)
      }),
    )
  })

  it('throws nothing but MalformedXML, whatever comes', () => {
    const piece = fc.constantFrom('<', '>', '/', '&', ';', 'a', '"', '=', ' ', '<!--', '-->', '<![CDATA[', ']]>', '#x4')
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        try {
          parseXml(pieces.join(''))
        } catch (error) {
          expect(error).toBeInstanceOf(S3Error)
        }
      }),
    )
  })

  it('takes time in proportion to the input', () => {
    const hostile = [
      '<a '.repeat(50_000),
      `<a${' b="c"'.repeat(50_000)}`,
      '&'.repeat(200_000),
      `<a>${'&#x41;'.repeat(50_000)}`,
    ]
    for (const source of hostile) expect(refused(source)).toBe(true)
  }, 2000)
})

describe('output', () => {
  it('escapes what XML and attribute values would read otherwise', () => {
    expect(escapeXml('<a&"\'>\n\u0001')).toBe('&lt;a&amp;&quot;&#39;&gt;&#xA;&#x1;')
    expect(element('E', undefined)).toBe('')
    expect(element('E', false)).toBe('<E>false</E>')
  })

  it('percent-encodes for encoding-type=url with %20 and literal slashes', () => {
    expect(encodeUrl("a b+c/d!é'\u0001")).toBe('a%20b%2Bc/d%21%C3%A9%27%01')
  })
})
