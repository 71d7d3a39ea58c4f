/**
 * A program that ends when this process does, however that ends.
 *
 * `setpriv --pdeathsig TERM` has the kernel signal it when its parent dies, and then becomes the program. Where it is not there a shell stands
 * between: it holds one end of a pipe (its standard input) of which only this process has the other. When that closes, the shell passes on SIGTERM. The shell
 * waits for the program, so as long as the shell is there the program's id is its own.
 *
 * A session of its own keeps what a terminal sends to all of its foreground (Ctrl-C) from reaching it before it is told to stop.
 */
import { execFile, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Readable } from 'node:stream'
import { promisify } from 'node:util'

/** Of the environment nothing else is passed on: no secrets of this process, and no ETCD_... which would be options. */
const PASSED_ON: readonly string[] = ['PATH', 'TMPDIR', 'TZ', 'GOMAXPROCS', 'GOMEMLIMIT', 'GOGC', 'GODEBUG']
/** What 3.4 wants to hear on machines that it was not tested on. */
const ALSO: Readonly<Record<string, string>> = process.arch === 'x64' ? {} : { ETCD_UNSUPPORTED_ARCH: process.arch }

const SHELL = `exec 4<&0
"$@" 3>&- 4<&- </dev/null &
program=$!
echo "$program" >&3
exec 3>&-
{ read -r never <&4; kill -TERM "$program"; } 2>/dev/null &
watch=$!
exec 4<&-
wait "$program"
code=$?
kill "$watch" 2>/dev/null
exit "$code"`

export interface Ending {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export type Bond = 'setpriv' | 'shell'

/** The better one of those that are there. */
export async function strongestBond(): Promise<Bond> {
  return await promisify(execFile)('setpriv', ['--version']).then(
    () => 'setpriv',
    () => 'shell',
  )
}

/** The program's path, or undefined when it is not there or cannot be run. */
export function programPath(name: string): string | undefined {
  const candidates = name.includes('/')
    ? [name]
    : (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, name))
  return candidates.find((path) => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

export class BoundProcess {
  /** Never rejects. */
  readonly ended: Promise<Ending>
  readonly errorOutput: Readable
  readonly #child: ChildProcess
  readonly #pid: Promise<number | undefined>
  #hasEnded = false

  constructor(program: string, args: readonly string[], bond: Bond) {
    const passed = PASSED_ON.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]]))
    const env = { ...(Object.fromEntries(passed) as Record<string, string>), ...ALSO }
    const around = bond === 'setpriv' ? ['setpriv', '--pdeathsig', 'TERM', '--'] : ['sh', '-c', SHELL, 'sh']
    const [command = '', ...rest] = [...around, program, ...args]
    const held = bond === 'setpriv' ? 'ignore' : 'pipe'
    const child = spawn(command, rest, { stdio: [held, 'ignore', 'pipe', held], env, detached: true })
    child.stdin?.on('error', () => undefined)
    this.#child = child
    this.errorOutput = child.stderr as Readable
    this.ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }))
      // It could not be started at all.
      child.once('error', () => child.pid === undefined && resolve({ code: null, signal: null }))
    })
    void this.ended.then(() => {
      this.#hasEnded = true
      child.stdin?.destroy()
    })
    this.#pid = bond === 'setpriv' ? Promise.resolve(child.pid) : pidTold(child.stdio[3] as Readable)
  }

  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** Of the program itself; undefined when it never came to be. */
  pid(): Promise<number | undefined> {
    return this.#pid
  }

  /** Without effect once it has ended. */
  async signal(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const pid = await Promise.race([this.#pid, this.ended.then(() => undefined)])
    if (pid === undefined || this.#hasEnded || this.#child.exitCode !== null || this.#child.signalCode !== null) return
    try {
      process.kill(pid, signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

async function pidTold(told: Readable): Promise<number | undefined> {
  let text = ''
  try {
    for await (const chunk of told) text += String(chunk)
  } catch {
    return undefined
  }
  return /^\d+\n$/.test(text) ? Number(text) : undefined
}
