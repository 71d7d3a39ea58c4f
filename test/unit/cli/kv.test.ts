import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { afterAll, afterEach, expect, it } from 'vitest'
import { runCli } from '../../../src/cli/run.ts'
import { shownName } from '../../../src/cli/kv-target.ts'
import { fakeGateway, sendProblem, type FakeGateway } from '../client/fake-gateway.ts'

const directory = mkdtempSync(join(tmpdir(), 'tidegate-cli-kv-'))
afterAll(() => rmSync(directory, { recursive: true }))

let gateway: FakeGateway | undefined
afterEach(async () => {
  await gateway?.close()
  gateway = undefined
})

async function run(
  argv: readonly string[],
  answer: (response: ServerResponse) => void = (response) => response.end(),
  stdin: readonly Uint8Array[] = [],
): Promise<{ code: number; stdout: Buffer; stderr: string; seen: FakeGateway['seen'] }> {
  gateway ??= await fakeGateway(answer)
  const { url, seen } = gateway
  const written: Buffer[] = []
  let stderr = ''
  const code = await runCli({
    argv: ['kv', ...argv],
    env: { TIDEGATE_GATEWAY: url, TIDEGATE_TOKEN: 'tgt_secret' },
    stdout: { write: (piece) => written.push(Buffer.from(piece as string)) },
    stderr: { write: (text) => (stderr += String(text)) },
    stdin: (async function* () {
      yield* stdin
    })(),
    serve: () => Promise.reject(new Error('not to be served')),
  })
  return { code, stdout: Buffer.concat(written), stderr, seen }
}

const BYTES = Buffer.from([0, 255, 10, 13, 128])

it('gets the bytes and nothing else, to standard output or into a file', async () => {
  const answer = (response: ServerResponse): void => void response.end(BYTES)
  const { code, stdout, seen } = await run(['get', 'b/../a//%'], answer)
  expect([code, stdout]).toEqual([0, BYTES])
  expect(seen[0]).toMatchObject({ target: '/kv/v1/b/../a//%25', headers: { authorization: 'Bearer tgt_secret' } })
  const file = join(directory, 'got')
  expect(await run(['get', 'b/k', '-o', file])).toMatchObject({ code: 0, stdout: Buffer.alloc(0) })
  expect(readFileSync(file)).toEqual(BYTES)
})

it('puts standard input or a file, with what the flags say', async () => {
  const file = join(directory, 'large')
  writeFileSync(file, Buffer.alloc(1_100_000, 'x'))
  const flags = [
    '--ttl',
    '0.5',
    '--if-match',
    'r7',
    '--type',
    'text/plain',
    '--meta',
    'Owner=me=you',
    '--ack',
    'memory',
  ]
  const { code, seen } = await run(['put', 'b/k', ...flags], undefined, [BYTES, BYTES])
  expect(code).toBe(0)
  expect(seen[0]).toMatchObject({
    method: 'PUT',
    target: '/kv/v1/b/k?ttl=0.5',
    body: Buffer.concat([BYTES, BYTES]),
    headers: {
      'if-match': '"r7"',
      'content-type': 'text/plain',
      'x-tidegate-meta-owner': 'me=you',
      'x-tidegate-ack': 'memory',
    },
  })
  await run(['put', 'b/k', file, '--if-none-match', '*'])
  expect(seen[1]).toMatchObject({ headers: { 'content-length': '1100000', 'if-none-match': '*' } })
  await run(['put', 'b/k', '-', '--if-match', 'abc'])
  expect(seen[2]).toMatchObject({ body: Buffer.alloc(0), headers: { 'if-match': '"abc"' } })
})

