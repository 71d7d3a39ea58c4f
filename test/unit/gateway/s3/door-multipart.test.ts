import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { computeChecksum } from '../../../../src/common/checksums.ts'
import { childText, parseXml } from '../../../../src/gateway/s3/xml/parse.ts'
import { errorCode, send, startHarness, type Answer, type Harness, type Sent } from './door-harness.ts'

let harness: Harness

function ask(line: string, sent: Sent = {}): Promise<Answer> {
  return send(harness.port, line, sent)
}

beforeAll(async () => {
  harness = await startHarness()
  await ask('PUT /mp')
})

afterAll(async () => {
  expect(harness.bugs).toEqual([])
  expect([harness.store.leases, harness.store.readers, harness.store.openBodies.size]).toEqual([0, 0, 0])
  await harness.stop()
})

const PART_1 = Buffer.alloc(600_000, 'first ')
const PART_2 = Buffer.from('second')

async function begin(key: string, headers: Record<string, string> = {}): Promise<string> {
  const answer = await ask(`POST /mp/${key}?uploads`, { headers })
  expect(answer.status, answer.text).toBe(200)
  return childText(parseXml(answer.text), 'UploadId') ?? ''
}

async function part(key: string, uploadId: string, number: number, body: Buffer): Promise<string> {
  const answer = await ask(`PUT /mp/${key}?partNumber=${number}&uploadId=${uploadId}`, { body })
  expect(answer.status, answer.text).toBe(200)
  return answer.headers.etag ?? ''
}

function completion(etags: readonly string[]): string {
  const parts = etags.map((etag, i) => `<Part><ETag>${etag}</ETag><PartNumber>${i + 1}</PartNumber></Part>`)
  return `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${parts.join('')}</CompleteMultipartUpload>`
}

