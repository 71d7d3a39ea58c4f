/** Trees of files by rclone and s3cmd, as people use them: up, compared, renamed, down again, and away. */
// needs: rclone s3cmd
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { useGateway } from '../../support/gateway-suite.ts'
import { runCommand } from '../../support/run-command.ts'

const KIB = 1024
const SIZES = [0, 1, 400, 4 * KIB, 300 * KIB, 9 * KIB * KIB, 20 * KIB * KIB]
const FILES = 20
const PROGRAM_MS_MAX = 240_000

const suite = useGateway(() => ({ flags: ['--buckets', 'trees'] }))
const at = (...names: string[]): string => join(suite.directory, ...names)

/** Relative path -> content, of every file below. */
function treeOf(folder: string): [string, string][] {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  const paths = files.map((entry) => join(entry.parentPath, entry.name)).sort()
  return paths.map((path) => [relative(folder, path), readFileSync(path, 'base64')])
}

async function run(command: readonly [string, ...string[]], env: NodeJS.ProcessEnv = {}): Promise<string> {
  const { code, output } = await runCommand(command, { show: false, timeoutMs: PROGRAM_MS_MAX, env })
  expect([code, code === 0 ? '' : output], command.join(' ')).toEqual([0, ''])
  return output
}

function rclone(...args: readonly string[]): Promise<string> {
  const { s3, root } = suite.gateway
  const options = { TYPE: 's3', PROVIDER: 'Other', ENDPOINT: s3, REGION: 'us-east-1', FORCE_PATH_STYLE: 'true' }
  const secrets = { ACCESS_KEY_ID: root.accessKey, SECRET_ACCESS_KEY: root.secretKey }
  const env = Object.entries({ ...options, ...secrets }).map(([name, value]) => [`RCLONE_CONFIG_GATE_${name}`, value])
  // rclone cannot load a bundle of certificates that is named for the AWS SDK, and needs none here.
  return run(['rclone', '--config', '/dev/null', '--quiet', ...args], {
    ...Object.fromEntries(env),
    AWS_CA_BUNDLE: undefined,
  })
}

function s3cmd(...args: readonly string[]): Promise<string> {
  return run(['s3cmd', '--config', at('s3cfg'), '--quiet', ...args])
}

beforeAll(() => {
  const files = new Map<string, Buffer>()
  for (const size of SIZES) files.set(join('sizes', `${size}.bin`), randomBytes(size))
  for (let index = 0; index < FILES; index++)
    files.set(join(`folder ${index % 4}`, `ümlaut-${index}+&%41`), randomBytes(1 + index * 700))
  for (const [name, bytes] of files) {
    mkdirSync(dirname(at('tree', name)), { recursive: true })
    writeFileSync(at('tree', name), bytes)
  }
  const { s3, root } = suite.gateway
  const { host } = new URL(s3)
  const settings = { access_key: root.accessKey, secret_key: root.secretKey, host_base: host, host_bucket: host }
  const lines = Object.entries({ ...settings, use_https: 'False', check_ssl_certificate: 'False' })
  writeFileSync(at('s3cfg'), `[default]\n${lines.map(([name, value]) => `${name} = ${value}\n`).join('')}`, {
    mode: 0o600,
  })
})

describe('a tree of files', { timeout: 2 * PROGRAM_MS_MAX }, () => {
  it('goes there and back by rclone', async () => {
    await rclone('copy', at('tree'), 'gate:trees/rclone')
    await rclone('check', '--download', at('tree'), 'gate:trees/rclone')
    await rclone('moveto', 'gate:trees/rclone/folder 1', 'gate:trees/rclone/folder one')
    await rclone('moveto', 'gate:trees/rclone/folder one', 'gate:trees/rclone/folder 1')
    await rclone('sync', 'gate:trees/rclone', at('by-rclone'))
    expect(treeOf(at('by-rclone'))).toEqual(treeOf(at('tree')))
    await rclone('purge', 'gate:trees/rclone')
    expect(await rclone('lsf', '-R', 'gate:trees')).toBe('')
  })

  it('goes there and back by s3cmd', async () => {
    await s3cmd('sync', '--multipart-chunk-size-mb=6', `${at('tree')}/`, 's3://trees/s3cmd/')
    // Nothing is left to do.
    expect(await s3cmd('sync', '--dry-run', '--verbose', `${at('tree')}/`, 's3://trees/s3cmd/')).not.toMatch(
      /upload:|delete:/,
    )
    await s3cmd('mv', 's3://trees/s3cmd/sizes/400.bin', 's3://trees/s3cmd/moved')
    await s3cmd('mv', 's3://trees/s3cmd/moved', 's3://trees/s3cmd/sizes/400.bin')
    mkdirSync(at('by-s3cmd'))
    await s3cmd('sync', 's3://trees/s3cmd/', `${at('by-s3cmd')}/`)
    expect(treeOf(at('by-s3cmd'))).toEqual(treeOf(at('tree')))
    await s3cmd('del', '--recursive', '--force', 's3://trees/s3cmd/')
    expect(await s3cmd('ls', '--recursive', 's3://trees/')).toBe('')
  })
})
