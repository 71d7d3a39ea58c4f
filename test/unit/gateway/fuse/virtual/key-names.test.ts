import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { utf8Bytes, type ByteString } from '../../../../../src/common/ids.ts'
import { keyOfName, nameOfKey } from '../../../../../src/gateway/fuse/virtual/key-names.ts'

it.each([
  ['plain', 'plain'],
  ['a/b', 'a%2Fb'],
  ['a//b', 'a%2F%2Fb'],
  ['a/', 'a%2F'],
  ['/', '%2F'],
  ['50%', '50%25'],
  ['%2F', '%252F'],
  ['nul\0', 'nul%00'],
  ['.', '%2E'],
  ['..', '%2E%2E'],
  ['...', '...'],
  ['a/..', 'a%2F..'],
  ['ü', 'Ã¼'],
])('calls the key %j %j', (key, name) => {
  expect(nameOfKey(utf8Bytes(key))).toBe(name)
  expect(keyOfName(name as ByteString)).toBe(utf8Bytes(key))
})

it.each(['', '.', '..', 'a%2fb', '%', '%zz', 'a%2E', '%2E%2E%2E', 'a/b', 'a\0', '\xff', 'x'.repeat(256)])(
  'knows no key by the name %j',
  (name) => {
    expect(keyOfName(name as ByteString)).toBeUndefined()
  },
)

it('has no name for what would be too long, and one for what just fits', () => {
  const key = (length: number): ByteString => '/'.repeat(length) as ByteString
  expect(nameOfKey(key(85))).toHaveLength(255)
  expect(nameOfKey(key(86))).toBeUndefined()
})

it('gives every key one name, and finds it again by that name only', () => {
  const part = fc.constantFrom('/', '%', '\0', '.', '2F', '25', '2E', '00', 'a', 'é', '😀')
  const key = fc.array(part, { minLength: 1, maxLength: 20 }).map((parts) => utf8Bytes(parts.join('')))
  fc.assert(
    fc.property(key, (made) => {
      const name = nameOfKey(made)
      if (name === undefined) return
      expect(name).not.toMatch(/[/\0]|^\.{1,2}$/)
      expect(keyOfName(name)).toBe(made)
    }),
  )
  const anyName = fc.array(part, { minLength: 1, maxLength: 20 }).map((parts) => utf8Bytes(parts.join('')))
  fc.assert(
    fc.property(anyName, (name) => {
      const found = keyOfName(name)
      if (found !== undefined) expect(nameOfKey(found)).toBe(name)
    }),
  )
})
