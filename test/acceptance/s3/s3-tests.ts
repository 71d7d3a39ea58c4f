/**
 * Runs the public S3 suite, ceph/s3-tests, against a gateway of its own:
 *
 *     npm run s3-tests -- --suite DIR [--gate LIST] [--lists DIR] [--list LIST ...]
 *         [--http | --https] [--test NAME ...] [--log FILE]
 *
 * DIR is a checkout of the suite (it is not part of this repository). Every name in the lists runs once over http and once
 * over https: botocore sends trailing checksums over https only, so the two exercise different framings of a body. Prints
 * for each list how many passed and the names that did not. Exits 1 unless every name of the list LIST passed on each
 * scheme, 2 on bad usage. `--list` runs only these lists, `--test` only
 * these names.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { makeCertificate } from '../../support/certificate.ts'
import { startGateway } from '../../support/gateway-process.ts'
import { gatewayConfiguration, makeUsers, suiteConfiguration } from './public-suite/configuration.ts'
import { preparePython } from './public-suite/python.ts'
import { notPassed, readJunit, report, type SuiteRun } from './public-suite/results.ts'

const TEST_FILE = 's3tests/functional/test_s3.py'
const TEST_SECONDS_MAX = 120

interface Options {
  readonly suite: string
  readonly gate: string | undefined
  readonly lists: ReadonlyMap<string, readonly string[]>
  readonly schemes: readonly ('http' | 'https')[]
  readonly names: readonly string[]
  readonly log: string | undefined
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      suite: { type: 'string' },
      gate: { type: 'string' },
      list: { type: 'string', multiple: true },
      lists: { type: 'string', default: fileURLToPath(new URL('./lists', import.meta.url)) },
      http: { type: 'boolean', default: false },
      https: { type: 'boolean', default: false },
      test: { type: 'string', multiple: true },
      log: { type: 'string' },
    },
  })
  if (values.suite === undefined) throw new Error('--suite DIR (a checkout of ceph/s3-tests) is needed')
  const lists = new Map<string, string[]>()
  for (const file of readdirSync(values.lists).filter((name) => name.endsWith('.txt'))) {
    const lines = readFileSync(join(values.lists, file), 'utf8').split('\n')
    lists.set(
      basename(file, '.txt'),
      lines.filter((line) => line !== ''),
    )
  }
  const absent = [values.gate ?? [], values.list ?? []].flat().find((name) => !lists.has(name))
  if (absent !== undefined) throw new Error(`no list ${absent} in ${values.lists}`)
  const chosen = values.list === undefined ? [...lists.keys()] : [values.gate ?? [], values.list].flat()
  const both = values.http === values.https
  return {
    suite: values.suite,
    gate: values.gate,
    lists,
    schemes: both ? ['http', 'https'] : [values.http ? 'http' : 'https'],
    names: values.test ?? [...new Set(chosen.flatMap((name) => lists.get(name) ?? []))],
    log: values.log,
  }
}

async function runSuite(options: Options, scheme: 'http' | 'https', python: string): Promise<SuiteRun> {
  const scratch = mkdtempSync(join(tmpdir(), 'tidegate-s3-tests-'))
  const users = makeUsers()
  const config = join(scratch, 'tidegate.yaml')
  writeFileSync(config, gatewayConfiguration(users), { mode: 0o600 })
  const flags = ['--config', config]
  if (scheme === 'https') {
    const { certificate, key } = makeCertificate(scratch)
    flags.push('--tls-cert', certificate, '--tls-key', key)
  }
  const data = join(scratch, 'data')
  mkdirSync(data)
  const gateway = await startGateway({ data, flags, logFile: options.log ?? join(scratch, 'gateway.log') })
  try {
    const ini = join(scratch, 's3tests.conf')
    const junit = join(scratch, 'junit.xml')
    writeFileSync(ini, suiteConfiguration(users, gateway.s3), { mode: 0o600 })
    await runPytest(options, python, { ini, junit })
    if (gateway.child.exitCode !== null) throw new Error(`the gateway ended with code ${gateway.child.exitCode}`)
    return readJunit(scheme, readFileSync(junit, 'utf8'))
  } finally {
    await gateway.stop()
    rmSync(scratch, { recursive: true, force: true })
  }
}

async function runPytest(options: Options, python: string, files: { ini: string; junit: string }): Promise<void> {
  const flags = ['-p', 'no:cacheprovider', '-q', '--tb=no', '--no-summary', `--timeout=${TEST_SECONDS_MAX}`]
  const ids = options.names.map((name) => `${TEST_FILE}::${name}`)
  const child = spawn(python, ['-m', 'pytest', ...flags, `--junit-xml=${files.junit}`, ...ids], {
    cwd: options.suite,
    env: {
      ...process.env,
      S3TEST_CONF: files.ini,
      AWS_MAX_ATTEMPTS: '1',
      AWS_RETRY_MODE: 'standard',
      PYTHONDONTWRITEBYTECODE: '1',
      // Nothing of the developer's own AWS set-up may leak into the tests.
      AWS_CONFIG_FILE: '/dev/null',
      AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
      AWS_EC2_METADATA_DISABLED: 'true',
    },
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  const [code] = (await once(child, 'exit')) as [number | null]
  // 0: all passed, 1: some failed. Anything else means that the tests did not run as asked.
  if (code !== 0 && code !== 1) throw new Error(`pytest ended with code ${code}; is ${options.suite} a checkout?`)
}

async function main(): Promise<number> {
  let options: Options
  try {
    options = readOptions()
  } catch (error) {
    process.stderr.write(`s3-tests: ${(error as Error).message}\n`)
    return 2
  }
  const python = preparePython()
  let failed = false
  const asked = options.names.length === 1 ? 'test' : 'tests'
  const lists = [...options.lists].filter(([, names]) => names.every((name) => options.names.includes(name)))
  for (const scheme of options.schemes) {
    process.stdout.write(`${scheme}: running ${options.names.length} ${asked}\n`)
    const run = await runSuite(options, scheme, python)
    for (const [name, names] of lists) process.stdout.write(`${report(run, name, names)}\n`)
    if (lists.length === 0) process.stdout.write(`${report(run, 'given names', options.names)}\n`)
    const gate = lists.length === 0 ? options.names : (options.lists.get(options.gate ?? '') ?? [])
    if (notPassed(run, gate).length > 0) failed = true
  }
  return failed ? 1 : 0
}

process.exitCode = await main()
