/** How the command starts, and how it says that it cannot: exit codes, words, files and what stays out of the log. */
import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { runTidegate } from '../../support/command-line.ts'
import { startGateway } from '../../support/gateway-process.ts'
import { SMALL_FLAGS, useDirectory, useGateway } from '../../support/gateway-suite.ts'
import { sendSigned } from '../../support/signed-calls.ts'

const ANY_PORTS = ['--s3', '127.0.0.1:0', '--http', '127.0.0.1:0']
const directory = useDirectory()
const suite = useGateway(() => ({ flags: ['--log-level', 'trace', '--access-log', 'info', '--buckets', 'logged'] }))

describe('words', () => {
  it('of version and help go to standard output', async () => {
    const version = await runTidegate(['version'])
    expect([version.code, version.output]).toEqual([0, expect.stringMatching(/^\S*\s*\d+\.\d+\.\d+/)])
    const help = await runTidegate(['help'])
    expect([help.code, help.output]).toEqual([0, expect.stringContaining('serve')])
    const serveHelp = await runTidegate(['help', 'serve'])
    expect(serveHelp.output).toContain('--cache-memory')
  })

  it('of a wrong command name the right one, and the code is 2', async () => {
    const wrong = await runTidegate(['serv'])
    expect([wrong.code, wrong.output]).toEqual([2, expect.stringContaining('serve')])
    expect((await runTidegate([])).code).toBe(2)
  })
})

describe('a configuration that cannot be used ends with 2 and names the option', () => {
  const at = (name: string): string => join(directory.path, name)

  it.each([
    ['an unknown flag', ['--cache-memori', '1GiB'], /--cache-memori.*--cache-memory/s],
    ['a value that is none', ['--cache-memory', 'much'], /--cache-memory/],
    ['half a certificate', ['--tls-cert', '/dev/null'], /--tls-key/],
    ['an absent file', ['--config', '/absent/tidegate.yaml'], /--config.*\/absent\/tidegate\.yaml/s],
  ] as const)('%s', async (_name, flags, words) => {
    const { code, output } = await runTidegate(['serve', '--data', at('unused'), ...ANY_PORTS, ...flags])
    expect([code, output]).toEqual([2, expect.stringMatching(words)])
    expect(output).not.toContain('    at ')
  })

  it.each([
    ['broken YAML', 'users: [', /tidegate\.yaml/],
    ['an unknown key', 'cache-memori: 1GiB', /cache-memori/],
    ['a user without a secret', 'users: [{name: a, accessKey: AKAAAAAAAA}]', /users\[0\]/],
    [
      'an unknown policy',
      'users: [{name: a, accessKey: AKAAAAAAAA, secretKey: long enough to be one, policies: [nobody-knows]}]',
      /nobody-knows/,
    ],
  ] as const)('a file with %s', async (name, text, words) => {
    const folder = at(name.replaceAll(' ', '-'))
    mkdirSync(folder)
    const config = join(folder, 'tidegate.yaml')
    writeFileSync(config, text)
    const { code, output } = await runTidegate(['serve', '--data', at('unused'), ...ANY_PORTS, '--config', config])
    expect([code, output]).toEqual([2, expect.stringMatching(words)])
    expect(output).not.toContain('long enough to be one')
  })

  it('a variable of the environment', async () => {
    const { code, output } = await runTidegate(['serve'], {
      TIDEGATE_CACHE_MEMORY: 'much',
      TIDEGATE_DATA: at('unused'),
    })
    expect([code, output]).toEqual([2, expect.stringContaining('TIDEGATE_CACHE_MEMORY')])
  })

  it('a root password that is too short, or known to everybody, and does not show it', async () => {
    for (const secret of ['short', 'minioadmin']) {
      const { code, output } = await runTidegate(['serve', '--data', at('unused')], { TIDEGATE_ROOT_PASSWORD: secret })
      expect([code, output]).toEqual([2, expect.stringContaining('TIDEGATE_ROOT_PASSWORD')])
      expect(output.replaceAll('TIDEGATE_ROOT_PASSWORD', '')).not.toContain(secret)
    }
  })
})