describe('multipart upload', () => {
  it('makes one object of parts, which can be read one by one', async () => {
    const uploadId = await begin('whole', { 'content-type': 'text/x', 'x-amz-meta-a': '1' })
    const etags = [await part('whole', uploadId, 1, PART_1), await part('whole', uploadId, 2, PART_2)]
    const listed = await ask(`GET /mp/whole?uploadId=${uploadId}&max-parts=1`)
    expect(listed.text).toContain(
      '<NextPartNumberMarker>1</NextPartNumberMarker><MaxParts>1</MaxParts><IsTruncated>true',
    )
    expect((await ask('GET /mp?uploads')).text).toContain(`<UploadId>${uploadId}</UploadId>`)
    const completed = await ask(`POST /mp/whole?uploadId=${uploadId}`, { body: completion(etags) })
    expect(completed.text).toContain(
      `<Location>http://127.0.0.1:${harness.port}/mp/whole</Location><Bucket>mp</Bucket>`,
    )
    const got = await ask('GET /mp/whole')
    expect(got.body.equals(Buffer.concat([PART_1, PART_2]))).toBe(true)
    expect([got.headers['content-type'], got.headers['x-amz-meta-a']]).toEqual(['text/x', '1'])
    expect(got.headers.etag).toMatch(/^"[0-9a-f]{32}-2"$/)
    const second = await ask('GET /mp/whole?partNumber=2', { headers: { 'x-amz-checksum-mode': 'ENABLED' } })
    expect([second.status, second.text, second.headers['x-amz-mp-parts-count']]).toEqual([206, 'second', '2'])
    expect(second.headers['content-range']).toBe('bytes 600000-600005/600006')
    expect(second.headers['x-amz-checksum-crc64nvme']).toBe(computeChecksum('CRC64NVME', PART_2))
    const head = await ask('HEAD /mp/whole?partNumber=1')
    expect(head.headers['content-length']).toBe('600000')
    expect(errorCode(await ask('GET /mp/whole?partNumber=3'))).toBe('InvalidPart')
    expect(errorCode(await ask('GET /mp/whole?partNumber=1', { headers: { range: 'bytes=0-1' } }))).toBe(
      'InvalidRequest',
    )
  })

  it('treats an object of one PUT as its own part', async () => {
    await ask('PUT /mp/single', { body: 'body' })
    expect((await ask('GET /mp/single?partNumber=1')).text).toBe('body')
    const beyond = await ask('GET /mp/single?partNumber=2')
    expect([beyond.status, errorCode(beyond)]).toEqual([400, 'InvalidPart'])
  })

  it('tells parts and checksums as attributes', async () => {
    const uploadId = await begin('attr')
    const etags = [await part('attr', uploadId, 1, PART_1), await part('attr', uploadId, 2, PART_2)]
    await ask(`POST /mp/attr?uploadId=${uploadId}`, { body: completion(etags) })
    const headers = { 'x-amz-object-attributes': 'ETag, ObjectParts,ObjectSize', 'x-amz-max-parts': '1' }
    const answer = await ask('GET /mp/attr?attributes', { headers })
    expect(answer.text).toMatch(/<ETag>[0-9a-f]{32}-2<\/ETag>/)
    expect(answer.text).toContain('<PartsCount>2</PartsCount><PartNumberMarker>0</PartNumberMarker>')
    expect(answer.text).toContain('<IsTruncated>true</IsTruncated><Part><PartNumber>1</PartNumber><Size>600000</Size>')
    expect(answer.text).toContain('<ObjectSize>600006</ObjectSize>')
    expect(answer.text).not.toContain('StorageClass')
    expect(errorCode(await ask('GET /mp/attr?attributes'))).toBe('InvalidArgument')
  })

  it('copies ranges as parts', async () => {
    await ask('PUT /mp/source', { body: 'hello world' })
    const uploadId = await begin('copied')
    const url = `PUT /mp/copied?partNumber=1&uploadId=${uploadId}`
    const headers = { 'x-amz-copy-source': '/mp/source', 'x-amz-copy-source-range': 'bytes=6-10' }
    const copied = await ask(url, { headers })
    const etag = createHash('md5').update('world').digest('hex')
    expect(copied.text).toContain(`<ETag>&quot;${etag}&quot;</ETag>`)
    await ask(`POST /mp/copied?uploadId=${uploadId}`, { body: completion([etag]) })
    expect((await ask('GET /mp/copied')).text).toBe('world')
    const again = await begin('copied')
    const outside = { ...headers, 'x-amz-copy-source-range': 'bytes=0-21' }
    expect(errorCode(await ask(`PUT /mp/copied?partNumber=1&uploadId=${again}`, { headers: outside }))).toBe(
      'InvalidRange',
    )
  })

  it('takes the last of a part that is listed twice in a row', async () => {
    const uploadId = await begin('twice')
    const stale = createHash('md5').update('stale').digest('hex')
    const etag = await part('twice', uploadId, 1, PART_2)
    const body = completion([stale, etag]).replace('<PartNumber>2<', '<PartNumber>1<')
    expect((await ask(`POST /mp/twice?uploadId=${uploadId}`, { body })).status).toBe(200)
    expect((await ask('GET /mp/twice')).text).toBe('second')
  })

  it('refuses what does not fit', async () => {
    const uploadId = await begin('bad', { 'x-amz-checksum-algorithm': 'SHA256' })
    const etag = await part('bad', uploadId, 1, PART_2)
    const complete = (body: string, id = uploadId): Promise<Answer> => ask(`POST /mp/bad?uploadId=${id}`, { body })
    expect(errorCode(await complete(completion(['0'.repeat(32)])))).toBe('InvalidPart')
    expect(errorCode(await complete(completion([])))).toBe('MalformedXML')
    expect(errorCode(await complete(''))).toBe('MalformedXML')
    expect(errorCode(await complete(completion([etag]), 'none'))).toBe('NoSuchUpload')
    const line = `PUT /mp/bad?uploadId=${uploadId}&partNumber=`
    expect(errorCode(await ask(`${line}0`, { body: 'x' }))).toBe('InvalidArgument')
    expect(errorCode(await ask(`${line}10001`, { body: 'x' }))).toBe('InvalidArgument')
    const crc = { 'x-amz-checksum-crc32': computeChecksum('CRC32', Buffer.from('x')) }
    expect(errorCode(await ask(`${line}2`, { body: 'x', headers: crc }))).toBe('InvalidRequest')
    expect((await ask(`DELETE /mp/bad?uploadId=${uploadId}`)).status).toBe(204)
    expect(errorCode(await ask(`DELETE /mp/bad?uploadId=${uploadId}`))).toBe('NoSuchUpload')
  })

  it.each([
    ['SHA256', 'FULL_OBJECT', 400],
    ['CRC64NVME', 'COMPOSITE', 400],
    ['MD4', undefined, 400],
    ['CRC32', 'FULL_OBJECT', 200],
    ['CRC32C', undefined, 200],
  ])('begins with %s %s: %i', async (algorithm, type, status) => {
    const headers = {
      'x-amz-checksum-algorithm': algorithm,
      ...(type === undefined ? {} : { 'x-amz-checksum-type': type }),
    }
    const answer = await ask('POST /mp/types?uploads', { headers })
    expect(answer.status).toBe(status)
    if (status === 200) expect(answer.headers['x-amz-checksum-type']).toBe(type ?? 'COMPOSITE')
  })
})
