/** Keys arrive as they are: nothing in a path is normalised, and it is decoded once. */
// needs: curl
import { GetObjectCommand } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { problemOf, useKv } from '../../support/kv-suite.ts'
import { sdkClient } from '../../support/sdk-client.ts'
import type { S3Client } from '@aws-sdk/client-s3'

const suite = useKv(['--buckets', 'kvs'])
const { curl } = suite
let s3: S3Client
beforeAll(() => {
  s3 = sdkClient(suite.gateway)
})
afterAll(() => s3.destroy())

/** What stands in the path, and the key that it is. */
const ODD: readonly (readonly [path: string, key: string])[] = [
  ['a//b', 'a//b'],
  ['/', '/'],
  ['//', '//'],
  ['/a', '/a'],
  ['..', '..'],
  ['.', '.'],
  ['../x', '../x'],
  ['../other/x', '../other/x'],
  ['a/../b', 'a/../b'],
  ['a/./b', 'a/./b'],
  ['%2e%2e/y', '../y'],
  ['folder/', 'folder/'],
  ['folder', 'folder'],
  ['nul%00nul', 'nul\0nul'],
  ['%2F', '/'],
  ['a%2Fb', 'a/b'],
  ['%252F', '%2F'],
  ['per%25cent', 'per%cent'],
  ['%C3%BCmlaut', 'ümlaut'],
  ['%E6%97%A5%E6%9C%AC', '日本'],
  ['%F0%9F%91%8B', '👋'],
  ['e%CC%81', 'e\u0301'],
  ['%C3%A9', 'é'],
  ['question%3Fmark', 'question?mark'],
  ['hash%23', 'hash#'],
  ['plus+plus', 'plus+plus'],
  ['plus%2Bplus', 'plus+plus'],
  ['space%20space', 'space space'],
  ['a;b,c=d&e@f:g', 'a;b,c=d&e@f:g'],
  ['colon:batch', 'colon:batch'],
  ['%EF%BF%BD', '\uFFFD'],
  ['line%0Abreak', 'line\nbreak'],
  ['back%5Cslash', 'back\\slash'],
  ['__proto__', '__proto__'],
  ['x'.repeat(1_024), 'x'.repeat(1_024)],
  ['%C3%BC'.repeat(512), 'ü'.repeat(512)],
]

it.each(ODD)('%s', async (path, key) => {
  const kv = suite.client('kvs')
  const value = `value of ${JSON.stringify(key)}`
  const put = await curl(`/kvs/${path}`, ['-X', 'PUT', '--data-binary', '@-'], { stdin: value })
  expect([put.status, put.text]).toEqual([200, ''])
  expect((await curl(`/kvs/${path}`)).text).toBe(value)
  expect((await kv.get(key))?.text()).toBe(value)
  const page = await kv.scanPage({ prefix: key, limit: 1 })
  expect(page.entries.map((entry) => entry.key)).toEqual([key])
  // The SDK's own URL handling resolves dots; what it can name, it finds under the same name.
  if (!/(?:^|\/)\.\.?(?:\/|$)/.test(key)) {
    const object = await s3.send(new GetObjectCommand({ Bucket: 'kvs', Key: key }))
    expect(await object.Body?.transformToString()).toBe(value)
  }
  await kv.put(key, 'by the client')
  expect((await curl(`/kvs/${path}`)).text).toBe('by the client')
  expect((await kv.delete(key)).existed).toBe(true)
  expect(problemOf(await curl(`/kvs/${path}`))).toBe('404 NoSuchKey')
})

it.each([
  ['x'.repeat(1_025), '400 KeyTooLong'],
  ['%C3%BC'.repeat(513), '400 KeyTooLong'],
  ['%FF', '400 InvalidKey'],
  ['%ED%A0%80', '400 InvalidKey'],
  ['%zz', '400 InvalidKey'],
  ['%', '400 InvalidKey'],
  ['a%0', '400 InvalidKey'],
])('refuses %s', async (path, refusal) => {
  for (const method of ['PUT', 'GET', 'DELETE']) {
    const body = method === 'PUT' ? ['--data-binary', 'x'] : []
    const answer = await curl(`/kvs/${path}`, ['-X', method, ...body])
    // A path that is not percent-encoded UTF-8 names no key, whichever way that is said.
    expect(
      problemOf(answer).replace('InvalidArgument', 'InvalidKey').replace('InvalidRequest', 'InvalidKey'),
      method,
    ).toBe(refusal)
  }
})

it('never takes an empty key for a value', async () => {
  expect((await curl('/kvs/', ['-X', 'PUT', '--data-binary', 'x'])).status).toBe(400)
  expect((await curl('/kvs/', ['-X', 'DELETE'])).status).toBe(400)
  expect((await curl('/kvs', ['--head'])).status).toBe(200)
})
