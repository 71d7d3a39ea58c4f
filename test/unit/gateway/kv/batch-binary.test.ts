import { hash } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import * as fc from 'fast-check'
import { afterEach, beforeEach, expect, it } from 'vitest'
import {
  BATCH_CODES,
  BATCH_CONTENT_TYPE,
  BatchReader,
  encodeBatchFrame,
  encodeBatchHead,
  type BatchFields,
} from '../../../../src/common/batch-framing.ts'
import { TidegateError } from '../../../../src/common/errors.ts'
import { registerBatchRoute } from '../../../../src/gateway/kv/batch.ts'
import { registerValueRoutes } from '../../../../src/gateway/kv/values.ts'
import { send, type Answer } from '../s3/door-harness.ts'
import { problemText } from './calls.ts'
import { startKvHarness, type KvHarness } from './kv-harness.ts'

interface Operation {
  readonly op: keyof typeof BATCH_CODES
  readonly key: string
  readonly fields?: BatchFields
  readonly value?: Uint8Array
}

interface Result {
  readonly status: number
  readonly fields: BatchFields
  value: Buffer
}

let kv: KvHarness
beforeEach(async () => {
  kv = await startKvHarness([registerBatchRoute, registerValueRoutes], { bodyIdleMsMax: 300 })
  await kv.store.buckets.create({ name: 'b', owner: 'alice', region: 'us-east-1' })
})
afterEach(() => kv.stop())

function encode(operations: readonly Operation[]): Buffer {
  const frames = operations.flatMap(({ op, key, fields = {}, value = Buffer.alloc(0) }) => [
    encodeBatchFrame({ code: BATCH_CODES[op], key, fields, valueBytes: value.length }),
    value,
  ])
  return Buffer.concat([encodeBatchHead('request', operations.length), ...frames])
}

function decode(bytes: Buffer): Result[] {
  const reader = new BatchReader('answer')
  const results: Result[] = []
  for (const piece of reader.read(bytes)) {
    if (piece.kind === 'frame')
      results.push({ status: piece.frame.code, fields: piece.frame.fields, value: Buffer.alloc(0) })
    const result = results.at(-1)
    if (piece.kind === 'value' && result) result.value = Buffer.concat([result.value, piece.bytes])
  }
  reader.end()
  return results
}

function sendBatch(body: Uint8Array, headers: Record<string, string> = {}): Promise<Answer> {
  return send(kv.port, 'POST /kv/v1/b:batch', { body, headers: { 'content-type': BATCH_CONTENT_TYPE, ...headers } })
}

async function batch(operations: readonly Operation[]): Promise<Result[]> {
  const answer = await sendBatch(encode(operations))
  expect(answer.headers['content-type']).toBe(BATCH_CONTENT_TYPE)
  return decode(answer.body)
}

function nothingOpen(): void {
  expect([kv.store.readers, kv.store.leases, kv.store.openBodies.size]).toEqual([0, 0, 0])
}

it('puts and gets values of any size, in order', async () => {
  const sizes = [0, 1, 4096, 4097, 262_144, 262_145, 3_000_000]
  const values = sizes.map((size) => Buffer.alloc(size, `${size}.`))
  const puts = await batch(values.map((value, index) => ({ op: 'put', key: `k${index}`, value })))
  expect(puts.map(({ status, fields }) => [status, fields.etag])).toEqual(
    values.map((value) => [200, hash('md5', value)]),
  )
  const gets = await batch(values.map((_, index) => ({ op: 'get', key: `k${index}` })))
  expect(gets.map(({ value }) => hash('md5', value))).toEqual(values.map((value) => hash('md5', value)))
  expect(gets[0]?.fields).toEqual({
    contentType: 'application/octet-stream',
    etag: hash('md5', ''),
    revision: expect.any(Number),
    modifiedMs: 1_700_000_000_000,
  })
  nothingOpen()
})

it('answers every operation, with what went wrong for those that failed', async () => {
  kv.deny(({ key }) => key === 'denied')
  const large = Buffer.alloc(300_000)
  const metadata = { owner: 'me' }
  const results = await batch([
    { op: 'put', key: 'a', value: Buffer.from('blue'), fields: { contentType: 'text/plain', metadata, ttlMs: 1500 } },
    { op: 'put', key: 'a', value: large, fields: { ifNoneMatch: '*' } },
    { op: 'put', key: 'denied', value: large },
    { op: 'put', key: 'c', value: large, fields: { contentType: 'a\nb' } },
    { op: 'get', key: 'a', value: Buffer.from('what for') },
    { op: 'get', key: 'a', fields: { ttlMs: 5 } },
    { op: 'get', key: 'a' },
    { op: 'exists', key: 'a' },
    { op: 'delete', key: 'a' },
    { op: 'get', key: 'a' },
  ])
  expect(results.map(({ status }) => status)).toEqual([200, 412, 403, 400, 400, 400, 200, 200, 204, 404])
  expect(results[6]).toMatchObject({
    fields: { contentType: 'text/plain', metadata, expiresMs: 1_700_000_001_500 },
    value: Buffer.from('blue'),
  })
  expect(results[7]?.fields).toEqual({ exists: true })
  expect(results[8]?.fields).toEqual({ existed: true, revision: expect.any(Number) })
  expect(results[9]?.fields).toMatchObject({ errorCode: 'NoSuchKey' })
  nothingOpen()
})

