/**
 * Runs fsx, the file system exerciser, in a mount of its own:
 *
 *     npm run fsx -- --program FILE [--operations N] [--seeds A,B,...] [--parallel K] [--no-mmap] [--ack LEVEL] [--two-mounts]
 *
 * FILE is an fsx binary (xfstests' `ltp/fsx` or another of its family; it is not part of this repository). Every seed is a run
 * of N operations on a file of its own, K of them at a time; every other one does without mmap (`-R -W`), with `--no-mmap` all
 * of them. Each msync of a run with mmap waits for the disk as the level says (`--ack memory` does not). fsx compares each read, and the size after each operation, with what it remembers. What a failed run leaves (its
 * operations, what the file should be and what it is, the gateway's log) is kept in a directory that is printed. Exits 1 if
 * a run failed, 2 on bad usage.
 *
 * With `--two-mounts` the file is closed and opened again after each operation, by a path that leads now to the one and now to the other of two neighbours' mounts
 * (needs etcd). Which of them an open meets depends on time: no seed repeats that. An fsx that drops the machine's caches at each close, as xfstests' does by now, would hide
 * what a kernel keeps too long: it must be built without that.
 */
import { execFile } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { Random } from '../../model/random.ts'
import type { GatewayProcess } from '../../support/gateway-process.ts'
import { shell, startMounted } from '../../support/mounted-gateway.ts'
import { summaryLine } from '../../support/run-command.ts'
import { BUCKET as SHARED_BUCKET, SharedGateways } from '../../support/three-gateways.ts'
import { TurningPath } from './two-mounts/turning-path.ts'

const BUCKET = 'fsx'
const MOUNTS = [0, 1]
const CLOSE_EACH_TIME = ['-c', '1']
/** A run that makes fewer is taken to hang. By two mounts each one is a commit and an open that asks etcd. */
const OPERATIONS_PER_SECOND_MIN = { one: 20, two: 2 }
const START_MS_MAX = 120_000

interface Options {
  readonly program: string
  readonly operations: number
  readonly runs: readonly Run[]
  readonly parallel: number
  readonly ack: string
  readonly twoMounts: boolean
}

/** Where the files lie. */
interface Place {
  /** Fsx is told to. */
  readonly flags: readonly string[]
  /** The directory of a run, until it is ended. */
  directory(run: Run): { readonly path: string; end(): void }
  /** @throws when a gateway has ended by itself */
  check(): void
  keepLogs(into: string): void
  stop(): Promise<void>
}

interface Run {
  readonly seed: number
  readonly mmap: boolean
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      program: { type: 'string' },
      operations: { type: 'string', default: '100000' },
      seeds: { type: 'string', default: '1,2,3,4' },
      parallel: { type: 'string', default: '2' },
      'no-mmap': { type: 'boolean', default: false },
      ack: { type: 'string', default: 'journal' },
      'two-mounts': { type: 'boolean', default: false },
    },
  })
  if (values.program === undefined || !existsSync(values.program)) throw new Error('--program FILE (an fsx) is needed')
  const seeds = values.seeds.split(',').map((seed) => wholeNumber('--seeds', seed))
  return {
    program: resolve(values.program),
    operations: wholeNumber('--operations', values.operations),
    runs: seeds.map((seed, index) => ({ seed, mmap: !values['no-mmap'] && index % 2 === 0 })),
    parallel: wholeNumber('--parallel', values.parallel),
    ack: values.ack,
    twoMounts: values['two-mounts'],
  }
}

function wholeNumber(name: string, text: string): number {
  const number = Number(text)
  // Seed 0 would be the time, and so could not be repeated.
  if (!Number.isSafeInteger(number) || number < 1) throw new Error(`${name}: ${text} is no number from 1 on`)
  return number
}

function nameOf({ seed, mmap }: Run): string {
  return `seed-${seed}${mmap ? '' : '-no-mmap'}`
}

