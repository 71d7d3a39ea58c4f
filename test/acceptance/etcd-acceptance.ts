/**
 * `npm run etcd-acceptance [-- SUITE...]`: what clients see of metadata in etcd. The conformance of the ordered store, the model tests of the namespace, and the acceptance
 * suites of S3, KV, the mount and the command line, each test file with an etcd of its own (test/support/metadata-switch.ts). The program is `etcd` of the
 * PATH, or what TIDEGATE_ETCD names. The last line says `N passed, N failed, N skipped` over all of them.
 *
 * What does not apply is left out, each for the reason that stands here; and it is printed.
 */
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { REPOSITORY, runCommand, summaryLine } from '../support/run-command.ts'

const SUITE_MS_MAX = 3_600_000

const SUITES: Readonly<Record<string, readonly string[]>> = {
  conformance: ['test/conformance/ordered-store-etcd.test.ts', 'test/conformance/etcd*.test.ts'],
  model: ['test/model/*.test.ts'],
  s3: ['test/acceptance/s3/*.test.ts'],
  kv: ['test/acceptance/kv/*.test.ts'],
  mount: ['test/acceptance/fuse/**/*.test.ts'],
  cli: ['test/acceptance/cli/*.test.ts'],
}

const LEFT_OUT: Readonly<Record<string, string>> = {
  'test/acceptance/s3/external-remote.test.ts': 'a remote store is refused beside --meta',
  'test/acceptance/cli/backup.test.ts': 'a remote store is refused beside --meta',
  'test/acceptance/cli/restore.test.ts': 'a remote store is refused beside --meta',
  'test/acceptance/attach/*.test.ts': 'buckets are attached by gateways whose metadata are their own',
  'test/acceptance/cli/full-disk.test.ts':
    'what it fills is the disk that metadata lie on; etcd has its own, and its quota',
  'test/acceptance/fuse/posix/tap.test.ts': 'no gateway in it',
  'test/model/listing-etcd.test.ts': 'the short form of what is run here',
}

interface Counts {
  passed: number
  failed: number
  skipped: number
}

interface Report {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly numTodoTests: number
}

function filesOf(patterns: readonly string[]): string[] {
  const files = patterns.flatMap((pattern) => globSync(pattern, { cwd: REPOSITORY })).sort()
  return files.filter((file) => LEFT_OUT[file] === undefined)
}

async function runSuite(name: string, patterns: readonly string[], reports: string): Promise<Counts> {
  const outputFile = join(reports, `${name}.json`)
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${outputFile}`]
  const { code } = await runCommand(['vitest', 'run', ...reporters, ...filesOf(patterns)], {
    show: true,
    timeoutMs: SUITE_MS_MAX,
    env: { TIDEGATE_TEST_META: 'etcd' },
  })
  if (!existsSync(outputFile)) return { passed: 0, failed: 1, skipped: 0 }
  const report = JSON.parse(readFileSync(outputFile, 'utf8')) as Report
  const { numPassedTests: passed, numFailedTests } = report
  // A file that does not load, or an error outside of any test, fails the run without a failed test.
  const failed = code !== 0 && numFailedTests === 0 ? 1 : numFailedTests
  return { passed, failed, skipped: report.numPendingTests + report.numTodoTests }
}

async function main(chosen: readonly string[]): Promise<number> {
  const unknown = chosen.find((name) => SUITES[name] === undefined)
  if (unknown !== undefined) {
    console.error(`no such suite: ${unknown}; there are ${Object.keys(SUITES).join(', ')}`)
    return 2
  }
  const reports = mkdtempSync(join(tmpdir(), 'tidegate-etcd-acceptance-'))
  const totals: Counts = { passed: 0, failed: 0, skipped: 0 }
  const lines: string[] = []
  try {
    for (const [name, patterns] of Object.entries(SUITES)) {
      if (chosen.length > 0 && !chosen.includes(name)) continue
      const counts = await runSuite(name, patterns, reports)
      for (const key of ['passed', 'failed', 'skipped'] as const) totals[key] += counts[key]
      lines.push(`${name}: ${summaryLine(counts)}`)
    }
  } finally {
    rmSync(reports, { recursive: true })
  }
  for (const [file, reason] of Object.entries(LEFT_OUT)) lines.push(`left out: ${file}: ${reason}`)
  console.log(['', ...lines, summaryLine(totals)].join('\n'))
  return totals.failed === 0 && totals.passed > 0 ? 0 : 1
}

process.exitCode = await main(process.argv.slice(2))
