import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { S3Error } from '../../../../src/gateway/s3/errors.ts'
import { decodePath, parseCopySource, parseQuery, parseTarget } from '../../../../src/gateway/s3/target.ts'

const OPTIONS = { domains: ['s3.example.org'], keyBytesMax: 1024 }

function parse(raw: string, host = 'localhost:9000'): { level: string; bucket: string; key: string } {
  const { level, bucket, key } = parseTarget(raw, host, OPTIONS)
  return { level, bucket, key }
}

function codeOf(run: () => unknown): string | undefined {
  try {
    run()
    return undefined
  } catch (error) {
    return error instanceof S3Error ? error.code : String(error)
  }
}

describe('parseTarget', () => {
  it('tells service, bucket and object apart', () => {
    expect(parse('/')).toEqual({ level: 'service', bucket: '', key: '' })
    expect(parse('/b')).toEqual({ level: 'bucket', bucket: 'b', key: '' })
    expect(parse('/b/')).toEqual({ level: 'bucket', bucket: 'b', key: '' })
    expect(parse('/b/k?x=1')).toEqual({ level: 'object', bucket: 'b', key: 'k' })
  })

  it('never normalises a key (lesson 5.1.2, lesson 5.2.11)', () => {
    expect(parse('/b//x').key).toBe('/x')
    expect(parse('/b/a//b/').key).toBe('a//b/')
    expect(parse('/b/../other/k')).toEqual({ level: 'object', bucket: 'b', key: '../other/k' })
    expect(parse('/b/%2e%2e/k').key).toBe('../k')
    expect(parse('/b/.').key).toBe('.')
    expect(parse('/b/a\\b').key).toBe('a\\b')
  })

  it('decodes escapes, keeps plus and NUL, and takes raw bytes as UTF-8 (lesson 5.1.11)', () => {
    expect(parse('/b/a%20b+c%2Bd').key).toBe('a b+c+d')
    expect(parse('/b/%C3%A9').key).toBe('é')
    expect(parse('/b/\u00c3\u00a9').key).toBe('é')
    expect(parse('/b/a%00b').key).toBe('a\0b')
  })

  it.each(['/b/%', '/b/%g1', '/b/%C3', '/b/%ED%A0%80', '/b/\u00e9', '/b/k?x=%zz', '*', 'b/k'])(
    'refuses %j with InvalidURI (lesson 5.1.11)',
    (raw) => expect(codeOf(() => parse(raw))).toBe('InvalidURI'),
  )

  it('counts the bytes of a key, not its characters', () => {
    expect(parse(`/b/${'é'.repeat(0)}${'a'.repeat(1024)}`).key).toHaveLength(1024)
    expect(codeOf(() => parse(`/b/${'a'.repeat(1025)}`))).toBe('KeyTooLongError')
    expect(parse(`/b/${'%C3%A9'.repeat(512)}`).key).toHaveLength(512)
    expect(codeOf(() => parse(`/b/${'%C3%A9'.repeat(513)}`))).toBe('KeyTooLongError')
  })

  it('reads the bucket from the host under a configured domain only', () => {
    expect(parse('/k', 'bkt.s3.example.org')).toEqual({ level: 'object', bucket: 'bkt', key: 'k' })
    expect(parse('/', 'bkt.S3.Example.org:9000')).toEqual({ level: 'bucket', bucket: 'bkt', key: '' })
    expect(parse('//x', 'a.b.s3.example.org')).toEqual({ level: 'object', bucket: 'a.b', key: '/x' })
    expect(parse('/b/k', 's3.example.org')).toEqual({ level: 'object', bucket: 'b', key: 'k' })
    expect(parse('/b/k', 'bkt.other.org')).toEqual({ level: 'object', bucket: 'b', key: 'k' })
    expect(parse('/b/k', 'evils3.example.org')).toEqual({ level: 'object', bucket: 'b', key: 'k' })
  })

  it('accepts the absolute form and refuses a key without a bucket', () => {
    expect(parse('http://proxy:80/b/k?y')).toEqual({ level: 'object', bucket: 'b', key: 'k' })
    expect(codeOf(() => parse('//k'))).toBe('InvalidBucketName')
  })

  it('gives every key back that a client encodes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }), (key) => {
        fc.pre(key.isWellFormed())
        expect(parse(`/b/${encodeURIComponent(key)}`).key).toBe(key)
        expect(decodePath(key.split('/').map(encodeURIComponent).join('/'))).toBe(key)
      }),
    )
  })

  it('throws nothing but S3 errors, whatever comes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string(), (raw, host) => {
        try {
          parseTarget(`/${raw}`, host, OPTIONS)
        } catch (error) {
          expect(error).toBeInstanceOf(S3Error)
        }
      }),
    )
  })
})

describe('parseQuery', () => {
  it('takes the first of repeated names, and a plus for a space', () => {
    expect([...parseQuery('a=1&a=2&b&&c=x+y%2B')]).toEqual([
      ['a', '1'],
      ['b', ''],
      ['c', 'x y+'],
    ])
  })
})

describe('parseCopySource', () => {
  it('uses the same rules as the path (lesson 5.2.12)', () => {
    expect(parseCopySource('/b/a%20b/../c', 1024)).toEqual({ bucket: 'b', key: 'a b/../c', versionId: undefined })
    expect(parseCopySource('b/k+1?versionId=v1', 1024)).toEqual({ bucket: 'b', key: 'k+1', versionId: 'v1' })
    expect(parseCopySource('b/%3FversionId=x', 1024)).toEqual({
      bucket: 'b',
      key: '?versionId=x',
      versionId: undefined,
    })
  })

  it.each(['', '/', 'b', 'b/', '/b/', '/b', 'b/%', 'b/k?versionId='])('refuses %j', (raw) =>
    expect(codeOf(() => parseCopySource(raw, 1024))).toBe('InvalidArgument'),
  )
})