it('lists as columns, as values and as JSON', async () => {
  const attributes = { revision: 7, etag: 'e', size: 2, modified: '2026-11-22T10:00:00.000Z' }
  const lines = [
    { key: 'a\nb', ...attributes, value: 'aGk=' },
    { key: 'b', ...attributes, value: '/w==' },
    { page: { revision: 9, cursor: null } },
  ]
  const answer = (response: ServerResponse): void =>
    void response.end(lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  const { stdout, seen } = await run(['ls', 'b/p/', '--limit', '5', '--reverse'], answer)
  expect(stdout.toString().split('\n')[0]).toBe('2026-11-22T10:00:00.000Z         r7            2 "a\\nb"')
  expect(seen[0]?.target).toBe('/kv/v1/b?prefix=p%2F&limit=5&reverse=true')
  expect((await run(['ls', 'b', '--values'])).stdout.toString()).toBe('"a\\nb"\thi\nb\tbase64:/w==\n')
  const json = (await run(['ls', 'b', '--values', '--json'])).stdout.toString().trim().split('\n')
  expect(JSON.parse(json[1] ?? '')).toEqual({ key: 'b', ...attributes, value: '/w==' })
})

it('watches until it is told that the changes are gone', async () => {
  const event = { type: 'put', revision: 18, key: 'k', etag: 'e', size: 4 }
  const answer = (response: ServerResponse): void => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.end(`id: 18\nevent: put\ndata: ${JSON.stringify(event)}\n\nevent: gone\ndata: {"detail":"too old"}\n\n`)
  }
  const { code, stdout, stderr, seen } = await run(['watch', 'b', '--from', '18'], answer)
  expect([code, stdout.toString()]).toEqual([1, 'r18 put k (4 bytes)\n'])
  expect(stderr).toBe('tidegate: RevisionGone: too old\n')
  expect(seen[0]?.target).toBe('/kv/v1/b?watch=true&from=18')
  expect(JSON.parse((await run(['watch', 'b', '--from', '1', '--json'])).stdout.toString())).toEqual(event)
})

it('deletes, and says in JSON what that did', async () => {
  const answer = (response: ServerResponse): void =>
    void response.writeHead(204, { 'x-tidegate-existed': 'true', 'x-tidegate-revision': '9' }).end()
  expect((await run(['delete', 'b/k'], answer)).stdout.toString()).toBe('')
  const { stdout } = await run(['delete', 'b/k', '--json'])
  expect(JSON.parse(stdout.toString())).toEqual({ key: 'k', existed: true, revision: 9 })
})

it('shows the code and the detail of what is refused, with exit code 1', async () => {
  const refused = (response: ServerResponse): void => sendProblem(response, 412, 'PreconditionFailed')
  expect(await run(['put', 'b/k', '--if-match', 'x'], refused)).toMatchObject({
    code: 1,
    stderr: 'tidegate: PreconditionFailed: a detail of PreconditionFailed\n',
  })
  await gateway?.close()
  gateway = undefined
  const absent = (response: ServerResponse): void => sendProblem(response, 404, 'NoSuchKey')
  expect(await run(['get', 'b/k'], absent)).toMatchObject({
    code: 1,
    stderr: 'tidegate: NoSuchKey: no value "k" in b\n',
  })
})

it.each([
  [[], 'kv wants one of get, put'],
  [['gte'], 'kv knows no gte, did you mean get?'],
  [['get'], 'BUCKET/KEY is missing'],
  [['get', 'bucket'], 'names no key'],
  [['get', '/key'], 'names no bucket'],
  [['get', 'b/k', 'x'], 'one argument too many'],
  [['put', 'b/k', '/does/not/exist'], 'cannot read /does/not/exist'],
  [['put', 'b/k', '-', 'x'], 'one argument too many'],
  [['put', 'b/k', '--ttl', 'soon'], '--ttl "soon" is not a number of seconds'],
  [['put', 'b/k', '--meta', 'x'], 'not of the form NAME=VALUE'],
  [['put', 'b/k', '--ack', 'never'], '--ack is one of'],
  [['ls', 'b', '--limit', '-1'], '--limit'],
  [['watch', 'b', '--from', 'now'], '--from "now" is not a whole number'],
  [['delete', 'b/k', '--made-up'], '--made-up'],
])('refuses %j with exit code 2, before it asks anybody', async (argv, message) => {
  const result = await run(argv)
  expect(result).toMatchObject({ code: 2, stdout: Buffer.alloc(0), seen: [] })
  expect(result.stderr).toContain(message)
})

it('ends without a word when its reader has seen enough', async () => {
  gateway = await fakeGateway((response) => response.end(Buffer.alloc(1_000_000)))
  let stderr = ''
  const code = await runCli({
    argv: ['kv', 'get', 'b/k'],
    env: { TIDEGATE_GATEWAY: gateway.url, TIDEGATE_TOKEN: 'x' },
    stdout: new Writable({
      write(_chunk, _encoding, callback) {
        callback(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }))
      },
    }),
    stderr: { write: (text) => (stderr += String(text)) },
    serve: () => Promise.reject(new Error('not to be served')),
  })
  expect([code, stderr]).toEqual([0, ''])
})

it('shows names that cannot move the cursor', () => {
  expect(['a b', 'ü/日', 'a\u001b[2J', 'a\u2028'].map(shownName)).toEqual(['a b', 'ü/日', '"a\\u001b[2J"', '"a\u2028"'])
})