it('says so in the result when a value cannot be read', async () => {
  await batch([{ op: 'put', key: 'large', value: Buffer.alloc(10_000) }])
  Object.assign(kv.store.reading, { read: () => Promise.reject(new TidegateError('DataLost', 'gone')) })
  const results = await batch([
    { op: 'get', key: 'large' },
    { op: 'exists', key: 'large' },
  ])
  expect(results.map(({ status, fields }) => [status, fields.errorCode])).toEqual([
    [500, 'DataLost'],
    [200, undefined],
  ])
  nothingOpen()
})

it('cuts the answer short when a value cannot be read to its end', async () => {
  await batch([{ op: 'put', key: 'large', value: Buffer.alloc(200_000) }])
  const read = kv.store.reading.read.bind(kv.store.reading)
  Object.assign(kv.store.reading, {
    read: (reader: number, offset: number, length: number) =>
      offset > 0 ? Promise.reject(new TidegateError('DataLost', 'gone')) : read(reader, offset, length),
  })
  await expect(sendBatch(encode([{ op: 'get', key: 'large' }]))).rejects.toThrow(/aborted|hang up/)
  nothingOpen()
})

it('refuses messages that are broken, and keeps nothing of them', async () => {
  const whole = encode([
    { op: 'put', key: 'a', value: Buffer.alloc(300_000) },
    { op: 'get', key: 'a' },
  ])
  for (const length of [0, 5, 9, 30, 299_000, whole.length - 1]) {
    expect(problemText(await sendBatch(whole.subarray(0, length)))).toMatch(/^400 InvalidRequest: not a batch/)
  }
  expect(problemText(await sendBatch(Buffer.concat([whole, whole])))).toMatch(/after the last frame/)
  nothingOpen()
})

it('answers any bytes at all with a batch or a problem (fuzz)', async () => {
  const whole = encode([
    { op: 'put', key: 'a', value: Buffer.alloc(50, 'x'), fields: { metadata: { a: 'b' }, ttlMs: 9 } },
    { op: 'get', key: 'a' },
    { op: 'delete', key: 'a', fields: { ifMatch: '"r1"' } },
  ])
  const spoiled = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 })
  await fc.assert(
    fc.asyncProperty(spoiled, async (flips) => {
      const bytes = Buffer.from(whole)
      for (const [at, value] of flips) bytes[at] = value
      const answer = await sendBatch(bytes)
      if (answer.status === 200) expect(decode(answer.body)).toHaveLength(bytes.readUInt32LE(4))
      else expect(answer.status).toBe(400)
    }),
    { numRuns: 60 },
  )
  nothingOpen()
})

it('gives up a sender that goes silent or away', async () => {
  const whole = encode([{ op: 'put', key: 'a', value: Buffer.alloc(300_000) }])
  const open = (): ReturnType<typeof httpRequest> => {
    const headers = { 'content-type': BATCH_CONTENT_TYPE, 'content-length': String(whole.length) }
    const request = httpRequest({ port: kv.port, host: '127.0.0.1', method: 'POST', path: '/kv/v1/b:batch', headers })
    request.write(whole.subarray(0, 200_000))
    return request
  }
  const silent = open()
  const status = await new Promise((resolve, reject) => {
    silent.on('response', (response) => resolve(response.resume().statusCode))
    silent.on('error', reject)
  })
  expect(status).toBe(408)
  silent.destroy()
  const away = open()
  away.on('error', () => undefined)
  await expect.poll(() => kv.store.openBodies.size).toBe(1)
  away.destroy()
  await expect.poll(() => kv.store.openBodies.size).toBe(0)
})

it('takes no signed body, of which it would act on bytes before they are verified (lesson 5.1.7)', async () => {
  const body = encode([{ op: 'put', key: 'a', value: Buffer.from('x') }])
  const answer = await sendBatch(body, { 'x-amz-content-sha256': hash('sha256', body) })
  expect(problemText(answer)).toMatch(/^400 InvalidRequest.*UNSIGNED-PAYLOAD/)
  expect(await kv.store.keyValues.exist('b', ['a'])).toMatchObject({ exist: [false] })
})

it('answers a value whose content type the framing has no room for (lesson 5.2.9)', async () => {
  for (const size of [1, 100_000]) {
    // A byte each on the way in, two each as UTF-8.
    const headers = { 'content-type': `text/${'\u00e9'.repeat(9000)}` }
    const put = await send(kv.port, `PUT /kv/v1/b/wide${size}`, { headers, body: Buffer.alloc(size, 'x') })
    expect(put.status).toBe(200)
  }
  await batch([{ op: 'put', key: 'z', value: Buffer.from('x') }])
  const results = await batch(['wide1', 'wide100000', 'z'].map((key) => ({ op: 'get', key })))
  expect(results.map(({ status, fields }) => [status, fields.errorCode])).toEqual([
    [413, 'EntityTooLarge'],
    [413, 'EntityTooLarge'],
    [200, undefined],
  ])
  nothingOpen()
})

it('leaves no listener on the response behind, however many values it sends', async () => {
  const warnings: string[] = []
  const warned = (warning: Error): void => void warnings.push(warning.message)
  process.on('warning', warned)
  await batch([{ op: 'put', key: 'a', value: Buffer.alloc(100_000) }])
  await batch(Array.from({ length: 30 }, () => ({ op: 'get', key: 'a' })))
  await new Promise((resolve) => setImmediate(resolve))
  process.off('warning', warned)
  expect(warnings).toEqual([])
})
