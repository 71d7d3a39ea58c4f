/**
 * The `aws` command, as people use it: whatever version is installed. Files go up and down and are compared byte by byte.
 */
// needs: aws
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'
import { useGateway } from '../../support/gateway-suite.ts'
import { runCommand } from '../../support/run-command.ts'

const COMMAND_MS_MAX = 60_000
/** A dozen commands, each of which takes seconds to start on a busy machine. */
const TEST_MS_MAX = 240_000
const KIB = 1024

const suite = useGateway()
const at = (...names: readonly string[]): string => join(suite.directory, ...names)

/** Output of a command that must succeed. */
async function aws(...args: readonly string[]): Promise<string> {
  const { code, output } = await tryAws(...args)
  if (code !== 0) throw new Error(`aws ${args.join(' ')} ended with ${code}:\n${output}`)
  return output
}

/** No configuration of the machine's user counts. */
function tryAws(...args: readonly string[]): Promise<{ code: number; output: string }> {
  const { gateway } = suite
  return runCommand(['aws', '--endpoint-url', gateway.s3, ...args], {
    show: false,
    timeoutMs: COMMAND_MS_MAX,
    env: {
      AWS_ACCESS_KEY_ID: gateway.root.accessKey,
      AWS_SECRET_ACCESS_KEY: gateway.root.secretKey,
      AWS_DEFAULT_REGION: 'us-east-1',
      AWS_CONFIG_FILE: '/dev/null',
      AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_PAGER: '',
      AWS_MAX_ATTEMPTS: '1',
    },
  })
}

function write(path: string, bytes: Uint8Array | string): string {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, bytes)
  return path
}

/** Relative path -> content, of every file below. */
function treeOf(folder: string): Map<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  return new Map(
    files
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path): [string, string] => [relative(folder, path), readFileSync(path, 'base64')])
      .sort(([left], [right]) => (left < right ? -1 : 1)),
  )
}

