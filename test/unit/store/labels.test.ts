import { expect, test } from 'vitest'
import { decodeLabel, encodeLabel, type BodyLabel } from '../../../src/store/labels.ts'

const PLAIN = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }

test('a label says what was known, and is as short as that', () => {
  const etag = 'd'.repeat(32)
  const attributes = { ...PLAIN, headers: { contentType: 'text/plain' } }
  const text = encodeLabel({ bucket: 'photos', key: 'a/b.txt', etag, modifiedMs: 1_790_000_000_000, attributes })
  expect(text).toBe(`{"b":"photos","k":"a/b.txt","e":"${etag}","m":1790000000000,"t":"text/plain"}`)
  expect(encodeLabel({ bucket: 'b', key: 'k' })).toBe('{"b":"b","k":"k"}')
})

test('what is written is read back', () => {
  const label: BodyLabel = {
    bucket: 'b-1',
    key: 'ä"\\\n',
    etag: 'e'.repeat(32),
    modifiedMs: 5,
    attributes: {
      headers: { contentType: 'a/b', contentLanguage: 'de', expires: 'never' },
      userMetadata: { __proto__x: '1', Ü: '2' },
      tags: { t: '' },
      storageClass: 'GLACIER',
      websiteRedirect: '/',
    },
    expiresMs: 7,
    part: { uploadId: 'f'.repeat(32), partNumber: 10_000 },
    file: { inode: 9, offset: 0 },
  }
  expect(decodeLabel(encodeLabel(label))).toEqual(label)
})

test('labels from before, and of others, are read as far as they go', () => {
  expect(decodeLabel('{"b":"x","k":"y"}')).toMatchObject({ bucket: 'x', key: 'y', etag: undefined, attributes: PLAIN })
  expect(decodeLabel('{"b":"x","k":"y","m":-1,"x":1e16,"d":{"a":1},"z":[]}')).toMatchObject({
    modifiedMs: undefined,
    expiresMs: undefined,
    part: undefined,
  })
  for (const text of ['', '{}', '[]', 'null', '"b"', '{"b":1,"k":"y"}']) expect(decodeLabel(text)).toBeUndefined()
})

test('a label is bounded: what is too much of attributes is left out', () => {
  const attributes = { ...PLAIN, userMetadata: { a: 'x'.repeat(20_000) }, storageClass: 'GLACIER' }
  const text = encodeLabel({ bucket: 'b', key: 'k', attributes })
  expect(text).toBe('{"b":"b","k":"k","s":"GLACIER"}')
})

const ID = 'f'.repeat(32)

test.each([
  `"u":5,"p":1`,
  `"u":"../x","p":1`,
  `"u":"${ID}"`,
  `"u":"${ID}","p":0`,
  `"u":"${ID}","p":10001`,
  `"u":"${ID}","p":1.5`,
  `"f":-1,"o":0`,
  `"f":0.5,"o":0`,
  `"f":7`,
  `"f":7,"o":-1`,
  `"f":7,"o":1e300`,
])('a part or a file that is none of ours is no label, and so does not become an object: %s', (fields) => {
  expect(decodeLabel(`{"b":"x","k":"y",${fields}}`)).toBeUndefined()
})
