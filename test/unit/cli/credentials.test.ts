import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { runCli } from '../../../src/cli/run.ts'
import { rootUser } from '../../../src/config/credentials.ts'
import { openDataDirectory } from '../../../src/config/data-directory.ts'
import type { CommandOutput } from '../../support/token-port.ts'

let folder = ''

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tidegate-credentials-command-'))
})

afterEach(() => {
  rmSync(folder, { recursive: true })
})

async function credentials(argv: readonly string[], env: Record<string, string> = {}): Promise<CommandOutput> {
  const written = { stdout: '', stderr: '' }
  const into = (stream: 'stdout' | 'stderr') => ({
    write: (text: string | Uint8Array) => {
      written[stream] += String(text)
    },
  })
  const code = await runCli({
    argv: ['credentials', ...argv],
    env: { TIDEGATE_DATA: folder, ...env },
    stdout: into('stdout'),
    stderr: into('stderr'),
    serve: () => Promise.reject(new Error('not to be served')),
  })
  return { code, ...written }
}

function inFile(name: string, text: string): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

it('prints what the first start has made, while the gateway has the data directory', async () => {
  const directory = await openDataDirectory(folder)
  try {
    const made = await rootUser(undefined, folder)
    const expected = `export AWS_ACCESS_KEY_ID='${made.accessKey}'\nexport AWS_SECRET_ACCESS_KEY='${made.secretKey.reveal()}'\n`
    expect(await credentials([])).toEqual({ code: 0, stdout: expected, stderr: '' })
  } finally {
    await directory.close()
  }
})

it('prints what is given, before what is kept', async () => {
  await rootUser(undefined, folder)
  const given = { TIDEGATE_ROOT_USER: 'tide', TIDEGATE_ROOT_PASSWORD: 'a long secret' }
  expect((await credentials([], given)).stdout).toContain("export AWS_SECRET_ACCESS_KEY='a long secret'\n")
  const files = {
    MINIO_ROOT_USER_FILE: inFile('user', 'tide-of-file\n'),
    TIDEGATE_ROOT_PASSWORD_FILE: inFile('password', 'a secret in a file\n'),
  }
  expect(JSON.parse((await credentials(['--json'], files)).stdout)).toEqual({
    accessKeyId: 'tide-of-file',
    secretAccessKey: 'a secret in a file',
    region: 'us-east-1',
  })
})

it('says the region where it is not what clients sign for by themselves', async () => {
  const given = { TIDEGATE_ROOT_USER: 'tide', TIDEGATE_ROOT_PASSWORD: 'a long secret' }
  expect((await credentials([], given)).stdout).not.toContain('REGION')
  expect((await credentials(['--region', 'eu-1'], given)).stdout).toContain("export AWS_REGION='eu-1'\n")
})

it.each(["it's a 'secret'", '$(id) `id` "quoted" \\', "'; exit 7 #", ' spaces  and *'])(
  'writes what a shell takes as it was: %s',
  async (secret) => {
    const { stdout } = await credentials([], { TIDEGATE_ROOT_USER: 'tide', TIDEGATE_ROOT_PASSWORD: secret })
    const shell = spawnSync('sh', ['-c', `${stdout}printf %s "$AWS_SECRET_ACCESS_KEY"`], { encoding: 'utf8' })
    expect(shell).toMatchObject({ status: 0, stdout: secret, stderr: '' })
  },
)

it('fails in words where there are none, and makes none', async () => {
  for (let time = 0; time < 2; time++) {
    const { code, stdout, stderr } = await credentials([])
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toBe(
      `tidegate: there are no credentials yet: none are given, and the first start of "tidegate serve" makes ${folder}/credentials\n`,
    )
  }
})

it('refuses what it does not know, and a file that holds none', async () => {
  const unknown = await credentials(['--jsno'])
  expect(unknown).toMatchObject({ code: 2, stdout: '' })
  expect(unknown.stderr).toContain('unknown option --jsno')
  inFile('credentials', '{"accessKey":"a","secretKey":7}')
  const broken = await credentials([])
  expect(broken).toMatchObject({ code: 2, stdout: '' })
  expect(broken.stderr).toContain('holds no accessKey and secretKey')
})
