import { spawn } from 'node:child_process'
import { delimiter, join } from 'node:path'

export interface CommandResult {
  /** Exit code; 1 when it was killed. */
  readonly code: number
  /** Output and errors as they came, if they were not passed through. */
  readonly output: string
  readonly durationMs: number
}

export const REPOSITORY: string = join(import.meta.dirname, '..', '..')

/** The project's own tools and its own Node come first, whatever the machine has. */
export const TOOL_PATH: string = [join(REPOSITORY, 'node_modules', '.bin'), process.env['PATH'] ?? ''].join(delimiter)

/** Runs a command in the repository, without a terminal or standard input. Never rejects: what cannot be started exits 127. */
export function runCommand(
  command: readonly [string, ...string[]],
  options: {
    readonly show: boolean
    readonly timeoutMs: number
    readonly env?: Readonly<Record<string, string | undefined>>
  },
): Promise<CommandResult> {
  const startedMs = Date.now()
  const [program, ...args] = command
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: REPOSITORY,
      env: { ...process.env, PATH: TOOL_PATH, ...options.env },
      stdio: ['ignore', options.show ? 'inherit' : 'pipe', options.show ? 'inherit' : 'pipe'],
      timeout: options.timeoutMs,
      killSignal: 'SIGKILL',
    })
    let output = ''
    const collect = (chunk: Buffer): void => {
      output += chunk.toString()
    }
    child.stdout?.on('data', collect)
    child.stderr?.on('data', collect)
    const done = (code: number): void => resolve({ code, output, durationMs: Date.now() - startedMs })
    child.on('error', (error) => {
      output += error.message
      done(127)
    })
    child.on('close', (code, signal) => {
      if (signal !== null) output += `\nkilled by ${signal} after ${Math.round((Date.now() - startedMs) / 1_000)} s`
      done(code ?? 1)
    })
  })
}

/** The line by which .ci/run adds up: always the last one. */
export function summaryLine(counts: { passed: number; failed: number; skipped: number }): string {
  return `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`
}
