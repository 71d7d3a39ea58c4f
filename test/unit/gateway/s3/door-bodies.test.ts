import { createHash } from 'node:crypto'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { computeChecksum } from '../../../../src/common/checksums.ts'
import { TidegateError } from '../../../../src/common/errors.ts'
import { errorCode, send, startHarness, type Answer, type Harness, type Sent } from './door-harness.ts'

let harness: Harness

function ask(line: string, sent: Sent = {}): Promise<Answer> {
  return send(harness.port, line, sent)
}

beforeAll(async () => {
  harness = await startHarness({
    bodyIdleMsMax: 200,
    limits: { hashInlineBytesMax: 16 * 1024, putBytesMax: 2_000_000 },
  })
  await ask('PUT /bod')
})

afterAll(async () => {
  expect(harness.bugs).toEqual([])
  await harness.stop()
})

const SMALL = Buffer.from('hello')
const LARGE = Buffer.alloc(900_000, 'large ')

/** Nothing was published, and no body is left behind. */
async function nothingLeft(key: string): Promise<void> {
  expect((await ask(`HEAD /bod/${key}`)).status).toBe(404)
  await expect.poll(() => harness.store.openBodies.size).toBe(0)
}

/** Sends bytes as they are and reads until the server closes or `enough` matches. */
function raw(
  pieces: readonly (string | Buffer)[],
  options: { enough?: RegExp; pauseMs?: number } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect(harness.port, '127.0.0.1')
    const done = (): void => {
      socket.destroy()
      resolve(text)
    }
    socket.on('data', (data) => {
      text += data.toString('latin1')
      if (options.enough?.test(text) === true) done()
    })
    socket.on('close', () => resolve(text))
    socket.on('error', (error: NodeJS.ErrnoException) => (error.code === 'ECONNRESET' ? resolve(text) : reject(error)))
    const write = async (): Promise<void> => {
      for (const piece of pieces) {
        socket.write(piece)
        await sleep(options.pauseMs ?? 5)
      }
    }
    write().catch(reject)
  })
}

describe.each([
  ['small', SMALL],
  ['large', LARGE],
])('a %s body', (name, bytes) => {
  const wrong = Buffer.alloc(bytes.length, 'x')

  it.each([
    ['Content-MD5', { 'content-md5': createHash('md5').update(wrong).digest('base64') }, 'BadDigest'],
    [
      'payload hash',
      { 'x-amz-content-sha256': createHash('sha256').update(wrong).digest('hex') },
      'XAmzContentSHA256Mismatch',
    ],
    ['CRC32', { 'x-amz-checksum-crc32': computeChecksum('CRC32', wrong) }, 'BadDigest'],
    ['SHA-256', { 'x-amz-checksum-sha256': computeChecksum('SHA256', wrong) }, 'BadDigest'],
    ['no digest at all', { 'x-amz-checksum-sha256': 'bad' }, 'BadDigest'],
    ['no MD5 at all', { 'content-md5': 'bad' }, 'InvalidDigest'],
    ['two checksums', { 'x-amz-checksum-crc32': 'AAAAAA==', 'x-amz-checksum-crc32c': 'AAAAAA==' }, 'InvalidRequest'],
    ['an unknown checksum', { 'x-amz-checksum-crc99': 'AAAAAA==' }, 'InvalidRequest'],
    ['a promise without a value', { 'x-amz-sdk-checksum-algorithm': 'CRC32' }, 'InvalidRequest'],
  ])('is refused with a wrong %s, and leaves nothing behind', async (_what, headers, code) => {
    const answer = await ask(`PUT /bod/${name}`, { body: bytes, headers })
    expect([answer.status, errorCode(answer)]).toEqual([400, code])
    await nothingLeft(name)
  })

  it('is accepted with everything right, and its checksum told', async () => {
    const sha256 = createHash('sha256').update(bytes)
    const headers = {
      'content-md5': createHash('md5').update(bytes).digest('base64'),
      'x-amz-content-sha256': sha256.digest('hex'),
      'x-amz-checksum-crc32c': computeChecksum('CRC32C', bytes),
      'x-amz-sdk-checksum-algorithm': 'CRC32C',
    }
    const answer = await ask(`PUT /bod/right-${name}`, { body: bytes, headers })
    expect([answer.status, answer.headers['x-amz-checksum-crc32c']]).toEqual([200, headers['x-amz-checksum-crc32c']])
    expect(harness.exchanges.at(-1)?.bytesIn).toBe(bytes.length)
  })

  it('may come framed as aws-chunked with a trailer (lesson 5.1.7, lesson 5.1.8)', async () => {
    const framed = (trailer: string): Buffer =>
      Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from(`\r\n0\r\n${trailer}\r\n`)])
    const headers = {
      'x-amz-content-sha256': 'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
      'x-amz-decoded-content-length': String(bytes.length),
      'x-amz-trailer': 'x-amz-checksum-crc32',
    }
    const good = `x-amz-checksum-crc32:${computeChecksum('CRC32', bytes)}\r\n`
    expect((await ask(`PUT /bod/chunked-${name}`, { body: framed(good), headers })).status).toBe(200)
    expect((await ask(`GET /bod/chunked-${name}`)).body.equals(bytes)).toBe(true)
    const bad = await ask(`PUT /bod/${name}`, { body: framed('x-amz-checksum-crc32:AAAAAA==\r\n'), headers })
    expect(errorCode(bad)).toBe('BadDigest')
    expect(errorCode(await ask(`PUT /bod/${name}`, { body: framed(''), headers }))).toBe('MalformedTrailerError')
    await nothingLeft(name)
  })

  it('that ends early leaves nothing behind', async () => {
    const half = bytes.subarray(0, bytes.length / 2)
    const head = `PUT /bod/${name} HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes.length}\r\n\r\n`
    const socket = connect(harness.port, '127.0.0.1')
    socket.on('error', () => undefined)
    socket.write(head)
    socket.write(half, () => setTimeout(() => socket.destroy(), 30))
    await new Promise((resolve) => socket.on('close', resolve))
    await expect.poll(() => harness.exchanges.at(-1)?.errorCode).toBe('IncompleteBody')
    await nothingLeft(name)
  })

  it('that stalls is given up with RequestTimeout, and the connection closed', async () => {
    const head = `PUT /bod/${name} HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes.length}\r\n\r\n`
    const text = await raw([head, bytes.subarray(0, 3)])
    expect(text).toMatch(/^HTTP\/1.1 400 [^]*connection: close[^]*<Code>RequestTimeout</i)
    await nothingLeft(name)
  })
})

