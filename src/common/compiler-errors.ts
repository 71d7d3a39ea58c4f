/** What a run of the C compiler that failed lacks, in one line for people: most often a package. */

export interface NeededHeader {
  /** As it is included. */
  readonly header: string
  /** The Debian package that brings it. */
  readonly debian: string
}

/** Of the C library, if it is nobody else's. */
const C_LIBRARY = 'libc6-dev'
const LINE_LENGTH_MAX = 300

interface Failed {
  readonly syscall?: unknown
  readonly killed?: unknown
  readonly stderr?: unknown
  readonly message?: unknown
}

/** `error`: as execFile rejects. `needs`: what is known to be missing on many machines. */
export function whyNotCompiled(compiler: string, error: unknown, needs?: NeededHeader): string {
  const { syscall, killed, stderr, message } = error as Failed
  if (typeof syscall === 'string' && syscall.startsWith('spawn'))
    return `there is no C compiler ${compiler} (Debian: apt install gcc libc6-dev)`
  if (killed === true) return `${compiler} took too long`
  if (typeof stderr !== 'string' || stderr.trim() === '') return firstOf(String(message ?? error))
  // As gcc says it, or clang.
  const [, header] = /fatal error: '?([^':\s]+)'?(?:: No such file| file not found)/.exec(stderr) ?? []
  if (header === undefined) return `${compiler}: ${firstOf(stderr)}`
  const debian = header === needs?.header ? needs.debian : C_LIBRARY
  return `${header} is missing (Debian: apt install ${debian})`
}

/** The first line that says what is wrong, if one does. */
function firstOf(text: string): string {
  const lines = text.split('\n').map((line) => line.trim())
  const line = lines.find((said) => /\berror\b/i.test(said)) ?? lines.find((said) => said !== '') ?? 'it failed'
  return line.slice(0, LINE_LENGTH_MAX)
}
