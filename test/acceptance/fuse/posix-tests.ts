/**
 * Runs the public POSIX suite, pjd/pjdfstest, in a mount of its own:
 *
 *     npm run posix-tests -- --suite DIR [--filter TEXT ...] [--jobs N] [--log FILE]
 *
 * DIR is a checkout of the suite (it is not part of this repository); it is built in a copy if it is not built yet, with
 * autoconf, automake, make and a C compiler. Must be run by root, since the tests change users. `--filter` runs only the
 * scripts whose names contain one of the texts. Every assertion counts. Those in lists/posix-not-applicable.txt do not apply, each for
 * the reason that stands there, and count as skipped; so do those that the suite itself skips or expects to fail on Linux.
 * One of the list that passes is reported. Exits 1 when anything else failed, 2 on bad usage.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { startMounted, type MountedGateway } from '../../support/mounted-gateway.ts'
import { summaryLine } from '../../support/run-command.ts'
import { readNotApplicable, type NotApplicable } from './posix/not-applicable.ts'
import { prepareSuite, type Suite } from './posix/suite.ts'
import { readTap, type Assertion } from './posix/tap.ts'

const SCRIPT_SECONDS_MAX = 600
const BUCKET = 'posix-tests'

interface Options {
  readonly suite: string
  readonly filters: readonly string[]
  readonly jobs: number
  readonly log: string | undefined
}

interface Outcome {
  readonly file: string
  readonly assertions: readonly Assertion[]
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      suite: { type: 'string' },
      filter: { type: 'string', multiple: true, default: [] },
      jobs: { type: 'string', default: '2' },
      log: { type: 'string' },
    },
  })
  if (values.suite === undefined) throw new Error('--suite DIR (a checkout of pjd/pjdfstest) is needed')
  if (process.getuid?.() !== 0) throw new Error('the suite changes users, so it is run by root')
  const jobs = Number(values.jobs)
  if (!Number.isInteger(jobs) || jobs < 1) throw new Error('--jobs is a number from 1 on')
  return { suite: values.suite, filters: values.filter, jobs, log: values.log }
}

/** Each script in a directory of its own, so that several can run. Only child processes touch the mount. */
async function runScript(mounted: MountedGateway, suite: Suite, file: string): Promise<Outcome> {
  const directory = join(mounted.mountPoint, BUCKET, file.replaceAll(/\W/g, '-'))
  const script = join(suite.directory, 'tests', file)
  const child = spawn('sh', ['-c', 'mkdir "$0" && cd "$0" && exec sh "$1"', directory, script], {
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  })
  const overdue = setTimeout(() => process.kill(-(child.pid ?? 0), 'SIGKILL'), SCRIPT_SECONDS_MAX * 1000)
  const ended = once(child, 'exit')
  const output = await text(child.stdout)
  await ended
  clearTimeout(overdue)
  return { file, assertions: readTap(output) }
}

async function runAll(options: Options, suite: Suite): Promise<Outcome[]> {
  const { filters } = options
  const files = suite.files.filter((file) => filters.length === 0 || filters.some((part) => file.includes(part)))
  const mounted = await startMounted()
  const outcomes: Outcome[] = []
  try {
    const made = await mounted.shell(`mkdir ${BUCKET} && chmod 0755 ${BUCKET}`)
    if (made.code !== 0) throw new Error(`no bucket could be made: ${made.stderr}`)
    const waiting = files.values()
    const worker = async (): Promise<void> => {
      for (const file of waiting) outcomes.push(await runScript(mounted, suite, file))
    }
    await Promise.all(Array.from({ length: options.jobs }, worker))
    const { exitCode, signalCode } = mounted.gateway.child
    if (exitCode !== null || signalCode !== null) throw new Error(`the gateway ended by ${exitCode ?? signalCode}`)
  } finally {
    await mounted.stop()
  }
  return outcomes.toSorted((one, other) => (one.file < other.file ? -1 : 1))
}

/** Prints what is worth it, and counts. */
function report(outcomes: readonly Outcome[], list: readonly NotApplicable[]): { failed: number } {
  const counts = { passed: 0, failed: 0, skipped: 0 }
  for (const { file, assertions } of outcomes) {
    const listed = new Map(
      list
        .filter((one) => one.file === file)
        .flatMap(({ numbers, reason }) => [...numbers].map((number) => [number, reason] as const)),
    )
    for (const { number, verdict, text: said } of assertions) {
      const reason = listed.get(number)
      const excused = verdict === 'failed' && reason !== undefined
      counts[excused ? 'skipped' : verdict]++
      if (excused) print(`does not apply: ${file} ${number}: ${reason}`)
      else if (verdict === 'failed') print(`FAILED: ${file} ${number} ${said}`)
      else if (verdict === 'passed' && reason !== undefined)
        print(`listed as not applicable, and passes: ${file} ${number}`)
    }
  }
  // Nothing at all is no success.
  if (outcomes.length === 0) counts.failed = 1
  print(summaryLine(counts))
  return counts
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

async function main(): Promise<number> {
  const scratch = mkdtempSync(join(tmpdir(), 'tidegate-posix-'))
  try {
    const options = readOptions()
    const suite = prepareSuite(options.suite, scratch)
    const list = readNotApplicable(readFileSync(new URL('./lists/posix-not-applicable.txt', import.meta.url), 'utf8'))
    const outcomes = await runAll(options, suite)
    if (options.log !== undefined) writeFileSync(options.log, logOf(outcomes))
    return report(outcomes, list).failed === 0 ? 0 : 1
  } catch (error) {
    process.stderr.write(`posix-tests: ${(error as Error).message}\n`)
    return 2
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function logOf(outcomes: readonly Outcome[]): string {
  return outcomes
    .flatMap(({ file, assertions }) =>
      assertions.map(({ number, verdict, text: said }) => `${file} ${number} ${verdict} ${said}\n`),
    )
    .join('')
}

process.exitCode = await main()
