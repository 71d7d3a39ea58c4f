/**
 * What etcd says on its standard error (JSON lines, or a panic in plain text), into the gateway's log: so many lines in a while, the rest counted. The last
 * ones are kept, to say why it ended.
 */
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import type { Clock } from '../../../common/clock.ts'
import type { Logger } from '../../../common/logging.ts'

const LINE_CHARS_MAX = 2_000
const WINDOW_MS = 10_000
const WINDOW_LINES_MAX = 40
const GRAVE: ReadonlySet<string> = new Set(['error', 'dpanic', 'panic', 'fatal'])

interface Said {
  readonly level: string
  readonly message: string
  readonly fields: Readonly<Record<string, unknown>>
}

export class MemberLog {
  readonly #logger: Logger
  readonly #clock: Clock
  #windowEndsMs = 0
  #lines = 0
  #dropped = 0
  #gravest: string | undefined
  #isExpected = false

  constructor(logger: Logger, clock: Clock) {
    this.#logger = logger
    this.#clock = clock
  }

  /** Why the process that is followed has ended, as far as it said so. */
  get reason(): string | undefined {
    return this.#gravest
  }

  /** It was told to stop: what it says of lost connections from then on is news to nobody. */
  expectEnd(): void {
    this.#isExpected = true
  }

  follow(output: Readable): void {
    this.#gravest = undefined
    output.on('error', () => undefined)
    createInterface({ input: output, crlfDelay: Infinity }).on('line', (line) => this.#line(line))
  }

  #line(line: string): void {
    if (line.trim() === '') return
    const said = understood(line.slice(0, LINE_CHARS_MAX))
    const { error } = said.fields
    if (GRAVE.has(said.level)) this.#gravest = said.message + (typeof error === 'string' ? `: ${error}` : '')
    const fields = { etcd: { level: said.level, ...said.fields } }
    if (this.#isExpected) this.#logger.debug(fields, `etcd: ${said.message}`)
    else if (this.#passes()) this.#logger.warn(fields, `etcd: ${said.message}`)
  }

  #passes(): boolean {
    const nowMs = this.#clock.monotonicMs()
    if (nowMs >= this.#windowEndsMs) {
      if (this.#dropped > 0) this.#logger.warn({ lines: this.#dropped }, 'etcd said more than is logged')
      this.#windowEndsMs = nowMs + WINDOW_MS
      this.#lines = 0
      this.#dropped = 0
    }
    const passes = this.#lines < WINDOW_LINES_MAX
    if (passes) this.#lines++
    else this.#dropped++
    return passes
  }
}

function understood(line: string): Said {
  try {
    const {
      level,
      msg,
      ts: _ts,
      caller: _caller,
      stacktrace: _trace,
      ...fields
    } = JSON.parse(line) as Record<string, unknown>
    return { level: String(level), message: String(msg), fields }
  } catch {
    const isPanic = /^(panic|fatal error):|^setpriv:|^sh:/.test(line)
    return { level: isPanic ? 'panic' : 'warn', message: line, fields: {} }
  }
}
