/**
 * The local member: one process of etcd at a time, started again when it ends, until it is told to stop or `onEnded` says that it is not to run any more.
 *
 *     starting -> running -> (ended: pause, 0.25 s doubled up to 10 s) -> starting ...
 *                    \-> stopping: SIGTERM, after 10 s SIGKILL -> stopped
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { Clock } from '../../../common/clock.ts'
import type { Logger } from '../../../common/logging.ts'
import { BoundProcess, programPath, strongestBond } from './bound-process.ts'
import type { Bond, Ending } from './bound-process.ts'
import { ClusterRefused } from './cluster-options.ts'
import { MemberLog } from './member-log.ts'

const PAUSE_MS = { first: 250, most: 10_000 }
/** One that has run for so long was well. */
const WELL_AFTER_MS = 60_000
const TERM_MS_MAX = 10_000

export interface MemberOptions {
  readonly program: string
  readonly bond: Bond
  readonly flags: readonly string[]
  readonly clock: Clock
  readonly logger: Logger
  /** After it ended by itself: whether it is to be started again. */
  readonly onEnded: () => Promise<boolean>
}

/** The program and how to run it. @throws ClusterRefused */
export async function findEtcd(name: string): Promise<{ program: string; bond: Bond; version: string }> {
  const program = programPath(name)
  if (program === undefined) {
    const where = name.includes('/') ? 'is not there, or no program' : 'is not found in the PATH'
    throw new ClusterRefused(`--cluster-etcd: ${name} ${where}`)
  }
  const text = await promisify(execFile)(program, ['--version'], { timeout: TERM_MS_MAX, env: {} }).then(
    ({ stdout }) => stdout,
    (error: Error) => {
      throw new ClusterRefused(`--cluster-etcd: ${program} cannot be run: ${error.message}`)
    },
  )
  const [, version = '', major = '', minor = ''] = /etcd Version: ((\d+)\.(\d+)\S*)/.exec(text) ?? []
  if (major !== '3' || Number(minor) < 4)
    throw new ClusterRefused(`--cluster-etcd: ${program} is not etcd 3.4 or newer: ${text.split('\n', 1)[0]}`)
  return { program, version, bond: await strongestBond() }
}

export class Member {
  readonly #options: MemberOptions
  readonly #log: MemberLog
  readonly #stopping = new AbortController()
  #process: BoundProcess | undefined
  #running: Promise<void> | undefined
  #restarts = 0
  #startedMs = 0
  #lastEnding: string | undefined

  constructor(options: MemberOptions) {
    this.#options = options
    this.#log = new MemberLog(options.logger, options.clock)
  }

  start(): void {
    this.#running ??= this.#run()
  }

  get isRunning(): boolean {
    return this.#process !== undefined && !this.#process.hasEnded
  }

  /** When its process was started; undefined: there is none. */
  get startedMs(): number | undefined {
    return this.isRunning ? this.#startedMs : undefined
  }

  /** At once, as if it had ended by itself: it is started again. */
  async kill(): Promise<void> {
    await this.#process?.signal('SIGKILL')
  }

  /** How often it was started again. */
  get restarts(): number {
    return this.#restarts
  }

  /** Why it ended last. */
  get lastEnding(): string | undefined {
    return this.#lastEnding
  }

  pid(): Promise<number | undefined> {
    return this.#process?.pid() ?? Promise.resolve(undefined)
  }

  /** Resolves once the process is gone. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the member stops'))
    const child = this.#process
    if (child !== undefined && !child.hasEnded) {
      this.#log.expectEnd()
      await child.signal('SIGTERM')
      const patience = new AbortController()
      const impatient = this.#options.clock.sleep(TERM_MS_MAX, patience.signal).then(
        () => child.signal('SIGKILL'),
        () => undefined,
      )
      await child.ended
      patience.abort()
      await impatient
    }
    await this.#running
  }

  async #run(): Promise<void> {
    const { program, bond, flags, clock, logger } = this.#options
    const { signal } = this.#stopping
    for (let pauseMs = PAUSE_MS.first; !signal.aborted; this.#restarts++) {
      const startedMs = clock.monotonicMs()
      const child = new BoundProcess(program, flags, bond)
      this.#process = child
      this.#startedMs = startedMs
      this.#log.follow(child.errorOutput)
      logger.info({ pid: await child.pid() }, 'etcd was started')
      const ending = await child.ended
      if (signal.aborted) return
      this.#lastEnding = wordsOf(ending, this.#log.reason)
      logger.error({ restarts: this.#restarts }, `the local etcd has ended: ${this.#lastEnding}`)
      if (clock.monotonicMs() - startedMs > WELL_AFTER_MS) pauseMs = PAUSE_MS.first
      await clock.sleep(pauseMs, signal).catch(() => undefined)
      pauseMs = Math.min(PAUSE_MS.most, pauseMs * 2)
      if (signal.aborted || !(await this.#options.onEnded())) return
    }
  }
}

function wordsOf({ code, signal }: Ending, reason: string | undefined): string {
  const how = signal === null ? (code === null ? 'it could not be started' : `code ${code}`) : signal
  return reason === undefined ? how : `${how}: ${reason}`
}
