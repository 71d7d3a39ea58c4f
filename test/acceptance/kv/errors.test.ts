/** How the API refuses: problem documents with stable codes, for requests that no client would make too. */
// needs: curl
import { beforeAll, describe, expect, it } from 'vitest'
import { problemOf, useKv } from '../../support/kv-suite.ts'
import { sendAlone } from '../../support/signed-calls.ts'

const suite = useKv(['--buckets', 'kvs'])
const { curl } = suite
beforeAll(() => suite.client('kvs').put('k', 'x'))

it('are problem documents, which name what is at fault', async () => {
  const answer = await curl('/kvs/absent')
  expect(problemOf(answer)).toBe('404 NoSuchKey')
  expect(JSON.parse(answer.text)).toMatchObject({
    type: 'urn:tidegate:error:NoSuchKey',
    title: 'Not Found',
    detail: expect.stringContaining('"absent"'),
    requestId: answer.headers['x-amz-request-id'] ?? expect.any(String),
  })
  expect(answer.text).not.toMatch(/node:|\.ts:|stack/)
})

it('differ from request to request in their id alone', async () => {
  const [one, two] = [await curl('/kvs/absent'), await curl('/kvs/absent')]
  const ids = [one, two].map(({ text }) => (JSON.parse(text) as { requestId: string }).requestId)
  expect(ids[0]).not.toBe(ids[1])
  expect(one.text.replace(ids[0] ?? '', '')).toBe(two.text.replace(ids[1] ?? '', ''))
})

describe('parameters', () => {
  it.each([
    ['/kvs/k?made-up=1', 'GET'],
    ['/kvs/k?ttl=1', 'GET'],
    ['/kvs/k?prefix=', 'GET'],
    ['/kvs/k?ttl=1&ttl=2', 'PUT'],
    ['/kvs/k?pin=1&pin=1', 'GET'],
    ['/kvs/k?watch=true', 'GET'],
    ['/kvs/k?ttl=1', 'DELETE'],
    ['/kvs?prefix=a&prefix=b', 'GET'],
    ['/kvs?made-up', 'GET'],
    ['/kvs?made-up=1', 'PUT'],
    ['/kvs?made-up=1', 'DELETE'],
    ['?made-up=1', 'GET'],
  ])('%s of a %s is InvalidArgument', async (target, method) => {
    const body = method === 'PUT' && target.includes('/k?') ? ['--data-binary', 'x'] : []
    expect(problemOf(await curl(target, ['-X', method, ...body]))).toBe('400 InvalidArgument')
  })

  it.each(['batch', 'txn', 'increment', 'exists', 'match'])(':%s takes none', async (operation) => {
    expect(problemOf(await curl(`/kvs:${operation}?a=1`, ['--json', '{}']))).toMatch(
      /^400 Invalid(?:Argument|Request)$/,
    )
  })
})

describe('methods and paths', () => {
  it.each([
    ['/kvs/k', 'PATCH'],
    ['/kvs/k', 'POST'],
    ['/kvs', 'POST'],
    ['/kvs:batch', 'PUT'],
    ['/kvs:made-up', 'POST'],
    ['', 'POST'],
  ])('%s has no %s', async (target, method) => {
    const answer = await curl(target, ['-X', method, '--data-binary', '{}', '-H', 'Content-Type: application/json'])
    expect(problemOf(answer)).toMatch(/^(?:405 MethodNotAllowed|404 \w+|400 Invalid\w+)$/)
  })
})

describe('bodies', () => {
  it('of JSON operations are JSON, in UTF-8', async () => {
    for (const operation of ['batch', 'txn', 'increment', 'exists', 'match']) {
      for (const body of ['', '{', '\u0000', '{"keys":1e999}', '[]', '1', '"x"', '{"__proto__":{}}']) {
        const answer = await curl(
          `/kvs:${operation}`,
          ['-H', 'Content-Type: application/json', '--data-binary', '@-'],
          { stdin: body },
        )
        expect(problemOf(answer), `${operation} ${body}`).toMatch(/^400 Invalid(?:Argument|Request)$/)
      }
      const bytes = Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])
      const answer = await curl(`/kvs:${operation}`, ['-H', 'Content-Type: application/json', '--data-binary', '@-'], {
        stdin: bytes,
      })
      expect(problemOf(answer), operation).toMatch(/^400 /)
    }
  })

  it('have another type: refused', async () => {
    for (const operation of ['txn', 'increment', 'exists', 'match']) {
      const answer = await curl(`/kvs:${operation}`, ['-H', 'Content-Type: text/xml', '--data-binary', '<a/>'])
      expect(problemOf(answer), operation).toMatch(/^(?:400|415) /)
    }
  })
})

it('answers requests that are no HTTP, or too large, and goes on', async () => {
  const { http, root } = suite.gateway
  const credentials = Buffer.from(`${root.accessKey}:${root.secretKey}`).toString('base64')
  const head = (target: string, ...headers: string[]): string =>
    `GET ${target} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ${credentials}\r\n${headers.map((header) => `${header}\r\n`).join('')}\r\n`
  const large = await sendAlone(http, [head('/kv/v1/kvs/k', `X-Large: ${'x'.repeat(70_000)}`)])
  expect([400, 431]).toContain(large.status)
  expect((await sendAlone(http, [head(`/kv/v1/kvs/${'x'.repeat(70_000)}`)])).status).toBeGreaterThanOrEqual(400)
  expect((await sendAlone(http, ['NOT HTTP\r\n\r\n'])).status).toBe(400)
  expect(
    (await sendAlone(http, [head('/kv/v1/kvs/k', 'Transfer-Encoding: chunked', 'Content-Length: 1')])).status,
  ).toBe(400)
  expect((await sendAlone(http, [head('/kv/v1/kvs/k')])).body.toString()).toBe('x')
})
