/** Compare-and-swap and create-only, by ETag and by revision; conditions of reads. */
// needs: curl
import { beforeAll, expect, it } from 'vitest'
import { isKvError, type KvClient } from '../../../src/client/kv-client.ts'
import { problemOf, useKv } from '../../support/kv-suite.ts'

const suite = useKv(['--buckets', 'kvs'])
const { curl } = suite
let kv: KvClient
beforeAll(() => {
  kv = suite.client('kvs')
})

function put(key: string, value: string, ...headers: string[]): ReturnType<typeof curl> {
  return curl(`/kvs/${key}`, ['-X', 'PUT', ...headers.flatMap((header) => ['-H', header]), '--data-binary', value])
}

it('swaps by ETag', async () => {
  const first = await put('etag', 'one')
  const swapped = await put('etag', 'two', `If-Match: ${first.headers['etag']}`)
  expect(swapped.status).toBe(200)
  expect(problemOf(await put('etag', 'three', `If-Match: ${first.headers['etag']}`))).toBe('412 PreconditionFailed')
  expect((await put('etag', 'three', `If-Match: "made-up", ${swapped.headers['etag']}`)).status).toBe(200)
  expect((await kv.get('etag'))?.text()).toBe('three')
})

it('swaps by revision, which tells values apart that are the same bytes', async () => {
  const first = await kv.put('revision', 'same')
  const second = await kv.put('revision', 'same')
  expect(second.etag).toBe(first.etag)
  await expect(kv.put('revision', 'x', { ifMatch: first.revision })).rejects.toMatchObject({
    code: 'PreconditionFailed',
  })
  const swapped = await put('revision', 'swapped', `If-Match: "r${second.revision}"`)
  expect(swapped.status).toBe(200)
  expect(Number(swapped.headers['x-tidegate-revision'])).toBeGreaterThan(second.revision)
  expect(problemOf(await put('revision', 'y', `If-Match: "r${second.revision}"`))).toBe('412 PreconditionFailed')
  expect((await put('revision', 'either', `If-Match: "x", "r${swapped.headers['x-tidegate-revision']}"`)).status).toBe(
    200,
  )
})

it('demands a value with If-Match, and none with If-None-Match: *', async () => {
  expect(problemOf(await put('absent', 'x', 'If-Match: "x"'))).toBe('412 PreconditionFailed')
  expect(problemOf(await put('absent', 'x', 'If-Match: "r1"'))).toBe('412 PreconditionFailed')
  expect(problemOf(await put('absent', 'x', 'If-Match: *'))).toBe('412 PreconditionFailed')
  expect(await kv.get('absent')).toBeUndefined()
  expect((await put('absent', 'made', 'If-None-Match: *')).status).toBe(200)
  expect(problemOf(await put('absent', 'again', 'If-None-Match: *'))).toBe('412 PreconditionFailed')
  expect((await put('absent', 'changed', 'If-Match: *')).status).toBe(200)
  await kv.delete('absent')
  expect((await kv.put('absent', 'anew', { ifNoneMatch: '*' })).revision).toBeGreaterThan(0)
})

it('deletes only what it was told of', async () => {
  const { revision, etag } = await kv.put('delete', 'x')
  await expect(kv.delete('delete', { ifMatch: revision - 1 })).rejects.toMatchObject({ status: 412 })
  expect(problemOf(await curl('/kvs/delete', ['-X', 'DELETE', '-H', 'If-Match: "x"']))).toBe('412 PreconditionFailed')
  expect((await kv.get('delete'))?.text()).toBe('x')
  expect((await kv.delete('delete', { ifMatch: etag })).existed).toBe(true)
  expect(problemOf(await curl('/kvs/delete', ['-X', 'DELETE', '-H', `If-Match: "${etag}"`]))).toBe(
    '412 PreconditionFailed',
  )
  expect(problemOf(await curl('/kvs/delete', ['-X', 'DELETE', '-H', 'If-Match: *']))).toBe('412 PreconditionFailed')
})

it('reads under conditions, by ETag, revision and time', async () => {
  const { etag, revision } = await kv.put('read', 'x')
  const status = async (...headers: string[]): Promise<number> => {
    const args = headers.flatMap((header) => ['-H', header])
    const got = await curl('/kvs/read', args)
    expect((await curl('/kvs/read', ['--head', ...args])).status, headers.join()).toBe(got.status)
    return got.status
  }
  expect(await status(`If-None-Match: "${etag}"`)).toBe(304)
  expect(await status(`If-None-Match: W/"${etag}"`)).toBe(304)
  expect(await status(`If-None-Match: "r${revision}"`)).toBe(304)
  expect(await status('If-None-Match: *')).toBe(304)
  expect(await status('If-None-Match: "x", "r1"')).toBe(200)
  expect(await status(`If-Match: "r${revision}"`)).toBe(200)
  expect(await status(`If-Match: "${etag}"`)).toBe(200)
  expect(await status('If-Match: "r1"')).toBe(412)
  expect(await status('If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT')).toBe(304)
  expect(await status('If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT')).toBe(200)
  expect(await status('If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT')).toBe(412)
  const unchanged = await curl('/kvs/read', ['-H', `If-None-Match: "${etag}"`])
  expect([unchanged.text, unchanged.headers['etag'], unchanged.headers['x-tidegate-error']]).toEqual([
    '',
    `"${etag}"`,
    'NotModified',
  ])
  await expect(kv.get('read', { ifNoneMatch: revision })).rejects.toMatchObject({ code: 'NotModified' })
  expect(problemOf(await curl('/kvs/read', ['-H', 'If-Match: "x"']))).toBe('412 PreconditionFailed')
})

it('lets exactly one of 20 writers create a key', async () => {
  for (let round = 0; round < 5; round++) {
    const attempts = Array.from({ length: 20 }, async (_, writer) => {
      try {
        await kv.put(`race-${round}`, `writer ${writer}`, { ifNoneMatch: '*' })
        return writer
      } catch (error) {
        expect(isKvError(error, 'PreconditionFailed'), String(error)).toBe(true)
        return undefined
      }
    })
    const winners = (await Promise.all(attempts)).filter((writer) => writer !== undefined)
    expect(winners).toHaveLength(1)
    expect((await kv.get(`race-${round}`))?.text()).toBe(`writer ${winners[0]}`)
  }
})

it('loses no increment of 10 clients that compare and swap', async () => {
  await kv.put('cas-counter', '0')
  const client = async (): Promise<void> => {
    for (let done = 0; done < 10;) {
      const present = await kv.get('cas-counter')
      const next = String(Number(present?.text()) + 1)
      try {
        await kv.put('cas-counter', next, { ifMatch: present?.revision })
        done++
      } catch (error) {
        if (!isKvError(error, 'PreconditionFailed')) throw error
      }
    }
  }
  await Promise.all(Array.from({ length: 10 }, client))
  expect((await kv.get('cas-counter'))?.text()).toBe('100')
})
