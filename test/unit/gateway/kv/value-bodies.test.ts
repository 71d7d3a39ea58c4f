import { hash } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import { describe, expect, it } from 'vitest'
import { TidegateError } from '../../../../src/common/errors.ts'
import { LARGE, ask, byHand, kv, outcome, put } from './value-requests.ts'

describe('a body', () => {
  const md5 = (text: string): string => hash('md5', text, 'base64')

  it('is held to its digests', async () => {
    expect(await outcome(put('/b/a', 'x', { 'content-md5': md5('x') }))).toBe('200')
    expect(await outcome(put('/b/a', 'y', { 'content-md5': md5('x') }))).toBe('400 BadDigest')
    expect(await outcome(put('/b/a', LARGE, { 'content-md5': md5('x') }))).toBe('400 BadDigest')
    expect(await outcome(put('/b/a', 'y', { 'content-md5': 'x' }))).toBe('400 InvalidArgument')
    expect(await outcome(put('/b/a', 'y', { 'x-amz-content-sha256': hash('sha256', 'x') }))).toBe('400 BadDigest')
    expect(await outcome(put('/b/a', 'y', { 'x-amz-checksum-crc32': 'AAAAAA==' }))).toBe('400 BadDigest')
    expect((await ask('GET /b/a')).text).toBe('x')
  })

  it('may come framed as aws-chunked (lesson 5.1.7)', async () => {
    const headers = {
      'x-amz-content-sha256': 'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
      'x-amz-decoded-content-length': '4',
      'content-encoding': 'aws-chunked',
    }
    expect(await outcome(put('/b/a', '4\r\nblue\r\n0\r\n\r\n', headers))).toBe('200')
    expect(await ask('GET /b/a')).toMatchObject({ text: 'blue' })
    expect(await outcome(put('/b/a', '3\r\nred\r\n0\r\n\r\n', headers))).toMatch(/^400 /)
    expect((await ask('GET /b/a')).text).toBe('blue')
  })

  it('is bounded, announced or not', async () => {
    const big = Buffer.alloc(1_000_001)
    expect(await outcome(put('/b/a', big))).toBe('413 EntityTooLarge')
    const chunk = `Transfer-Encoding: chunked\r\n\r\n${big.length.toString(16)}\r\n${big.toString('latin1')}\r\n0\r\n\r\n`
    expect(await byHand('/b/a', chunk)).toMatch(/^HTTP\/1.1 413 /)
  })

  it('that stops coming is given up', async () => {
    const answer = new Promise<number>((resolve, reject) => {
      const headers = { 'content-length': '10' }
      const request = httpRequest({ port: kv.port, method: 'PUT', path: '/kv/v1/b/a', headers, agent: false })
      request.on('response', (response) => {
        resolve(response.statusCode ?? 0)
        request.destroy()
      })
      request.on('error', reject)
      request.write('abc')
    })
    expect(await answer).toBe(408)
  })

  it('has metadata of a bounded size', async () => {
    const headers = { 'x-tidegate-meta-a': 'x'.repeat(2048) }
    expect(await outcome(put('/b/a', 'x', headers))).toBe('400 InvalidArgument')
  })
})

describe('failures', () => {
  it('of pinning a new value are no failures of the put', async () => {
    kv.store.keyValues.pin = () => Promise.reject(new TidegateError('StorageFull', 'no more may be pinned'))
    expect(await put('/b/large?pin=5', LARGE)).toMatchObject({ status: 200, headers: { 'x-tidegate-pinned': '0' } })
    expect(await outcome(ask('GET /b/large?pin=5'))).toBe('507 StorageFull')
  })

  it('of the first read are answered, later ones cut the answer short', async () => {
    await put('/b/large', LARGE)
    const { reading } = kv.store
    const intact = { ...reading }
    const lost = (): Promise<never> => Promise.reject(new TidegateError('DataLost', 'a block'))
    reading.read = lost
    expect(await outcome(ask('GET /b/large'))).toBe('500 DataLost')
    let reads = 0
    reading.read = (...asked) => (++reads > 2 ? lost() : intact.read(...asked))
    await expect(ask('GET /b/large')).rejects.toThrow()
  })

  it('leave nothing behind when a put is refused at the end', async () => {
    kv.store.objects.put = () => Promise.reject(new TidegateError('SlowDown', 'later'))
    expect(await outcome(put('/b/large', LARGE))).toBe('503 SlowDown')
  })

  it('of a value that became small while it was opened are none', async () => {
    await put('/b/a', LARGE)
    const { objects } = kv.store
    const stored = { ...objects }
    objects.open = async (...asked) => {
      await put('/b/a', 'small')
      return stored.open(...asked)
    }
    expect((await ask('GET /b/a')).text).toBe('small')
  })
})