describe('a data directory', () => {
  it('in use ends with 3, and its owner does not notice', async () => {
    const data = join(suite.directory, 'data')
    const second = await runTidegate(['serve', '--data', data, ...ANY_PORTS])
    expect([second.code, second.output]).toEqual([3, expect.stringContaining(data)])
    const link = join(directory.path, 'link')
    symlinkSync(data, link)
    expect((await runTidegate(['serve', '--data', link, ...ANY_PORTS])).code).toBe(3)
    expect((await sendSigned(suite.gateway, { method: 'GET', target: '/logged' })).status).toBe(200)
  })

  it('that is none of ours, or of a later version, ends with 2 and is left alone', async () => {
    const foreign = join(directory.path, 'foreign')
    mkdirSync(foreign)
    writeFileSync(join(foreign, 'thesis.tex'), 'years of work')
    const refused = await runTidegate(['serve', '--data', foreign, ...ANY_PORTS])
    expect([refused.code, refused.output]).toEqual([2, expect.stringContaining('--data')])
    expect(readFileSync(join(foreign, 'thesis.tex'), 'utf8')).toBe('years of work')
    const later = join(directory.path, 'later')
    mkdirSync(later)
    writeFileSync(join(later, 'FORMAT'), '{"format": 999}')
    const newer = await runTidegate(['serve', '--data', later, ...ANY_PORTS])
    expect([newer.code, newer.output]).toEqual([2, expect.stringContaining('999')])
    const file = join(directory.path, 'file')
    writeFileSync(file, '')
    expect((await runTidegate(['serve', '--data', file, ...ANY_PORTS])).code).toBe(2)
  })
})

it('a port in use ends with 1 and says which', async () => {
  const holder = createServer().listen(0, '127.0.0.1')
  await once(holder, 'listening')
  const { port } = holder.address() as { port: number }
  for (const flags of [
    ['--s3', `127.0.0.1:${port}`, '--http', '127.0.0.1:0'],
    ['--s3', '127.0.0.1:0', '--http', `127.0.0.1:${port}`],
  ]) {
    const { code, output } = await runTidegate([
      'serve',
      '--data',
      join(directory.path, 'port'),
      ...SMALL_FLAGS,
      ...flags,
    ])
    expect([code, output]).toEqual([1, expect.stringContaining(`127.0.0.1:${port}`)])
    expect(output).toContain('in use')
    expect(output).not.toContain('    at ')
  }
  holder.close()
})

describe('secrets', () => {
  it('made at the first start are kept with mode 0600, used, and not logged', async () => {
    const data = join(directory.path, 'first')
    const logFile = join(directory.path, 'first.log')
    const unset = { TIDEGATE_ROOT_USER: '', TIDEGATE_ROOT_PASSWORD: '' }
    const gateway = await startGateway({ data, logFile, flags: SMALL_FLAGS, environment: unset })
    try {
      const file = join(data, 'credentials')
      expect(statSync(file).mode & 0o777).toBe(0o600)
      expect(statSync(data).mode & 0o777).toBe(0o700)
      const made = JSON.parse(readFileSync(file, 'utf8')) as { accessKey: string; secretKey: string }
      expect(made.secretKey.length).toBeGreaterThanOrEqual(40)
      expect((await sendSigned(gateway, { method: 'GET', target: '/', as: made })).status).toBe(200)
      expect(await gateway.stop()).toBe(0)
      expect(readFileSync(logFile, 'utf8')).not.toContain(made.secretKey)
    } finally {
      await gateway.kill()
    }
  })

  it('stay out of the log at every level (lesson 5.2.10)', async () => {
    const headers = { 'x-amz-server-side-encryption-customer-key': 'c2VjcmV0IGtleSBvZiBhIGN1c3RvbWVyIQ==' }
    await sendSigned(suite.gateway, { method: 'PUT', target: '/logged/key', body: 'x', headers })
    await fetch(`${suite.gateway.s3}/logged/key?X-Amz-Signature=feedfacefeedface&X-Amz-Credential=x`)
    const log = readFileSync(join(suite.directory, 'log'), 'utf8')
    expect(log).toContain('/logged/key')
    for (const secret of [
      suite.gateway.root.secretKey,
      headers['x-amz-server-side-encryption-customer-key'],
      'feedface',
      'Signature=',
    ])
      expect(log, secret).not.toContain(secret)
  })
})
