/**
 * `npm test [-- SUITE...]`: every suite but the hygiene tests (those are part of `npm run check`), with a last line that
 * says `N passed, N failed, N skipped` over all of them.
 *
 * A test file that needs a program which npm does not bring says so in a line `// needs: aws strace`. What is missing is
 * installed first where that can be done (root on Debian or Ubuntu); otherwise the run says what to install and skips
 * those files, or, with CI=true, counts each as failed: a green CI has run everything.
 */
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { hasEngine } from './compose/engine/engine.ts'
import { installEnginePrograms } from './compose/engine/programs.ts'
import { REPOSITORY, runCommand, summaryLine } from './support/run-command.ts'

/** So many of a suite's files run at once: what reckons has one for each of the two processors of a small machine, what mostly waits one more. */
const SUITES = {
  unit: { atOnce: 2 },
  conformance: { atOnce: 3 },
  model: { atOnce: 2 },
  sim: { atOnce: 2 },
  linearizability: { atOnce: 2 },
  acceptance: { atOnce: 2 },
  cluster: { atOnce: 2 },
  compose: { atOnce: 1 },
  rdma: { atOnce: 1 },
  'write-behind': { atOnce: 2 },
  fuzz: { atOnce: 2 },
} as const satisfies Record<string, { readonly atOnce: number }>
type Suite = keyof typeof SUITES
const SUITE_NAMES = Object.keys(SUITES) as Suite[]
const SUITE_TIMEOUT_MS = 1_800_000
const INSTALL_TIMEOUT_MS = 300_000
const QUIETLY = { show: false, timeoutMs: INSTALL_TIMEOUT_MS, env: { DEBIAN_FRONTEND: 'noninteractive' } }

/** How to see that a program is there and works, and the Debian package that brings it. */
interface Program {
  readonly probe: readonly [string, ...string[]]
  readonly debian: string
  /**
   * Installing it would start a daemon. So it is only unpacked, below the ignored `node_modules`, and tests are told by this variable of the
   * environment where the program lies.
   */
  readonly unpacked?: { readonly variable: string; readonly path: string }
  /** For one that takes more than a package. */
  readonly own?: {
    isUsable(): Promise<boolean>
    /** @returns what went wrong, if anything */
    install(): Promise<string | undefined>
  }
}

const UNPACKED = join(REPOSITORY, 'node_modules', '.cache', 'tidegate')
const ETCD = 'TIDEGATE_ETCD'
const PROGRAMS: Readonly<Record<string, Program>> = {
  aws: { probe: ['aws', '--version'], debian: 'awscli' },
  getfattr: { probe: ['getfattr', '--version'], debian: 'attr' },
  strace: { probe: ['strace', '-V'], debian: 'strace' },
  curl: { probe: ['curl', '--version'], debian: 'curl' },
  cc: { probe: ['cc', '--version'], debian: 'build-essential' },
  fusermount3: { probe: ['fusermount3', '-V'], debian: 'fuse3' },
  openssl: { probe: ['openssl', 'version'], debian: 'openssl' },
  git: { probe: ['git', '--version'], debian: 'git' },
  rsync: { probe: ['rsync', '--version'], debian: 'rsync' },
  sqlite3: { probe: ['sqlite3', '--version'], debian: 'sqlite3' },
  rclone: { probe: ['rclone', 'version'], debian: 'rclone' },
  s3cmd: { probe: ['s3cmd', '--version'], debian: 's3cmd' },
  etcd: {
    probe: ['sh', '-c', `"\${${ETCD}:-etcd}" --version`],
    debian: 'etcd-server',
    unpacked: { variable: ETCD, path: 'usr/bin/etcd' },
  },
  docker: {
    probe: ['docker', 'version'],
    debian: 'docker.io',
    own: { isUsable: hasEngine, install: installEnginePrograms },
  },
  iptables: { probe: ['iptables', '--version'], debian: 'iptables' },
  tc: { probe: ['tc', '-V'], debian: 'iproute2' },
  nsenter: { probe: ['nsenter', '--version'], debian: 'util-linux' },
  'mkfs.ext4': { probe: ['mkfs.ext4', '-V'], debian: 'e2fsprogs' },
  losetup: { probe: ['losetup', '--version'], debian: 'mount' },
  setpriv: { probe: ['setpriv', '--version'], debian: 'util-linux' },
  python3: { probe: ['python3', '--version'], debian: 'python3' },
  'qemu-system-x86_64': { probe: ['qemu-system-x86_64', '--version'], debian: 'qemu-system-x86' },
  rdma: { probe: ['rdma', '-V'], debian: 'iproute2' },
  // With its headers. Not rdma-core, which would upgrade systemd.
  libfabric: { probe: ['test', '-e', '/usr/include/rdma/fabric.h'], debian: 'libfabric-dev' },
}

interface Counts {
  passed: number
  failed: number
  skipped: number
}

/** What of vitest's JSON report is read here. */
interface Report {
  readonly success: boolean
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly numTodoTests: number
}

async function isUsable(program: string): Promise<boolean> {
  const known = PROGRAMS[program]
  if (known === undefined) throw new Error(`a test needs ${program}, which test/run.ts does not know`)
  if (known.own !== undefined) return await known.own.isUsable()
  if (known.unpacked !== undefined) useUnpacked(known.debian, known.unpacked)
  return (await runCommand(known.probe, { show: false, timeoutMs: 30_000 })).code === 0
}

/** What an earlier run has unpacked is used, unless the environment says otherwise. */
function useUnpacked(debian: string, { variable, path }: NonNullable<Program['unpacked']>): void {
  const program = join(UNPACKED, debian, path)
  if (process.env[variable] === undefined && existsSync(program)) process.env[variable] = program
}

