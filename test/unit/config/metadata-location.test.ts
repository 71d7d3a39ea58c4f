import { describe, expect, it } from 'vitest'
import { parseMetadata } from '../../../src/config/metadata-location.ts'

describe('where shared metadata lie', () => {
  it.each([
    ['etcd://127.0.0.1:2379', { endpoints: ['http://127.0.0.1:2379'], tls: false, prefix: '/tidegate/' }],
    [
      'etcds://a.example:2379,[::1]:2380/team/one/',
      { endpoints: ['https://a.example:2379', 'https://[::1]:2380'], tls: true, prefix: '/team/one/' },
    ],
    ['etcd://a:1/', { endpoints: ['http://a:1'], tls: false, prefix: '/tidegate/' }],
  ])('is read from %s', (text, expected) => {
    expect(parseMetadata(text)).toEqual(expected)
  })

  it.each([
    ['http://a:2379', 'etcd://HOST:PORT'],
    ['etcd://', 'etcd://HOST:PORT'],
    ['etcd://a', '"a" is not HOST:PORT'],
    ['etcd://a:1,', '"" is not HOST:PORT'],
    ['etcd://a:70000', '"a:70000" is not HOST:PORT'],
    ['etcd://a:1/x//y', 'single slashes'],
    ['etcd://a:1?user=x', 'etcd://HOST:PORT'],
    ['etcd://root:secret@a:1', '--meta-password-file'],
  ])('is refused as %s', (text, message) => {
    expect(() => parseMetadata(text)).toThrow(message)
  })
})
