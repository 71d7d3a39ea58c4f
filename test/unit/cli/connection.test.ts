import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { afterEach, expect, it } from 'vitest'
import { connect, GatewayError, type Connection, type GatewayRequest } from '../../../src/cli/connection.ts'
import type { AddressInfo } from 'node:net'

const KEYS = { AWS_ACCESS_KEY_ID: 'me', AWS_SECRET_ACCESS_KEY: 'my:secret' }
const servers: Server[] = []

afterEach(() => {
  for (const server of servers.splice(0)) server.closeAllConnections()
})

async function against(answer: RequestListener): Promise<Connection> {
  const server = createServer(answer)
  servers.push(server)
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  server.unref()
  return connect({ gateway: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` }, KEYS)
}

async function failure(connection: Connection, request: Partial<GatewayRequest> = {}): Promise<GatewayError> {
  try {
    await connection.send({ method: 'GET', path: '/x', ...request })
  } catch (error) {
    if (error instanceof GatewayError) return error
    throw error
  }
  throw new Error('it was expected to fail')
}

it('takes the gateway from the flag, then the environment, then the default', () => {
  const env = { ...KEYS, TIDEGATE_GATEWAY: 'https://kv.example.com:9001' }
  expect(connect({ gateway: 'http://other:1/' }, env).url).toBe('http://other:1')
  expect(connect({}, env).url).toBe('https://kv.example.com:9001')
  expect(connect({}, { ...KEYS, TIDEGATE_GATEWAY: '' }).url).toBe('http://127.0.0.1:9001')
})

it('takes credentials from the environment, and shows them to nobody', () => {
  const of = (env: Record<string, string>): string => connect({}, env).authorization.reveal()
  expect(of(KEYS)).toBe(`Basic ${Buffer.from('me:my:secret').toString('base64')}`)
  expect(of({ ...KEYS, TIDEGATE_TOKEN: 'tgt_x_y' })).toBe('Bearer tgt_x_y')
  expect(of({ ...KEYS, TIDEGATE_TOKEN: '' })).toMatch(/^Basic /)
  expect(inspect(connect({}, { TIDEGATE_TOKEN: 'tgt_x_y' }), { depth: 9 })).not.toContain('tgt_x_y')
  expect(() => connect({}, {})).toThrow('no credentials: set TIDEGATE_TOKEN')
  expect(() => connect({}, { AWS_ACCESS_KEY_ID: 'me' })).toThrow('AWS_SECRET_ACCESS_KEY only one is set')
  expect(() => connect({}, { TIDEGATE_TOKEN: 'a\nb' })).toThrow('TIDEGATE_TOKEN holds what no token holds')
})

it('takes the root user from files too, as the gateway does', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tidegate-connection-'))
  try {
    const [user, password] = [join(folder, 'user'), join(folder, 'password')]
    writeFileSync(user, 'tide\n')
    writeFileSync(password, 'of:a file\n')
    const of = (env: Record<string, string>): string => {
      const basic = connect({}, env).authorization.reveal().replace('Basic ', '')
      return Buffer.from(basic, 'base64').toString()
    }
    expect(of({ ...KEYS, TIDEGATE_ROOT_USER_FILE: user, TIDEGATE_ROOT_PASSWORD_FILE: password })).toBe('tide:of:a file')
    expect(of({ ...KEYS, MINIO_ROOT_USER: 'm', MINIO_ROOT_PASSWORD_FILE: password })).toBe('m:of:a file')
    expect(() => connect({}, { TIDEGATE_ROOT_USER_FILE: user })).toThrow('TIDEGATE_ROOT_PASSWORD only one is set')
    expect(() => connect({}, { TIDEGATE_ROOT_USER: 'a', TIDEGATE_ROOT_USER_FILE: user })).toThrow('give one of them')
    expect(() => connect({}, { TIDEGATE_ROOT_PASSWORD_FILE: folder })).toThrow(
      `TIDEGATE_ROOT_PASSWORD_FILE: cannot read ${folder}: EISDIR`,
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})

it('sends method, path and JSON as they are', async () => {
  const seen: string[] = []
  const connection = await against((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { method, url, headers } = request
      seen.push(`${method} ${url} ${headers['content-type']} ${Buffer.concat(chunks).toString()}`)
      response.end('done')
    })
  })
  const answer = await connection.send({ method: 'POST', path: '/x/a%2Fb', json: { a: 1 } })
  expect(await answer.text()).toBe('done')
  await connection.send({ method: 'DELETE', path: '/x/y?z=%20' })
  expect(seen).toEqual(['POST /x/a%2Fb application/json {"a":1}', 'DELETE /x/y?z=%20 undefined '])
})

it('says what the gateway refused, by its code and detail', async () => {
  const problem = { status: 409, code: 'BucketNotEmpty', detail: 'bucket "b" is not empty' }
  const connection = await against((_request, response) => {
    response.writeHead(409, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem))
  })
  const error = await failure(connection)
  expect(error).toMatchObject({
    status: 409,
    code: 'BucketNotEmpty',
    message: 'BucketNotEmpty: bucket "b" is not empty',
  })
})

it.each([
  ['text', 'the gateway answered 502'],
  ['"text"', 'the gateway answered 502'],
  ['{"detail": 7}', 'the gateway answered 502'],
  ['x'.repeat(70_000), 'the gateway answered 502'],
])('copes with an answer that is no problem document: %s', async (body, message) => {
  const connection = await against((_request, response) => void response.writeHead(502).end(body))
  expect((await failure(connection)).message).toBe(message)
})

it('takes the code of an answer without a body from its header', async () => {
  const connection = await against((_request, response) => {
    response.writeHead(404, { 'x-tidegate-error': 'NoSuchKey' }).end()
  })
  expect(await failure(connection, { method: 'HEAD' })).toMatchObject({ status: 404, code: 'NoSuchKey' })
})

it('says that a gateway cannot be reached, and follows no redirect with its credentials', async () => {
  const nobody = connect({ gateway: 'http://127.0.0.1:9' }, KEYS)
  expect((await failure(nobody)).message).toMatch(
    /^cannot reach the gateway at http:\/\/127\.0\.0\.1:9: .*(ECONNREFUSED|bad port)/,
  )
  let asked = 0
  const elsewhere = await against((_request, response) => {
    asked++
    response.writeHead(307, { location: '/elsewhere' }).end()
  })
  expect((await failure(elsewhere)).message).toContain('cannot reach the gateway')
  expect(asked).toBe(1)
})