/** True when fsx found nothing wrong. Only child processes touch the mount. */
async function runSeed(options: Options, run: Run, place: { place: Place; logs: string }): Promise<boolean> {
  const { operations, program, twoMounts } = options
  const { seed, mmap } = run
  const logs = join(place.logs, nameOf(run))
  mkdirSync(logs)
  const directory = place.place.directory(run)
  const file = join(directory.path, nameOf(run))
  const usual = ['-q', '-N', String(operations), '-S', String(seed), '-P', logs, ...(mmap ? [] : ['-R', '-W'])]
  const startedMs = Date.now()
  const { code, output } = await runFsx(program, [...usual, ...place.place.flags, file], {
    timeoutMs: START_MS_MAX + (operations / OPERATIONS_PER_SECOND_MIN[twoMounts ? 'two' : 'one']) * 1000,
  })
  const passed = code === 0
  const seconds = Math.max(1, Math.round((Date.now() - startedMs) / 1000))
  const how = `seed ${seed} ${mmap ? 'with mmap' : 'without mmap'}`
  print(`${passed ? 'passed' : `FAILED (${code})`}: ${how}, ${operations} operations in ${seconds} s`)
  if (!passed) {
    writeFileSync(join(logs, 'output'), output)
    await shell(`cp ${JSON.stringify(file)} ${JSON.stringify(join(logs, 'file'))}`)
  }
  directory.end()
  if (passed) return true
  print(output.split('\n').slice(0, 5).join('\n'))
  return false
}

function runFsx(
  program: string,
  args: readonly string[],
  { timeoutMs }: { timeoutMs: number },
): Promise<{ code: number | string; output: string }> {
  return new Promise((done) => {
    const limits = { timeout: timeoutMs, killSignal: 'SIGKILL' as const, maxBuffer: 256 * 1024 * 1024 }
    execFile(program, args, limits, (error, stdout, stderr) => {
      done({ code: error === null ? 0 : (error.code ?? error.signal ?? 'unknown'), output: stdout + stderr })
    })
  })
}

async function inOneMount({ ack }: Options): Promise<Place> {
  const mounted = await startMounted(['--ack', ack])
  const made = await mounted.shell(`mkdir ${BUCKET}`)
  if (made.code !== 0) {
    await mounted.stop()
    throw new Error(`no bucket could be made: ${made.stderr}`)
  }
  return {
    flags: [],
    directory: () => ({ path: join(mounted.mountPoint, BUCKET), end: () => undefined }),
    check: () => hasNotEnded(mounted.gateway),
    keepLogs: (into) => copyFileSync(join(dirname(mounted.mountPoint), 'log'), join(into, 'gateway-log')),
    stop: () => mounted.stop(),
  }
}

async function inTwoMounts({ ack }: Options): Promise<Place> {
  const gateways = await SharedGateways.start({ mounts: true, flags: ['--ack', ack] })
  const directories = MOUNTS.map((index) => join(gateways.mountPoint(index), SHARED_BUCKET))
  return {
    flags: CLOSE_EACH_TIME,
    directory: (run) => {
      const turning = new TurningPath(gateways.file(`to-${nameOf(run)}`), directories, new Random(run.seed))
      return { path: turning.path, end: () => turning.stop() }
    },
    check: () => {
      for (const index of MOUNTS) hasNotEnded(gateways.of(index))
    },
    keepLogs: (into) => {
      for (const index of gateways.indexes) writeFileSync(join(into, `gateway-log-${index}`), gateways.log(index))
    },
    stop: () => gateways.end(),
  }
}

function hasNotEnded({ child: { exitCode, signalCode } }: GatewayProcess): void {
  if (exitCode !== null || signalCode !== null) throw new Error(`a gateway ended by ${exitCode ?? signalCode}`)
}

async function runAll(options: Options, logs: string): Promise<{ passed: number; failed: number; skipped: number }> {
  const place = await (options.twoMounts ? inTwoMounts(options) : inOneMount(options))
  const counts = { passed: 0, failed: 0, skipped: 0 }
  try {
    const waiting = options.runs.values()
    const worker = async (): Promise<void> => {
      for (const run of waiting) counts[(await runSeed(options, run, { place, logs })) ? 'passed' : 'failed']++
    }
    await Promise.all(Array.from({ length: options.parallel }, worker))
    place.check()
    if (counts.failed > 0) place.keepLogs(logs)
  } finally {
    await place.stop()
  }
  return counts
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

async function main(): Promise<number> {
  const logs = mkdtempSync(join(tmpdir(), 'tidegate-fsx-'))
  let keepsLogs = false
  try {
    const counts = await runAll(readOptions(), logs)
    keepsLogs = counts.failed > 0
    if (keepsLogs) print(`kept: ${logs}`)
    print(summaryLine(counts))
    return keepsLogs ? 1 : 0
  } catch (error) {
    process.stderr.write(`fsx: ${(error as Error).message}\n`)
    return 2
  } finally {
    if (!keepsLogs) rmSync(logs, { recursive: true, force: true })
  }
}

process.exitCode = await main()