describe('length', () => {
  it('must be told or delimited', async () => {
    const head = 'PUT /bod/len HTTP/1.1\r\nHost: x\r\n'
    expect(await raw([`${head}Connection: close\r\n\r\n`])).toMatch(/^HTTP\/1.1 411 [^]*MissingContentLength/)
    const chunked = `${head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n`
    expect(await raw([chunked])).toMatch(/^HTTP\/1.1 200/)
    expect((await ask('GET /bod/len')).text).toBe('abc')
    expect((await ask('PUT /bod/empty', { body: '' })).headers.etag).toBe('"d41d8cd98f00b204e9800998ecf8427e"')
  })

  it('is bounded, announced or not', async () => {
    const body = Buffer.alloc(2_000_001)
    expect(errorCode(await ask('PUT /bod/huge', { body }))).toBe('EntityTooLarge')
    const head = 'PUT /bod/huge HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n'
    const text = await raw([head, `${body.length.toString(16)}\r\n`, body])
    expect(text).toMatch(/connection: close[^]*EntityTooLarge/i)
    await nothingLeft('huge')
  })

  it('of metadata is bounded', async () => {
    const headers = { 'x-amz-meta-a': 'v'.repeat(2048) }
    expect(errorCode(await ask('PUT /bod/meta', { body: 'x', headers }))).toBe('MetadataTooLarge')
    expect((await ask('PUT /bod/meta', { body: 'x', headers: { 'x-amz-meta-a': 'v'.repeat(2047) } })).status).toBe(200)
  })
})

describe('100 Continue (lesson 5.1.14)', () => {
  const head = (path: string): string =>
    `PUT ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n`

  it('is sent once everything that can be refused early has been', async () => {
    expect(await raw([head('/bod/cont'), 'hello'], { pauseMs: 30 })).toMatch(
      /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 /,
    )
  })

  it('is not sent before a refusal', async () => {
    expect(await raw([head('/no-bucket/cont')])).toMatch(/^HTTP\/1.1 404 /)
    harness.deny((asked) => asked.action === 's3:PutObject')
    expect(await raw([head('/bod/cont')])).toMatch(/^HTTP\/1.1 403 /)
    harness.deny(() => false)
  })
})

describe('the store refuses', () => {
  it('while a body streams: the answer comes, nothing is left (lesson 5.1.13)', async () => {
    const error = new TidegateError('StorageFull', 'no room')
    vi.spyOn(harness.store.bodies, 'append').mockResolvedValueOnce().mockRejectedValueOnce(error)
    const answer = await ask('PUT /bod/full', { body: LARGE })
    expect([answer.status, errorCode(answer)]).toEqual([507, 'StorageFull'])
    await nothingLeft('full')
  })

  it('the publish: the streamed body is discarded', async () => {
    vi.spyOn(harness.store.objects, 'put').mockRejectedValueOnce(new TidegateError('SlowDown', 'busy'))
    const answer = await ask('PUT /bod/slow', { body: LARGE })
    expect([answer.status, errorCode(answer), answer.headers['retry-after']]).toEqual([503, 'SlowDown', '1'])
    await nothingLeft('slow')
  })
})

describe('a client that goes away while it reads', () => {
  it('gives every slice back (C13)', async () => {
    await ask('PUT /bod/read', { body: Buffer.alloc(1_900_000, 'r') })
    for (let round = 0; round < 5; round++) {
      await raw(['GET /bod/read HTTP/1.1\r\nHost: x\r\n\r\n'], { enough: /rrrr/ })
    }
    await expect.poll(() => [harness.store.leases, harness.store.readers]).toEqual([0, 0])
  })
})
