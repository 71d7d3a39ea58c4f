/** The fabric's tests, run in a guest with Soft-RoCE: the same files that run here by TCP, with `verbs`. */
import { existsSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { buildAddon } from '../../../src/common/native-addon.ts'
import { REPOSITORY } from '../../support/run-command.ts'
import { withGuest, type GuestResult } from './guest.ts'

export interface GuestTestsOptions {
  readonly files: readonly string[]
  readonly deadlineMs: number
  readonly onLine?: (line: string) => void
}

export interface GuestTest {
  /** With its file's. */
  readonly name: string
  readonly isPassed: boolean
  readonly durationMs: number
  readonly messages: readonly string[]
}

export interface GuestFile {
  readonly file: string
  readonly passed: number
  readonly failed: number
  readonly durationMs: number
}

export interface GuestTests {
  readonly guest: GuestResult
  readonly tests: readonly GuestTest[]
  readonly files: readonly GuestFile[]
  /** What went wrong beside failed tests. */
  readonly failure: string | undefined
}

/** What a device does within a process, what nodes do with it, and that it is one-sided. */
export const SHORT_FILES: readonly string[] = [
  'test/conformance/fabric-device.test.ts',
  'test/conformance/transport.test.ts',
  'test/rdma/one-sided.test.ts',
]
/** And what becomes of it when processes are stopped and killed. */
export const ALL_FILES: readonly string[] = [...SHORT_FILES, 'test/unit/rdma/fabric/device.test.ts']

const ADDRESS = '10.77.0.1'
const REPORT = 'report.json'
/** What those files also hold to their suites, and what is no other in a guest. */
const NOT_BY_LIBFABRIC = ['within the process', 'over TCP', 'over TLS', 'by a double of a fabric']

/** What of vitest's JSON report is read here. */
interface Report {
  readonly testResults: readonly {
    readonly name: string
    readonly message: string
    readonly startTime: number
    readonly endTime: number
    readonly assertionResults: readonly {
      readonly fullName: string
      readonly status: 'passed' | 'failed' | 'skipped' | 'pending' | 'todo' | 'disabled'
      readonly duration?: number | null
      readonly failureMessages: readonly string[] | null
    }[]
  }[]
}

/** @throws Error when there can be no guest */
export async function runGuestTests({ files, deadlineMs, onLine }: GuestTestsOptions): Promise<GuestTests> {
  // There is no time for a compiler in an emulated processor.
  const { reason } = await buildAddon('fabric')
  if (reason !== undefined) throw new Error(reason)
  const order = { script: scriptOf(files), deadlineMs, onLine }
  return await withGuest(order, (guest, shared) => {
    const path = join(shared, REPORT)
    if (!existsSync(path)) return { guest, tests: [], files: [], failure: guest.failure ?? notRun(guest) }
    const report = JSON.parse(readFileSync(path, 'utf8')) as Report
    const tests = testsOf(report)
    return { guest, tests, files: filesOf(report), failure: guest.failure ?? failureOf(report, tests, guest) }
  })
}

function scriptOf(files: readonly string[]): string {
  const vitest = [
    process.execPath,
    'node_modules/vitest/vitest.mjs',
    'run',
    // For the processes that tests start. Node takes types out of TypeScript by WebAssembly, and one of fifty such processes ends by SIGSEGV in an emulated processor as soon as other threads compile that, without any of ours.
    '--execArgv=--liftoff-only',
    `--testNamePattern=^(?!.*(${NOT_BY_LIBFABRIC.join('|')}))`,
    '--silent=passed-only',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=/guest-share/${REPORT}`,
    ...files,
  ]
  const environment = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: '/root',
    // Of what is started again and again, in the guest's own memory.
    NODE_COMPILE_CACHE: '/dev/shm/compiled',
    NO_COLOR: '1',
    // Without a cursor that moves: it is a console.
    CI: 'true',
    TIDEGATE_TEST_FABRIC: 'verbs',
    TIDEGATE_TEST_FABRIC_ADDRESS: ADDRESS,
  }
  return [
    ...Object.entries(environment).map(([name, value]) => `export ${name}=${quoted(value)}`),
    'exec >/dev/console 2>&1 </dev/null',
    `cd ${quoted(REPOSITORY)} || exit 1`,
    '. test/rdma/guest/soft-roce.sh',
    vitest.map(quoted).join(' '),
    'ended=$?',
    // Where a process crashed.
    "dmesg | grep -E 'segfault|general protection|Oops|BUG:'",
    'exit $ended',
  ].join('\n')
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`
}

function testsOf(report: Report): GuestTest[] {
  return report.testResults.flatMap(({ name: path, assertionResults }) =>
    assertionResults
      // The others are those that the pattern leaves out: no test here is skipped otherwise, which is held by a test (test/tidy).
      .filter(({ status }) => status === 'passed' || status === 'failed')
      .map(({ fullName, status, duration, failureMessages }) => ({
        name: `${relative(REPOSITORY, path)}: ${fullName}`,
        isPassed: status === 'passed',
        durationMs: duration ?? 0,
        messages: failureMessages ?? [],
      })),
  )
}

function filesOf(report: Report): GuestFile[] {
  return report.testResults.map(({ name: path, startTime, endTime, assertionResults }) => ({
    file: relative(REPOSITORY, path),
    passed: assertionResults.filter(({ status }) => status === 'passed').length,
    failed: assertionResults.filter(({ status }) => status === 'failed').length,
    durationMs: endTime - startTime,
  }))
}

/** A file that does not load, a worker that crashed, or a file without a test fails the run without a failed test. */
function failureOf(report: Report, tests: readonly GuestTest[], guest: GuestResult): string | undefined {
  const messages = report.testResults.filter(({ message }) => message !== '').map(({ message }) => message)
  const isFailed = tests.some(({ isPassed }) => !isPassed)
  if (guest.code !== 0 && !isFailed) return [`vitest ended with ${guest.code} in the guest`, ...messages].join('\n')
  return tests.length === 0 ? 'no test ran in the guest' : undefined
}

function notRun(guest: GuestResult): string {
  return `the guest's script ended with ${guest.code} before a test was run`
}
