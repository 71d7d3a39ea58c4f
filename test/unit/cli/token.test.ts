import { afterEach, beforeEach, expect, it } from 'vitest'
import { runCli } from '../../../src/cli/run.ts'
import { SECRET, startTokenPort, type TokenPort } from '../../support/token-port.ts'

let port: TokenPort

beforeEach(async () => {
  port = await startTokenPort()
})

afterEach(async () => {
  await port.stop()
})

interface Result {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

async function tidegate(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Result> {
  const written = { stdout: '', stderr: '' }
  const into = (stream: 'stdout' | 'stderr') => ({
    write: (text: string | Uint8Array) => {
      written[stream] += String(text)
    },
  })
  const code = await runCli({
    argv: args,
    env: { TIDEGATE_GATEWAY: port.url, AWS_ACCESS_KEY_ID: 'alice', AWS_SECRET_ACCESS_KEY: SECRET, ...env },
    stdout: into('stdout'),
    stderr: into('stderr'),
    serve: () => Promise.reject(new Error('not to be served')),
  })
  return { code, ...written }
}

it('makes a token, prints it alone on stdout, and says the rest on stderr', async () => {
  const made = await tidegate(['token', 'create', '--name', 'reading'])
  expect(made.code).toBe(0)
  expect(made.stdout).toMatch(/^tgt_[a-z2-7]{12}_[A-Za-z0-9_-]{43}\n$/)
  expect(made.stderr).toBe(
    `Token ${made.stdout.slice(4, 16)} may read, list in * until it is revoked. It is shown only now:\n`,
  )
  expect(await port.tokens.verify(made.stdout.trim())).toMatchObject({
    displayName: 'alice',
    token: { buckets: ['*'], verbs: ['read', 'list'] },
  })
})

it('scopes a token to buckets, verbs and a time', async () => {
  const args = [
    '--name',
    'n',
    '--bucket',
    'a',
    '--bucket',
    'b-*',
    '--verb',
    'write',
    '--verb',
    'delete',
    '--ttl',
    '30d',
  ]
  const made = await tidegate(['token', 'create', ...args, '--json'])
  expect(made).toMatchObject({ code: 0, stderr: '' })
  expect(JSON.parse(made.stdout)).toMatchObject({
    name: 'n',
    buckets: ['a', 'b-*'],
    verbs: ['write', 'delete'],
    expires: new Date(port.clock.ms + 30 * 86_400_000).toISOString(),
    token: expect.stringMatching(/^tgt_/) as string,
  })
})

it('lists tokens for people and for programs', async () => {
  expect((await tidegate(['token', 'ls'])).stdout).toBe('ID  NAME  OF  VERBS  BUCKETS  EXPIRES\n')
  const id = (await tidegate(['token', 'create', '--name', 'deploy it'])).stdout.slice(4, 16)
  expect((await tidegate(['token', 'ls'])).stdout).toBe(
    'ID            NAME       OF     VERBS      BUCKETS  EXPIRES\n' +
      `${id}  deploy it  alice  read,list  *        never\n`,
  )
  const listed = await tidegate(['token', 'ls', '--json'])
  expect(JSON.parse(listed.stdout)).toMatchObject([{ id, name: 'deploy it', expires: null }])
})

it('revokes a token by its id, or by itself without sending its secret', async () => {
  const texts: string[] = []
  for (const name of ['one', 'two']) {
    texts.push((await tidegate(['token', 'create', '--name', name])).stdout.trim())
  }
  const [one = '', two = ''] = texts
  expect(await tidegate(['token', 'revoke', one.slice(4, 16)])).toEqual({ code: 0, stdout: '', stderr: '' })
  const revoked = await tidegate(['token', 'revoke', two, '--json'])
  expect(JSON.parse(revoked.stdout)).toEqual({ id: two.slice(4, 16), revoked: true })
  for (const text of texts) expect(await port.tokens.verify(text)).toBeUndefined()
  const again = await tidegate(['token', 'revoke', two])
  expect(again).toMatchObject({ code: 1, stdout: '' })
  expect(again.stderr).toBe(`tidegate: NoSuchToken: there is no token "${two.slice(4, 16)}"\n`)
})

it('shows why the gateway refused, with exit code 1 and no stack', async () => {
  const token = (await tidegate(['token', 'create', '--name', 'n'])).stdout.trim()
  const denied = await tidegate(['token', 'ls'], { TIDEGATE_TOKEN: token })
  expect(denied).toMatchObject({ code: 1, stdout: '' })
  expect(denied.stderr).toBe(
    `tidegate: AccessDenied: the token ${token.slice(4, 16)} of alice is not authorized to perform tidegate:ListTokens\n`,
  )
  const wrong = await tidegate(['token', 'ls'], { AWS_SECRET_ACCESS_KEY: 'wrong' })
  expect(wrong.stderr).toBe('tidegate: Unauthenticated: The access key or its secret is wrong.\n')
  const bucket = await tidegate(['token', 'create', '--name', 'n', '--bucket', 'A'])
  expect(bucket.stderr).toContain('InvalidArgument: "A" is no bucket name')
})

it('prefers a token to an access key, and the root user of the gateway to that of AWS', async () => {
  const root = { TIDEGATE_ROOT_USER: 'root', TIDEGATE_ROOT_PASSWORD: SECRET }
  await tidegate(['token', 'create', '--name', 'of root'], root)
  expect((await tidegate(['token', 'ls'], root)).stdout).toContain('of root')
  expect((await tidegate(['token', 'ls'])).stdout).not.toContain('of root')
  expect((await tidegate(['token', 'ls'], { ...root, TIDEGATE_TOKEN: 'tgt_unknown' })).stderr).toContain('bearer token')
})

it.each([
  [['token'], 'token wants create, ls or revoke'],
  [['token', 'toString'], 'token knows no toString'],
  [['token', 'create'], 'token create wants --name'],
  [['token', 'create', '--name', 'n', 'x'], '"x" is one argument too many'],
  [['token', 'create', '--name', 'n', '--ttl', 'soon'], '--ttl "soon" is not a time with its unit'],
  [['token', 'create', '--name', 'n', '--ttl', '500ms'], '--ttl "500ms" is not in whole seconds'],
  [['token', 'ls', '--all'], "Unknown option '--all'"],
  [['token', 'revoke'], 'the id of a token is missing'],
  [['token', 'ls', '--gateway', 'ftp://x'], 'the gateway is not of the form'],
  [['token', 'ls', '--gateway', 'http://user:secret@x'], 'the gateway is not of the form'],
])('refuses %j with exit code 2', async (args, message) => {
  const result = await tidegate(args)
  expect(result).toMatchObject({ code: 2, stdout: '' })
  expect(result.stderr).toContain(message)
  expect(result.stderr).not.toContain('secret')
})

it('helps', async () => {
  const { code, stdout } = await tidegate(['token', '--help'])
  expect(code).toBe(0)
  expect(stdout).toContain('usage: tidegate token create --name NAME')
  expect(stdout).toContain('TIDEGATE_TOKEN')
  expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(120)
})
