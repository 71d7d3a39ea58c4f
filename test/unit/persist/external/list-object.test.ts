import { describe, expect, it } from 'vitest'
import { readPlainObject, timeMs } from '../../../../src/persist/external/list-object.ts'
import { readListPage } from '../../../../src/persist/external/list-page.ts'

const TIME = '2026-03-01T10:20:30.456Z'
const FIELDS = [
  '<Key>a</Key>',
  `<LastModified>${TIME}</LastModified>`,
  '<ETag>&quot;0cc1&quot;</ETag>',
  '<ChecksumAlgorithm>CRC32</ChecksumAlgorithm>',
  '<ChecksumAlgorithm>SHA256</ChecksumAlgorithm>',
  '<Size>12</Size>',
  '<StorageClass>STANDARD</StorageClass>',
]
const READ = { Key: 'a', Size: 12, ETag: '"0cc1"', modifiedMs: Date.parse(TIME), StorageClass: 'STANDARD' }

function page(object: string): string {
  return `<ListBucketResult><IsTruncated>false</IsTruncated>${object}</ListBucketResult>`
}

describe('an object of a listing', () => {
  it.each([
    ['as S3 writes it', FIELDS],
    ['in the order of the alphabet', FIELDS.toSorted()],
    ['the other way round', FIELDS.toReversed()],
  ])('is read: %s', (_, fields) => {
    const object = `<Contents>${fields.join('')}</Contents>`
    expect(readPlainObject(object, '<Contents>'.length)?.end).toBe(object.length)
    expect(readListPage(page(object))?.objects).toEqual([READ])
  })

  it.each([
    ['blanks', FIELDS.join('\n  ')],
    ['an owner', `${FIELDS.join('')}<Owner><ID>x</ID></Owner>`],
    ['an attribute', FIELDS.join('').replace('<Key>', '<Key a="b">')],
    ['an empty element', `${FIELDS.join('')}<DisplayName/>`],
  ])('is read element by element where it is not plain: %s', (_, fields) => {
    expect(readPlainObject(`<Contents>${fields}</Contents>`, '<Contents>'.length)).toBeUndefined()
    expect(readListPage(page(`<Contents>${fields}</Contents>`))?.objects).toEqual([READ])
  })

  it.each([
    ['a field twice', `${FIELDS.join('')}<Size>13</Size>`],
    ['the end of another field', FIELDS.join('').replace('</Size>', '</Key>')],
    ['no end', FIELDS.join('').replace('</StorageClass>', '')],
  ])('is nobody\u2019s to guess at: %s', (_, fields) => {
    expect(readPlainObject(`<Contents>${fields}</Contents>`, '<Contents>'.length)).toBeUndefined()
    expect(readListPage(page(`<Contents>${fields}</Contents>`))).toBeUndefined()
  })
})

describe('a time', () => {
  it('is what the language says of it', () => {
    let ms = Date.parse('1999-12-31T23:59:58.997Z')
    for (let count = 0; count < 2000; count++, ms += 1 + count * 7919 * 31) {
      const text = new Date(ms).toISOString()
      expect(timeMs(text)).toBe(Date.parse(text))
      expect(timeMs(text.replace(/\.\d+/, ''))).toBe(Math.floor(ms / 1000) * 1000)
      expect(timeMs(text.replace(/\d\dZ$/, 'Z'))).toBe(Math.floor(ms / 100) * 100)
    }
  })

  it.each(['2026-03-01T24:00:00Z', '2026-03-01T23:59:60Z', '2026-13-01T00:00:00Z', '2026-03-32T10:00:00.1Z'])(
    'also one that hardly is: %s',
    (text) => expect(timeMs(text)).toBe(Date.parse(text)),
  )
})
