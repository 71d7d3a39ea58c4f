/** What the end of `npm ci` does in a checkout (`prepare` of package.json), on machines that have a compiler and on others. */
import { execFile } from 'node:child_process'
import { chmodSync, cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ADDON_NAMES } from '../../../src/common/native-addon.ts'
import { REPOSITORY } from '../../support/run-command.ts'

const { prepare = '' } = (
  JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')) as { scripts: Record<string, string> }
).scripts
/** Takes anything for C, but finds no libfabric. */
const COMPILER = `#!/bin/sh
case "$*" in *native/fabric/*) echo 'fabric.c:1:10: fatal error: rdma/fabric.h: No such file or directory' >&2; exit 1;; esac
while [ "$1" != -o ]; do shift; done
: > "$2"
`

let checkout: string
beforeEach(() => {
  checkout = mkdtempSync(join(tmpdir(), 'tidegate-checkout-'))
  writeFileSync(join(checkout, 'package.json'), '{"type":"module"}')
  for (const path of globSync(['src/common/{build-addons,native-addon,compiler-errors}.ts', 'native/*/*.{c,h}'], {
    cwd: REPOSITORY,
  })) {
    mkdirSync(dirname(join(checkout, path)), { recursive: true })
    cpSync(join(REPOSITORY, path), join(checkout, path))
  }
  writeFileSync(join(checkout, 'compiler'), COMPILER)
  chmodSync(join(checkout, 'compiler'), 0o755)
  // Where its headers are looked for first.
  mkdirSync(join(checkout, 'node_modules/node-linux-any'), { recursive: true })
  const include = join(checkout, 'node_modules/node-linux-any/include/node')
  mkdirSync(include, { recursive: true })
  for (const header of ['node_api.h', 'uv.h']) writeFileSync(join(include, header), '')
})
afterEach(() => rmSync(checkout, { recursive: true }))

/** Rejects when it fails. */
async function prepared(compiler: string, path = dirname(process.execPath)): Promise<string[]> {
  const env = { PATH: [path, '/usr/bin', '/bin'].join(delimiter), CC: compiler }
  const { stdout, stderr } = await promisify(execFile)('sh', ['-c', prepare], { cwd: checkout, env, timeout: 60_000 })
  expect(stderr).toBe('')
  return stdout.trimEnd().split('\n')
}

test('builds what can be built, and says in one line what is missing for the rest', async () => {
  const built = ADDON_NAMES.filter((name) => name !== 'fabric')
  const lines = [
    `built: ${built.map((name) => `native/${name}`).join(', ')}`,
    'native/fabric: not built: rdma/fabric.h is missing (Debian: apt install libfabric-dev); nodes speak over TCP',
  ]
  expect(await prepared(join(checkout, 'compiler'))).toEqual(lines)
  expect(globSync('native/*/build/*', { cwd: checkout })).toHaveLength(built.length)
  expect(await prepared(join(checkout, 'compiler'))).toEqual(lines)
})

test('fails no installation without a compiler', async () => {
  const lines = await prepared('no-such-compiler')
  expect(lines).toHaveLength(ADDON_NAMES.length)
  for (const line of lines)
    expect(line).toMatch(/^native\/\w+: not built: there is no C compiler no-such-compiler \(Debian: .*\); /)
})

test('nor where the sources are not there yet, or Node is one that cannot run them', async () => {
  const lines = ['native addons: not built now, but when they are first wanted']
  rmSync(join(checkout, 'src'), { recursive: true })
  expect(await prepared('cc')).toEqual(lines)
  mkdirSync(join(checkout, 'bin'))
  writeFileSync(join(checkout, 'bin/node'), '#!/bin/sh\necho "TypeError: Unknown file extension" >&2; exit 1\n')
  chmodSync(join(checkout, 'bin/node'), 0o755)
  expect(await prepared('cc', join(checkout, 'bin'))).toEqual(lines)
})
