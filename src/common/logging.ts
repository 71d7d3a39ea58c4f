/**
 * Logs go to stderr: one JSON object a line, or one readable line when a person is watching. Levels by who must act:
 * `fatal` and `error` somebody now, `warn` somebody soon, `info` nobody (it says what happened), `debug` and `trace` are
 * for finding out. Secrets are redacted by their type (secret.ts), at every level.
 */
import { pino } from 'pino'
import type { LogLevel } from './log-levels.ts'
import type { DestinationStream } from 'pino'

/** `fields.error`, if it is an Error, is logged with its code, details, stack and causes. */
export type LogMethod = (fields: Readonly<Record<string, unknown>>, message: string) => void

/** What the parts of the gateway are handed. pino satisfies it, and so does a five-line double in a test. */
export interface Logger {
  readonly trace: LogMethod
  readonly debug: LogMethod
  readonly info: LogMethod
  readonly warn: LogMethod
  readonly error: LogMethod
  readonly fatal: LogMethod
  isLevelEnabled(level: LogLevel): boolean
  child(fields: Readonly<Record<string, unknown>>): Logger
}

export interface LoggerOptions {
  readonly level: LogLevel
  /** One readable line instead of JSON. */
  readonly pretty: boolean
  /** Takes whole lines. Default: stderr, written synchronously, so that the last words of a dying process are not lost. */
  readonly write?: (line: string) => void
}

export function createLogger(options: LoggerOptions): Logger {
  const sink: DestinationStream =
    options.write === undefined ? pino.destination({ dest: 2, sync: true }) : { write: options.write }
  const destination: DestinationStream = options.pretty ? { write: (line) => sink.write(readableLine(line)) } : sink
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: pino.stdSerializers.err },
    },
    destination,
  )
}

/** Says nothing. For tests, and for parts that were handed no logger. */
export const silentLogger: Logger = pino({ level: 'silent' })

const COLOUR_BY_LEVEL: Readonly<Record<LogLevel, number>> = {
  trace: 90,
  debug: 90,
  info: 36,
  warn: 33,
  error: 31,
  fatal: 31,
}

/** `12:03:44.120 WARN  message name=value`: a JSON log line as a person reads it. */
export function readableLine(json: string): string {
  const { level, time, msg, error, ...fields } = JSON.parse(json) as Record<string, unknown>
  const name = level as LogLevel
  const clock = typeof time === 'string' ? time.slice(11, 23) : ''
  const rest = Object.entries(fields).map(
    ([key, value]) => ` ${key}=${typeof value === 'string' ? quoted(value) : JSON.stringify(value)}`,
  )
  const label = `\u001B[${COLOUR_BY_LEVEL[name]}m${name.toUpperCase().padEnd(5)}\u001B[0m`
  const failure = error as { stack?: string; message?: string } | undefined
  const trailer =
    failure === undefined ? '' : `\n  ${printable(failure.stack ?? failure.message ?? '').replaceAll('\n', '\n  ')}`
  return `${clock} ${label} ${printable(String(msg))}${rest.join('')}${trailer}\n`
}

function quoted(text: string): string {
  return /^[\w./:@%+-]+$/.test(text) ? text : JSON.stringify(text)
}

/** Without control characters: what a client sent must not steer the terminal of whoever reads the log. */
function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  return text.replaceAll(/[\u0000-\u0009\u000B-\u001F\u007F-\u009F]/g, '?')
}
