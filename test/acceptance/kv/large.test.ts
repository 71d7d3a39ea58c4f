/** Values too large to be held: 100 MiB streamed both ways, and uploads that do not end as they began. */
// needs: curl
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { beforeAll, expect, it } from 'vitest'
import { expectSettled } from '../../support/gateway-suite.ts'
import { useKv } from '../../support/kv-suite.ts'
import { RawConnection } from '../../support/raw-http.ts'

const SIZE = 100 * 1024 * 1024
const suite = useKv(['--buckets', 'kvs', '--idle-timeout', '5s'])
const { curl } = suite
let file = ''
let expected = ''

async function sha256(stream: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of stream) hash.update(chunk)
  return hash.digest('hex')
}

beforeAll(async () => {
  file = join(suite.directory, 'large')
  const block = randomBytes(1024 * 1024)
  await pipeline(
    Readable.from(
      (function* () {
        for (let at = 0; at < SIZE; at += block.length) {
          block.writeUInt32LE(at)
          yield Buffer.from(block)
        }
      })(),
    ),
    createWriteStream(file),
  )
  expected = await sha256(createReadStream(file))
})

it('goes up and comes down whole with curl, with its length and without', async () => {
  const back = join(suite.directory, 'back')
  for (const args of [
    ['-T', file],
    ['-T', file, '-H', 'Transfer-Encoding: chunked'],
  ]) {
    const put = await curl('/kvs/large', args)
    expect([put.status, put.exitCode], put.text).toEqual([200, 0])
    const got = await curl('/kvs/large', ['-o', back])
    expect([got.status, got.headers['content-length']]).toEqual([200, String(SIZE)])
    expect(await sha256(createReadStream(back))).toBe(expected)
  }
})

it('goes up and comes down whole with the client', async () => {
  const kv = suite.client('kvs')
  await kv.put('streamed', createReadStream(file), { size: SIZE, contentType: 'text/x' })
  await kv.put('web', Readable.toWeb(createReadStream(file)) as ReadableStream<Uint8Array>)
  for (const key of ['streamed', 'web']) {
    const found = await kv.getStream(key)
    expect(found?.size).toBe(SIZE)
    expect(await sha256(found?.body ?? Readable.from([]))).toBe(expected)
  }
})

it('leaves the value as it was when an upload breaks off', async () => {
  const kv = suite.client('kvs')
  await kv.put('broken', 'whole')
  const { http, root } = suite.gateway
  const credentials = Buffer.from(`${root.accessKey}:${root.secretKey}`).toString('base64')
  for (const framing of ['Content-Length: 1000000', 'Transfer-Encoding: chunked']) {
    const connection = await RawConnection.open(http)
    await connection.send(
      `PUT /kv/v1/kvs/broken HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ${credentials}\r\n${framing}\r\n\r\n`,
      framing.startsWith('T') ? '3e8\r\n' : '',
      Buffer.alloc(1_000),
    )
    await connection.anything(100)
    connection.destroy()
  }
  expect((await kv.get('broken'))?.text()).toBe('whole')
  const source = async function* (): AsyncGenerator<Uint8Array> {
    yield Buffer.alloc(100_000)
    throw new Error('the source is gone')
  }
  await expect(kv.put('broken', source())).rejects.toMatchObject({ code: 'NoAnswer' })
  expect((await kv.get('broken'))?.text()).toBe('whole')
})

it('lets a reader go that has seen enough', async () => {
  const kv = suite.client('kvs')
  const found = await kv.getStream('large')
  for await (const _chunk of found?.body ?? []) break
  await expectSettled(suite.gateway)
  expect((await kv.head('large'))?.size).toBe(SIZE)
})

it('says that more than 5 GiB is too much before it reads any of it', async () => {
  const put = await curl('/kvs/huge', [
    '-X',
    'PUT',
    '-H',
    'Content-Length: 5368709121',
    '-H',
    'Expect:',
    '--data-binary',
    'x',
  ])
  expect(put.status).toBe(413)
  expect(put.headers['x-tidegate-error']).toBe('EntityTooLarge')
})
