/** Programs that the benchmarks run: only they touch mounts, since nobody could end a run that waits for a dead one by itself. */
import { execFile, spawnSync } from 'node:child_process'
import { whenEnding } from './ending.ts'

const PROGRAM_MS_MAX = 300_000
const OUTPUT_BYTES_MAX = 64 * 2 ** 20

export interface ProgramResult {
  readonly stdout: string
  /** From before it was started until after it had ended. */
  readonly seconds: number
}

/**
 * One that takes too long is killed and not waited for: in a call to a mount that does not answer it dies only with the mount's server.
 *
 * @throws with what it said on stderr, when it fails or takes too long
 */
export function runProgram(program: string, words: readonly string[]): Promise<ProgramResult> {
  // Dates and messages look the same on every machine, and nobody's settings count.
  const env = { ...process.env, LC_ALL: 'C', TZ: 'UTC' }
  const options = { env, maxBuffer: OUTPUT_BYTES_MAX, killSignal: 'SIGKILL' } as const
  return new Promise((resolve, reject) => {
    const fail = (why: string): void => reject(new Error(`${program}: ${why} (${words.join(' ')})`))
    const startedMs = performance.now()
    const child = execFile(program, [...words], options, (error, stdout, stderr) => {
      const seconds = (performance.now() - startedMs) / 1000
      clearTimeout(overdue)
      done()
      if (error === null) resolve({ stdout, seconds })
      else fail(stderr.trim() || firstLineOf(stdout) || `ended with ${error.code ?? error.signal}`)
    })
    const overdue = setTimeout(() => {
      child.kill('SIGKILL')
      fail(`not done within ${PROGRAM_MS_MAX / 1000} s`)
    }, PROGRAM_MS_MAX)
    const done = whenEnding(() => void child.kill('SIGKILL'))
  })
}

/** Where fio says what went wrong, before its report. */
function firstLineOf(text: string): string {
  return text.trim().split('\n', 1)[0] ?? ''
}

export function isInstalled(program: string): boolean {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined
}