/** A package's files without what installing it does. @returns what went wrong, if anything */
async function unpack(debian: string): Promise<string | undefined> {
  const directory = join(UNPACKED, debian)
  mkdirSync(directory, { recursive: true })
  const script = 'cd "$1" && apt-get download -q "$2" && dpkg-deb -x ./*.deb . && rm ./*.deb'
  const done = await runCommand(['sh', '-c', script, 'unpack', directory, debian], QUIETLY)
  return done.code === 0 ? undefined : done.output
}

/** Programs that test files ask for and that cannot be used, after an attempt to install them. */
async function missingPrograms(needed: ReadonlySet<string>): Promise<Set<string>> {
  const missing = new Set<string>()
  for (const program of needed) if (!(await isUsable(program))) missing.add(program)
  if (missing.size === 0) return missing
  const packages = [...missing].map((program) => PROGRAMS[program]?.debian ?? program)
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) {
    console.log(`missing: ${[...missing].join(', ')}; on Debian or Ubuntu: apt-get install ${packages.join(' ')}`)
    return missing
  }
  console.log(`installing ${packages.join(' ')}`)
  await runCommand(['apt-get', 'update', '-q'], QUIETLY)
  const isUnpacked = (debian: string): boolean =>
    Object.values(PROGRAMS).some((program) => program.debian === debian && program.unpacked !== undefined)
  const isOwn = (debian: string): boolean =>
    Object.values(PROGRAMS).some((program) => program.debian === debian && program.own !== undefined)
  const installed = packages.filter((debian) => !isUnpacked(debian) && !isOwn(debian))
  if (installed.length > 0) {
    const options = ['-q', '-y', '--no-install-recommends']
    const done = await runCommand(['apt-get', 'install', ...options, ...installed], QUIETLY)
    if (done.code !== 0) console.log(done.output)
  }
  for (const debian of packages.filter(isUnpacked)) console.log((await unpack(debian)) ?? `${debian} is unpacked`)
  for (const program of missing) {
    const { own, debian } = PROGRAMS[program] ?? {}
    if (own !== undefined) console.log((await own.install()) ?? `${debian} is unpacked`)
  }
  for (const program of missing) if (await isUsable(program)) missing.delete(program)
  return missing
}

function needsOf(file: string): string[] {
  const line = /^\/\/ needs: (.+)$/m.exec(readFileSync(join(REPOSITORY, file), 'utf8'))
  return line?.[1]?.trim().split(/[\s,]+/) ?? []
}

async function runSuite(suite: Suite, files: readonly string[], reports: string): Promise<Counts> {
  console.log(`\n== ${suite}`)
  const { runnable, counts } = withoutMissing(files)
  if (runnable.length === 0) return counts
  const outputFile = join(reports, `${suite}.json`)
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${outputFile}`]
  const command = ['vitest', 'run', `--maxWorkers=${SUITES[suite].atOnce}`, ...reporters, ...runnable] as const
  const { code } = await runCommand(command, { show: true, timeoutMs: SUITE_TIMEOUT_MS })
  add(counts, countsOf(outputFile, code))
  return counts
}

function countsOf(outputFile: string, code: number): Counts {
  if (!existsSync(outputFile)) return { passed: 0, failed: 1, skipped: 0 }
  const report = JSON.parse(readFileSync(outputFile, 'utf8')) as Report
  // A file that does not load, or an error outside of any test, fails the run without a failed test.
  const failedElsewhere = code !== 0 && report.numFailedTests === 0 ? 1 : 0
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + failedElsewhere,
    skipped: report.numPendingTests + report.numTodoTests,
  }
}

/** Says which files cannot be run, and counts them. */
function withoutMissing(files: readonly string[]): { runnable: string[]; counts: Counts } {
  const runnable = files.filter((file) => !needsOf(file).some((program) => missing.has(program)))
  for (const file of files) {
    if (!runnable.includes(file))
      console.log(`${mustHaveAll ? 'FAILED' : 'skipped'}: ${file} needs ${needsOf(file).join(', ')}`)
  }
  const left = files.length - runnable.length
  return { runnable, counts: { passed: 0, failed: mustHaveAll ? left : 0, skipped: mustHaveAll ? 0 : left } }
}

function add(to: Counts, counts: Counts): void {
  to.passed += counts.passed
  to.failed += counts.failed
  to.skipped += counts.skipped
}

const chosen = process.argv.slice(2)
const unknown = chosen.find((name) => !Object.hasOwn(SUITES, name))
if (unknown !== undefined) {
  console.error(`no such suite: ${unknown}; there are ${SUITE_NAMES.join(', ')}`)
  process.exit(2)
}

const chosenSuites = SUITE_NAMES.filter((suite) => chosen.length === 0 || chosen.includes(suite))
const filesBySuite = new Map(
  chosenSuites.map((suite) => [suite, globSync(`test/${suite}/**/*.test.ts`, { cwd: REPOSITORY }).sort()]),
)
const allFiles = [...filesBySuite.values()].flat()
const missing = await missingPrograms(new Set(allFiles.flatMap(needsOf)))
const mustHaveAll = process.env['CI'] === 'true'
const totals: Counts = { passed: 0, failed: 0, skipped: 0 }
const reports = mkdtempSync(join(tmpdir(), 'tidegate-test-'))
try {
  for (const [suite, files] of filesBySuite) add(totals, await runSuite(suite, files, reports))
} finally {
  rmSync(reports, { recursive: true })
}
// No test at all is not a success.
if (allFiles.length === 0) totals.failed += 1
console.log(`\n${summaryLine(totals)}`)
process.exitCode = totals.failed === 0 ? 0 : 1
