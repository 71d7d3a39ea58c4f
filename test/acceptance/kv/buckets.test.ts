/** `/kv/v1` and `/kv/v1/{bucket}`: listing, making and removing buckets. */
// needs: curl
import { expect, it } from 'vitest'
import { problemOf, useKv } from '../../support/kv-suite.ts'

const suite = useKv(['--buckets', 'first'])
const { curl } = suite

interface Listed {
  readonly buckets: readonly {
    readonly name: string
    readonly created: string
    readonly versioning: string
    readonly ack: string
  }[]
}

async function listed(): Promise<Listed['buckets']> {
  const answer = await curl('')
  expect([answer.status, answer.headers['content-type']]).toEqual([200, expect.stringMatching(/^application\/json/)])
  return (JSON.parse(answer.text) as Listed).buckets
}

it('are listed, made and removed', async () => {
  const [first] = await listed()
  expect(first).toMatchObject({ name: 'first', versioning: 'off', ack: 'journal' })
  expect(new Date(first?.created ?? '').toISOString()).toBe(first?.created)
  expect((await curl('/second', ['-X', 'PUT'])).status).toBe(201)
  expect((await listed()).map(({ name }) => name)).toEqual(['first', 'second'])
  expect((await curl('/second', ['--head'])).status).toBe(200)
  expect(problemOf(await curl('/second', ['-X', 'PUT']))).toMatch(/^409 BucketAlready(?:OwnedByYou|Exists)$/)

  const kv = suite.client('second')
  await kv.put('k', 'x')
  expect(problemOf(await curl('/second', ['-X', 'DELETE']))).toBe('409 BucketNotEmpty')
  await kv.delete('k')
  expect((await curl('/second', ['-X', 'DELETE'])).status).toBe(204)
  expect((await listed()).map(({ name }) => name)).toEqual(['first'])
})

it('that are not there say so, whatever is asked of them', async () => {
  expect((await curl('/nothing', ['--head'])).headers['x-tidegate-error']).toBe('NoSuchBucket')
  expect(problemOf(await curl('/nothing', ['-X', 'DELETE']))).toBe('404 NoSuchBucket')
  expect(problemOf(await curl('/nothing'))).toBe('404 NoSuchBucket')
  expect(problemOf(await curl('/nothing?watch=true&wait=0'))).toBe('404 NoSuchBucket')
  expect(problemOf(await curl('/nothing/key'))).toBe('404 NoSuchBucket')
  expect(problemOf(await curl('/nothing/key', ['-X', 'PUT', '--data-binary', 'x']))).toBe('404 NoSuchBucket')
  expect(problemOf(await curl('/nothing/key', ['-X', 'DELETE']))).toBe('404 NoSuchBucket')
  const nothing = suite.client('nothing')
  await expect(nothing.get('key')).rejects.toMatchObject({ code: 'NoSuchBucket' })
  expect(await nothing.batch([{ op: 'get', key: 'k' }])).toMatchObject([{ status: 404, code: 'NoSuchBucket' }])
  await expect(nothing.transaction({})).rejects.toMatchObject({ code: 'NoSuchBucket' })
  await expect(nothing.increment('n')).rejects.toMatchObject({ code: 'NoSuchBucket' })
  await expect(nothing.exists(['k'])).rejects.toMatchObject({ code: 'NoSuchBucket' })
  await expect(nothing.match(['k'])).rejects.toMatchObject({ code: 'NoSuchBucket' })
})

it('have names as S3 wants them', async () => {
  for (const name of ['ab', 'Upper', 'under_score', '-dash', 'a..b', '192.168.0.1', 'x'.repeat(64)]) {
    expect(problemOf(await curl(`/${name}`, ['-X', 'PUT'])), name).toBe('400 InvalidBucketName')
  }
})
