/** Runs one of the system's mounting programs, with a deadline. */
import { type ChildProcess, spawn } from 'node:child_process'

export interface ProgramResult {
  /** 127 when it is not there. */
  readonly code: number
  /** What it had to say, on one line. */
  readonly message: string
}

const TIMEOUT_MS = 30_000
const MESSAGE_BYTES_MAX = 4096

/** `descriptor` becomes the program's descriptor 3. Never rejects. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: { readonly descriptor?: number; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<ProgramResult> {
  return new Promise((resolve) => {
    const child: ChildProcess = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe', ...(options.descriptor === undefined ? [] : [options.descriptor])],
      // Messages are shown, and some are compared.
      env: { ...process.env, LC_ALL: 'C', ...options.env },
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    })
    let output = ''
    const collect = (chunk: Buffer): void => {
      if (output.length < MESSAGE_BYTES_MAX) output += chunk.toString()
    }
    child.stdout?.on('data', collect)
    child.stderr?.on('data', collect)
    const done = (code: number, reason: string): void =>
      resolve({ code, message: `${output.trim().replaceAll(/\s*\n\s*/g, '; ')}${reason}` })
    child.on('error', (error) => done(127, error.message))
    // `exit`, not `close`: a daemon that it leaves behind may hold the pipes.
    child.on('exit', (code, signal) => setImmediate(done, code ?? 1, signal === null ? '' : ` (killed by ${signal})`))
  })
}
