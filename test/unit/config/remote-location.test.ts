import { describe, expect, it } from 'vitest'
import { parseAttachmentUrl } from '../../../src/config/remote-location.ts'

describe('where an attached bucket is', () => {
  it.each([
    ['s3://their-bucket', { bucket: 'their-bucket', prefix: '', region: 'us-east-1', style: 'host' }],
    [
      's3://their-bucket/Some%20files/ü/?endpoint=http://127.0.0.1:9000&region=eu-1&profile=team@a',
      {
        bucket: 'their-bucket',
        prefix: 'Some files/ü',
        endpoint: 'http://127.0.0.1:9000',
        region: 'eu-1',
        style: 'path',
        profile: 'team@a',
      },
    ],
    [
      's3://b-1?endpoint=https%3A%2F%2Fs3.example.com&style=host',
      { endpoint: 'https://s3.example.com', style: 'host' },
    ],
  ])('is read from %s', (text, expected) => {
    expect(parseAttachmentUrl(text)).toMatchObject(expected)
  })

  it.each([
    ['file:///srv/data', 's3://BUCKET'],
    ['s3:///prefix', 's3://BUCKET'],
    ['s3://bucket//double', 'single slashes'],
    ['s3://bucket/a/../b', 'single slashes'],
    [`s3://bucket/${'p'.repeat(513)}`, 'at most 512 bytes'],
    ['s3://bucket?profile=a%20b', 'profile'],
    ['s3://bucket?profile=', 'profile'],
    ['s3://key:secret@bucket', 'without a user name'],
    ['s3://bucket?secret=hunter2', 'profile, and not secret'],
  ])('is not read from %s', (text, reason) => {
    expect(() => parseAttachmentUrl(text)).toThrow(reason)
    expect(() => parseAttachmentUrl(text)).not.toThrow(/hunter2/)
  })
})
