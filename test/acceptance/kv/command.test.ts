/** `tidegate kv` as a user runs it, against a real gateway. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { useKv } from '../../support/kv-suite.ts'
import { REPOSITORY } from '../../support/run-command.ts'

const suite = useKv(['--buckets', 'kvs'])
const ENDS_MS_MAX = 60_000

interface Ran {
  readonly code: number | null
  readonly stdout: Buffer
  readonly stderr: string
}

/** `enough` ends a command that would not end by itself, as Ctrl-C does. */
function tidegate(
  args: readonly string[],
  options: { readonly stdin?: Uint8Array | string; readonly enough?: (stdout: string) => boolean } = {},
): Promise<Ran> {
  const { http, root } = suite.gateway
  const child = spawn(process.execPath, ['src/main.ts', 'kv', ...args, '--gateway', http], {
    cwd: REPOSITORY,
    env: {
      ...process.env,
      TIDEGATE_ROOT_USER: root.accessKey,
      TIDEGATE_ROOT_PASSWORD: root.secretKey,
      TIDEGATE_TOKEN: '',
    },
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: ENDS_MS_MAX,
  })
  const stdout: Buffer[] = []
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => {
    stdout.push(chunk)
    if (options.enough?.(Buffer.concat(stdout).toString()) === true) child.kill('SIGINT')
  })
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  child.stdin.on('error', () => undefined)
  child.stdin.end(options.stdin)
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, stdout: Buffer.concat(stdout), stderr }))
  })
}

it('puts, gets and deletes bytes as they are', async () => {
  const bytes = randomBytes(3_000_000)
  const [file, back] = [join(suite.directory, 'file'), join(suite.directory, 'back')]
  writeFileSync(file, bytes)
  expect(await tidegate(['put', 'kvs/../odd//key', file, '--type', 'image/x', '--meta', 'owner=me'])).toMatchObject({
    code: 0,
  })
  expect((await tidegate(['get', 'kvs/../odd//key'])).stdout.equals(bytes)).toBe(true)
  expect(await tidegate(['get', 'kvs/../odd//key', '-o', back])).toMatchObject({ code: 0, stdout: Buffer.alloc(0) })
  expect(readFileSync(back).equals(bytes)).toBe(true)
  expect(await suite.client('kvs').head('../odd//key')).toMatchObject({
    contentType: 'image/x',
    metadata: { owner: 'me' },
  })
  const small = Buffer.from([0, 10, 255])
  expect((await tidegate(['put', 'kvs/small', '--ttl', '60'], { stdin: small })).code).toBe(0)
  expect((await tidegate(['get', 'kvs/small'])).stdout).toEqual(small)
  expect((await tidegate(['delete', 'kvs/small', '--json'])).stdout.toString()).toContain('"existed":true')
  expect(await tidegate(['get', 'kvs/small'])).toMatchObject({
    code: 1,
    stdout: Buffer.alloc(0),
    stderr: 'tidegate: NoSuchKey: no value "small" in kvs\n',
  })
})

it('creates once, and swaps by revision', async () => {
  const made = await tidegate(['put', 'kvs/cas', '--if-none-match', '*', '--json'], { stdin: 'one' })
  const { revision } = JSON.parse(made.stdout.toString()) as { revision: number }
  const again = await tidegate(['put', 'kvs/cas', '--if-none-match', '*'], { stdin: 'two' })
  expect([again.code, again.stderr]).toEqual([1, expect.stringMatching(/^tidegate: PreconditionFailed: .+\n$/)])
  expect((await tidegate(['put', 'kvs/cas', '--if-match', `r${revision}`], { stdin: 'two' })).code).toBe(0)
  expect((await tidegate(['get', 'kvs/cas'])).stdout.toString()).toBe('two')
})

it('lists and watches', async () => {
  const kv = suite.client('kvs')
  const { revision } = await kv.put('ls/a', 'hello')
  await kv.put('ls/b', Buffer.from([255]))
  const listed = await tidegate(['ls', 'kvs/ls/'])
  expect(
    listed.stdout
      .toString()
      .trim()
      .split('\n')
      .map((line) => line.split(/ +/).slice(1)),
  ).toEqual([
    [`r${revision}`, '5', 'ls/a'],
    [expect.any(String), '1', 'ls/b'],
  ])
  expect((await tidegate(['ls', 'kvs/ls/', '--values', '--reverse'])).stdout.toString()).toBe(
    'ls/b\tbase64:/w==\nls/a\thello\n',
  )
  const watched = await tidegate(['watch', 'kvs/ls/', '--from', String(revision)], {
    enough: (stdout) => stdout.split('\n').length > 2,
  })
  expect(watched.stdout.toString().split('\n')).toEqual([
    `r${revision} put ls/a (5 bytes)`,
    expect.stringContaining('ls/b'),
    '',
  ])
})

it('says what is wrong with credentials, the gateway and its arguments', async () => {
  const elsewhere = await tidegate(['get', 'kvs/k', '--gateway', 'http://127.0.0.1:1'])
  expect([elsewhere.code === 0, elsewhere.stdout.length]).toEqual([false, 0])
  expect(await tidegate(['get', 'no-such-bucket/k'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('NoSuchBucket'),
  })
  expect(await tidegate(['get', 'kvs'])).toMatchObject({ code: 2 })
})
