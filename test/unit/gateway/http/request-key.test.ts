import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeComponent, excessBytes, originForm, queryPairs } from '../../../../src/gateway/http/request-key.ts'

describe('decodeComponent (lesson 5.1.11)', () => {
  it('normalises nothing, and decodes once', () => {
    expect(decodeComponent('a//b/../c/.')).toBe('a//b/../c/.')
    expect(decodeComponent('%2e%2e%2F')).toBe('../')
    expect(decodeComponent('%2525')).toBe('%25')
    expect(decodeComponent('a+b%00\\')).toBe('a+b\0\\')
    expect(decodeComponent('\u00c3\u00a9%C3%A9')).toBe('éé')
  })

  it.each(['%', '%g1', '%4', '%C3', '%ED%A0%80', '%C0%AF', '\u00e9'])('refuses %j', (raw) =>
    expect(decodeComponent(raw)).toBeUndefined(),
  )

  it('gives back what a client encodes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), (text) => {
        fc.pre(text.isWellFormed())
        expect(decodeComponent(encodeURIComponent(text))).toBe(text)
      }),
    )
  })
})

describe('excessBytes', () => {
  it('counts bytes, not characters', () => {
    expect(excessBytes('a'.repeat(1024), 1024)).toBeUndefined()
    expect(excessBytes('a'.repeat(1025), 1024)).toBe(1025)
    expect(excessBytes('é'.repeat(512), 1024)).toBeUndefined()
    expect(excessBytes('é'.repeat(513), 1024)).toBe(1026)
  })
})

describe('queryPairs', () => {
  it('keeps order, repetition and escapes, and takes a plus for a space', () =>
    expect([...queryPairs('a=1&&b&a=x+y%2B=')]).toEqual([
      ['a', '1'],
      ['b', ''],
      ['a', 'x y%2B='],
    ]))
})

describe('originForm', () => {
  it('drops the authority of the absolute form', () => {
    expect(originForm('/a?b')).toBe('/a?b')
    expect(originForm('http://host:1/a?b')).toBe('/a?b')
    expect(originForm('http://host?b')).toBe('/?b')
    expect(originForm('*')).toBeUndefined()
  })
})
