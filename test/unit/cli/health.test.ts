// needs: openssl
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { createServer as createTcpServer, type AddressInfo, type Server as TcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { runCli } from '../../../src/cli/run.ts'
import { makeCertificate } from '../../support/certificate.ts'
import { startTokenPort, type CommandOutput } from '../../support/token-port.ts'

const endings: (() => unknown)[] = []

afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end()
})

async function listening(server: TcpServer, host = '127.0.0.1'): Promise<number> {
  await new Promise<void>((resolve) => {
    server.listen(0, host, resolve)
  })
  server.unref()
  return (server.address() as AddressInfo).port
}

/** Its port on the loopback address, or on `host`. */
async function answering(answer: RequestListener, host?: string): Promise<number> {
  const server: Server = createHttpServer(answer)
  endings.push(() => server.closeAllConnections())
  return await listening(server, host)
}

async function health(argv: readonly string[], env: Record<string, string> = {}): Promise<CommandOutput> {
  const written = { stdout: '', stderr: '' }
  const into = (stream: 'stdout' | 'stderr') => ({
    write: (text: string | Uint8Array) => {
      written[stream] += String(text)
    },
  })
  const serve = (): Promise<void> => Promise.reject(new Error('not to be served'))
  const code = await runCli({
    argv: ['health', ...argv],
    env,
    stdout: into('stdout'),
    stderr: into('stderr'),
    serve,
  })
  return { code, ...written }
}

it('says that the HTTP port of a gateway serves, without credentials', async () => {
  const port = await startTokenPort()
  endings.push(() => port.stop())
  const { host } = new URL(port.url)
  expect(await health(['--http', host])).toEqual({ code: 0, stdout: 'ready\n', stderr: '' })
  expect(await health(['--live'], { TIDEGATE_HTTP: host })).toEqual({ code: 0, stdout: 'live\n', stderr: '' })
})

it('asks whether it is ready, or whether it lives, and hands on what it says', async () => {
  const seen: string[] = []
  const port = await answering(({ method, url, headers }, response) => {
    seen.push(`${method} ${url} ${headers.host} ${headers.authorization}`)
    response.writeHead(url === '/-/healthz' ? 200 : 503).end('no majority of etcd answers\n')
  })
  const flags = ['--http', `127.0.0.1:${port}`]
  const asked = await health(flags)
  expect(asked).toMatchObject({ code: 1, stdout: '' })
  expect(asked.stderr).toBe(
    `tidegate: not ready: http://127.0.0.1:${port}/-/readyz answers 503: no majority of etcd answers\n`,
  )
  expect(await health([...flags, '--live'])).toMatchObject({ code: 0, stdout: 'live: no majority of etcd answers\n' })
  expect(seen).toEqual([`GET /-/readyz 127.0.0.1:${port} undefined`, `GET /-/healthz 127.0.0.1:${port} undefined`])
})

it.each(['0.0.0.0', '[::]', 'localhost'])('reaches a gateway that listens on %s', async (host) => {
  const seen: (string | undefined)[] = []
  const port = await answering(({ headers }, response) => {
    seen.push(headers.host)
    response.end()
  })
  expect(await health(['--http', `${host}:${port}`])).toMatchObject({ code: 0 })
  expect(seen).toEqual([`${host === 'localhost' ? host : '127.0.0.1'}:${port}`])
})

it('speaks https where the gateway does, whatever name its certificate has', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tidegate-health-'))
  endings.push(() => rmSync(folder, { recursive: true }))
  const { certificate, key } = makeCertificate(folder)
  const files = { cert: readFileSync(certificate), key: readFileSync(key) }
  const server = createHttpsServer(files, (_request, response) => void response.end())
  endings.push(() => server.closeAllConnections())
  const port = await listening(server, '127.0.0.2')
  const tls = ['--tls-cert', certificate, '--tls-key', key]
  expect(await health(['--http', `127.0.0.2:${port}`, ...tls])).toEqual({ code: 0, stdout: 'ready\n', stderr: '' })
  const plain = await health(['--http', `127.0.0.2:${port}`])
  expect(plain).toMatchObject({ code: 1, stdout: '' })
})

it('fails in words when nobody answers, or something else does', async () => {
  const unused = createTcpServer()
  const port = await listening(unused)
  await new Promise((resolve) => {
    unused.close(resolve)
  })
  const refused = await health(['--http', `127.0.0.1:${port}`])
  expect(refused).toMatchObject({ code: 1, stdout: '' })
  expect(refused.stderr).toMatch(/^tidegate: cannot reach the gateway at http:\S+: connect ECONNREFUSED [\d.:]+\n$/)

  const other = createTcpServer((socket) => {
    socket.on('error', () => undefined)
    socket.end('220 mail.example.com ESMTP\r\n')
  })
  endings.push(() => other.close())
  const answered = await health(['--http', `127.0.0.1:${await listening(other)}`])
  expect(answered).toMatchObject({ code: 1, stdout: '' })
  expect(answered.stderr).toContain('what answers is no gateway')
})

it('does not wait for long', async () => {
  const port = await answering(() => undefined)
  const began = performance.now()
  const { code, stderr } = await health(['--http', `127.0.0.1:${port}`])
  expect(code).toBe(1)
  expect(stderr).toContain('no answer in 4 seconds')
  expect(performance.now() - began).toBeGreaterThan(3_900)
})

it.each([
  [['--http', '127.0.0.1:0'], '--http: with port 0 only the gateway knows'],
  [['--live', 'x'], 'unexpected argument "x"'],
  [['--htpp', '127.0.0.1:1'], 'did you mean --http?'],
])('refuses %j with exit code 2', async (argv, message) => {
  const { code, stdout, stderr } = await health(argv)
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  expect(stderr).toContain(message)
})

it('loads little, since it is run every few seconds', () => {
  const run = new URL('../../../src/main.ts', import.meta.url)
  const program = `
    const { registerHooks } = await import('node:module')
    const loaded = []
    registerHooks({ load: (url, context, next) => { loaded.push(url); return next(url, context) } })
    process.argv = [process.execPath, 'main.ts', 'health', '--http', '127.0.0.1:1']
    process.on('exit', () => console.log(JSON.stringify(loaded)))
    await import(${JSON.stringify(run.href)})`
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8', env: {} })
  expect(child.stderr).toContain('cannot reach the gateway')
  const loaded = JSON.parse(child.stdout) as string[]
  expect(loaded.filter((url) => url.endsWith('/src/cli/health.ts'))).toHaveLength(1)
  expect(loaded.filter((url) => url.includes('/node_modules/') || /^node:(http|https|tls)$/.test(url))).toEqual([])
  expect(loaded.length).toBeLessThan(50)
})