describe('aws s3', { timeout: TEST_MS_MAX }, () => {
  it('mb makes a bucket, and ls shows it', async () => {
    await aws('s3', 'mb', 's3://cli')
    expect(await aws('s3', 'ls')).toMatch(/ cli\n/)
    const again = await tryAws('s3', 'mb', 's3://Not_a_Bucket')
    expect([again.code === 0, again.output]).toEqual([false, expect.stringMatching(/bucket/i)])
  })

  it('cp takes files of any size up and down, in parts where it likes (40 MiB)', async () => {
    const sizes = [0, 1, 4 * KIB, 300 * KIB, 9 * KIB * KIB, 40 * KIB * KIB]
    for (const size of sizes) write(at('sizes', `${size}.bin`), randomBytes(size))
    // One command for the small ones: starting it takes longer than the copying.
    await aws('s3', 'cp', '--quiet', '--recursive', at('sizes'), 's3://cli/sizes/')
    await aws('s3', 'cp', '--quiet', '--recursive', 's3://cli/sizes/', at('sizes-back'))
    expect([...treeOf(at('sizes-back')).keys()].sort()).toEqual(sizes.map((size) => `${size}.bin`).sort())
    for (const size of sizes) {
      const name = `${size}.bin`
      expect(readFileSync(at('sizes-back', name)).equals(readFileSync(at('sizes', name))), name).toBe(true)
    }
    expect(await aws('s3', 'ls', '--recursive', 's3://cli/sizes/')).toMatch(/ 41943040 sizes\/41943040\.bin\n/)
    expect(await aws('s3', 'ls', 's3://cli')).toMatch(/PRE sizes\//)
  })

  it('cp copies and mv moves inside the gateway', async () => {
    await aws('s3', 'cp', '--quiet', 's3://cli/sizes/41943040.bin', 's3://cli/copied')
    await aws('s3', 'mv', '--quiet', 's3://cli/copied', 's3://cli/moved')
    await aws('s3', 'cp', '--quiet', 's3://cli/moved', at('moved'))
    expect(readFileSync(at('moved')).equals(readFileSync(at('sizes', '41943040.bin')))).toBe(true)
    expect((await tryAws('s3', 'ls', 's3://cli/copied')).code).not.toBe(0)
  })

  it('sync carries a tree of 400 files with odd names there and back', async () => {
    const odd = [
      'with space',
      'plus+',
      'per%cent',
      '%41',
      'ümlaut',
      '日本語',
      '👋',
      "quote'",
      'double"',
      '&amp;',
      '#hash',
      'semi;',
      'tilde~',
      '.hidden',
      'a=b',
      '(x)',
      '[y]',
      '{z}',
      '$',
      '!',
      ',',
      '@',
      'a\\b',
      '-',
    ]
    for (let index = 0; index < 400; index++) {
      const name = `${odd[index % odd.length]}-${index}`
      const folder = index % 3 === 0 ? '' : `${odd[(index * 7) % odd.length]}/${index % 5}`
      write(at('tree', folder, name), randomBytes(index % 50 === 0 ? 5_000 : 1 + (index % 600)))
    }
    await aws('s3', 'sync', '--quiet', at('tree'), 's3://cli/tree')
    expect(await aws('s3', 'sync', at('tree'), 's3://cli/tree')).toBe('')
    await aws('s3', 'sync', '--quiet', 's3://cli/tree', at('tree-back'))
    const [sent, back] = [treeOf(at('tree')), treeOf(at('tree-back'))]
    expect(sent.size).toBe(400)
    expect([...back.keys()]).toEqual([...sent.keys()])
    expect([...sent.keys()].filter((name) => sent.get(name) !== back.get(name))).toEqual([])
  })

  it('presign makes a URL that anybody can fetch', async () => {
    const url = (await aws('s3', 'presign', 's3://cli/sizes/4096.bin', '--expires-in', '60')).trim()
    const response = await fetch(url)
    expect(response.status).toBe(200)
    expect(Buffer.from(await response.arrayBuffer()).equals(readFileSync(at('sizes', '4096.bin')))).toBe(true)
    expect((await fetch(url.replace('4096.bin', '1.bin'))).status).toBe(403)
  })

  it('rm and rb clear away, and rb wants an empty bucket', async () => {
    await aws('s3', 'rm', '--quiet', 's3://cli/sizes/1.bin')
    expect((await tryAws('s3', 'rb', 's3://cli')).output).toContain('BucketNotEmpty')
    await aws('s3', 'rm', '--quiet', '--recursive', 's3://cli')
    expect((await tryAws('s3', 'ls', '--recursive', 's3://cli')).output).toBe('')
    await aws('s3', 'rb', 's3://cli')
    expect(await aws('s3', 'ls')).not.toContain(' cli\n')
  })
})

describe('aws s3api', { timeout: TEST_MS_MAX }, () => {
  const target = ['--bucket', 'api', '--key', 'k'] as const
  const api = async (...args: readonly string[]): Promise<Record<string, unknown>> => {
    const output = await aws('s3api', ...args, '--output', 'json')
    return output.trim() === '' ? {} : (JSON.parse(output) as Record<string, unknown>)
  }

  it('keeps versions, tags and attributes', async () => {
    await api('create-bucket', '--bucket', 'api')
    await api('put-bucket-versioning', '--bucket', 'api', '--versioning-configuration', 'Status=Enabled')
    expect(await api('get-bucket-versioning', '--bucket', 'api')).toMatchObject({ Status: 'Enabled' })
    const file = write(at('body'), 'first')
    const first = await api('put-object', ...target, '--body', file)
    write(file, 'second!')
    await api('put-object', ...target, '--body', file)
    await api('delete-object', ...target)
    const list = await api('list-object-versions', '--bucket', 'api')
    expect(list['Versions']).toHaveLength(2)
    expect(list['DeleteMarkers']).toHaveLength(1)
    const id = String(first['VersionId'])
    await api('get-object', ...target, '--version-id', id, at('first'))
    expect(readFileSync(at('first'), 'utf8')).toBe('first')

    const tags = { TagSet: [{ Key: 'a', Value: 'b' }] }
    await api('put-object-tagging', ...target, '--version-id', id, '--tagging', JSON.stringify(tags))
    expect(await api('get-object-tagging', ...target, '--version-id', id)).toMatchObject(tags)
    const attributes = ['--object-attributes', 'ETag', 'ObjectSize']
    expect(await api('get-object-attributes', ...target, '--version-id', id, ...attributes)).toMatchObject({
      ObjectSize: 5,
    })
  })

  it('writes under a condition, where the version knows that', async () => {
    const args = ['s3api', 'put-object', '--bucket', 'api', '--key', 'once', '--if-none-match', '*'] as const
    const first = await tryAws(...args)
    if (/unknown options/i.test(first.output)) return
    expect(first.code).toBe(0)
    const second = await tryAws(...args)
    expect([second.code === 0, second.output]).toEqual([false, expect.stringContaining('PreconditionFailed')])
  })
})
