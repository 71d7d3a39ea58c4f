import { spawnSync } from 'node:child_process'
import { expect, it } from 'vitest'
import { runCli } from '../../../src/cli/run.ts'
import { GatewayError } from '../../../src/cli/connection.ts'
import { nodeTooOld } from '../../../src/cli/node-version.ts'
import { UsageError } from '../../../src/cli/command.ts'
import { TidegateError } from '../../../src/common/errors.ts'
import { ConfigError } from '../../../src/config/config-error.ts'
import { DataDirectoryInUse, DataDirectoryUnusable } from '../../../src/config/data-directory.ts'
import { configurationPage } from '../../../src/config/documentation.ts'
import { ListenError } from '../../../src/gateway/http/listener.ts'
import { ClusterRefused } from '../../../src/meta/raft/member/cluster-options.ts'
import type { Config } from '../../../src/config/parse.ts'

async function run(
  argv: string[],
  serve: (config: Config) => Promise<void> = () => Promise.reject(new Error('not to be served')),
  env: Record<string, string> = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const written = { stdout: '', stderr: '' }
  const into = (stream: 'stdout' | 'stderr') => ({
    write: (text: string) => {
      written[stream] += text
    },
  })
  const code = await runCli({ argv, env, stdout: into('stdout'), stderr: into('stderr'), serve })
  return { code, ...written }
}

it('serves with the parsed configuration and ends with 0', async () => {
  let served: Config | undefined
  const result = await run(['serve', '--s3', '127.0.0.1:0'], (config) => {
    served = config
    return Promise.resolve()
  })
  expect(result).toEqual({ code: 0, stdout: '', stderr: '' })
  expect(served?.s3.port).toBe(0)
  expect(served?.cacheMemory).toBeGreaterThan(1_000_000)
})

it.each([
  [new ConfigError('bad option'), 2],
  [new DataDirectoryUnusable('newer format'), 2],
  [new DataDirectoryInUse('/data'), 3],
  [new ListenError('cannot listen', undefined), 1],
  [new UsageError('bad usage'), 2],
  [new ClusterRefused('not this one'), 2],
  [new GatewayError('refused'), 1],
  [new TidegateError('InvalidArgument', 'refused'), 1],
  [new Error('boom'), 1],
])('turns %s into exit code %i', async (error, code) => {
  const failing = async (): Promise<void> => {
    throw error
  }
  const result = await run(['serve'], failing)
  expect(result.code).toBe(code)
  expect(result.stderr).toContain(`tidegate: ${error.message}\n`)
  expect(result.stderr.includes('at '), 'a stack only for what was not foreseen').toBe(error.message === 'boom')
})

it.each([
  [['serve', '--dat', 'x'], 'unknown option --dat, did you mean --data?'],
  [['sevre'], 'unknown command sevre, did you mean serve?'],
  [['toString'], 'unknown command toString'],
  [['config'], 'config wants check or docs'],
  [['config', 'toString'], 'config knows no toString'],
  [['config', 'docs', 'x'], 'config docs takes no x'],
  [['config', 'check', '--ack', 'replicated'], 'replicated needs more than one node'],
  [['version', 'x'], 'version takes no x'],
  [['help', 'nothing'], 'unknown command nothing'],
])('refuses %j with exit code 2', async (argv, message) => {
  const result = await run(argv)
  expect(result).toMatchObject({ code: 2, stdout: '' })
  expect(result.stderr).toContain(message)
})

it('shows the commands on stderr when none is given', async () => {
  const result = await run([])
  expect(result.code).toBe(2)
  expect(result.stderr).toContain('usage: tidegate COMMAND')
})

it('helps', async () => {
  for (const argv of [['help'], ['--help'], ['-h']]) {
    const { code, stdout } = await run(argv)
    expect(code).toBe(0)
    for (const command of ['serve', 'health', 'credentials', 'config', 'version', 'help'])
      expect(stdout).toContain(`  ${command}`)
  }
  for (const argv of [
    ['help', 'serve'],
    ['serve', '--help'],
    ['serve', '--data', 'x', '-h'],
  ]) {
    const { code, stdout } = await run(argv)
    expect(code).toBe(0)
    expect(stdout).toContain('usage: tidegate serve [OPTIONS]')
    expect(stdout).toContain('--data DIR')
    expect(stdout).not.toContain('root-password')
    expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(120)
  }
  for (const command of ['health', 'credentials']) {
    const { code, stdout } = await run(['help', command])
    expect(code).toBe(0)
    expect(stdout).toContain(`usage: tidegate ${command} [--`)
    expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(120)
  }
})

it('says its version, checks configurations and prints their page', async () => {
  expect((await run(['version'])).stdout).toMatch(/^tidegate \d+\.\d+\.\d+ \(node \d+\.\d+\.\d+\)\n$/)
  expect((await run(['--version'])).stdout).toMatch(/^tidegate /)
  const env = { TIDEGATE_ROOT_USER: 'tide', TIDEGATE_ROOT_PASSWORD: 'a long secret' }
  const checked = await run(['config', 'check', '--ack', 'memory'], undefined, env)
  expect(checked).toMatchObject({ code: 0, stderr: '' })
  expect(checked.stdout).not.toContain('a long secret')
  expect((await run(['config', 'docs'])).stdout).toBe(configurationPage())
})

it('refuses a Node that is too old, in words', () => {
  expect(nodeTooOld('20.20.2')).toContain('this is Node 20.20.2, and Tidegate needs 24 or newer')
  expect(nodeTooOld('8.0.0')).toBeDefined()
  expect(nodeTooOld('24.0.0')).toBeUndefined()
  expect(nodeTooOld(process.versions.node)).toBeUndefined()
})

it('loads the version check without anything else', () => {
  const url = new URL('../../../src/cli/node-version.ts', import.meta.url).href
  const program = `const { nodeTooOld } = await import(${JSON.stringify(url)}); console.log(nodeTooOld('8.1.0'))`
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })
  expect(child.stdout).toContain('this is Node 8.1.0')
})
