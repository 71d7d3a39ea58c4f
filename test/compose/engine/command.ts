import { spawn } from 'node:child_process'

export interface CommandOutput {
  /** Exit code; 124 when it took too long and was killed, 127 when it could not be started. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface CommandOptions {
  /** All of it: nothing is taken over from this process. */
  readonly env: Readonly<Record<string, string>>
  readonly timeoutMs: number
  readonly input?: string | undefined
  readonly directory?: string | undefined
}

/** Runs a command, with what it starts in turn: `docker compose` is two processes, and both are ended when it takes too long. Never rejects. */
export function execute(
  [program, ...args]: readonly [string, ...string[]],
  { env, timeoutMs, input = '', directory }: CommandOptions,
): Promise<CommandOutput> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { env, cwd: directory, stdio: 'pipe', detached: true })
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    let isLate = false
    const late = setTimeout(() => {
      isLate = true
      killGroup(child.pid)
      // What has left its group may hold these open for ever.
      child.stdout.destroy()
      child.stderr.destroy()
    }, timeoutMs)
    const done = (code: number, said = ''): void => {
      clearTimeout(late)
      const text = (chunks: readonly Buffer[]): string => Buffer.concat(chunks).toString()
      resolve({ code, stdout: text(stdout), stderr: text(stderr) + said })
    }
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
    child.on('error', (error) => done(127, error.message))
    child.on('close', (code) => (isLate ? done(124, `\nkilled after ${timeoutMs} ms`) : done(code ?? 1)))
    // It may end before it has read all of it.
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
  })
}

/** As `execute`. @returns what it wrote. @throws Error with its errors when it fails */
export async function executed(command: readonly [string, ...string[]], options: CommandOptions): Promise<string> {
  const { code, stdout, stderr } = await execute(command, options)
  if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}: ${stderr.trim() || stdout.trim()}`)
  return stdout
}

function killGroup(leader: number | undefined): void {
  try {
    if (leader !== undefined) process.kill(-leader, 'SIGKILL')
  } catch {
    // It has just ended.
  }
}
