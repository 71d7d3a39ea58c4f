/** The process that does the system calls (executor.py), and the deadline of each. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Operation, Outcome } from './operations.ts'

const PROGRAM = fileURLToPath(new URL('executor.py', import.meta.url))
/** A request that the gateway does not answer within a minute fails; this is later, so that the errno is seen. */
const ANSWER_MS_MAX = 90_000
const END_MS_MAX = 10_000

export class Executor {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  /** @param directory that the paths of all operations are relative to */
  constructor(directory: string) {
    this.#child = spawn('python3', [PROGRAM, directory], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child.stdin?.on('error', () => undefined)
    if (!this.#child.stdout) throw new Error('the executor has no standard output')
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
  }

  /** One at a time. @throws when there is no answer in time, or the executor has ended */
  async run(operation: Operation): Promise<Outcome> {
    this.#child.stdin?.write(`${JSON.stringify(operation)}\n`)
    let overdue: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      overdue = setTimeout(() => reject(new Error(`no answer in ${ANSWER_MS_MAX} ms`)), ANSWER_MS_MAX)
    })
    try {
      const line = await Promise.race([this.#lines.next(), late])
      if (line.done === true) throw new Error('the executor has ended')
      return JSON.parse(line.value) as Outcome
    } finally {
      clearTimeout(overdue)
    }
  }

  /** Closes what it has open, by ending it. Not even SIGKILL ends who waits for a gateway that hangs: then it goes with the mount. */
  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit').then(() => true)
    this.#child.stdin?.end()
    if (await Promise.race([ended, sleep(END_MS_MAX)])) return
    this.#child.kill('SIGKILL')
    await Promise.race([ended, sleep(END_MS_MAX)])
  }
}
