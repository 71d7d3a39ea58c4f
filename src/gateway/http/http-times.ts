/** Times as HTTP and its documents write them: RFC 9110 dates in headers, ISO 8601 with milliseconds elsewhere. */

let lastSecond = -1
let lastText = ''

/** A GET of a hot object formats the same second again and again. */
export function httpDate(ms: number): string {
  const second = Math.floor(ms / 1000)
  if (second !== lastSecond) {
    lastSecond = second
    lastText = new Date(second * 1000).toUTCString()
  }
  return lastText
}

export function isoDate(ms: number): string {
  return new Date(ms).toISOString()
}

/** A date header in ms, whole seconds; undefined when it is absent or no date (RFC 9110 13.1.3: then it is ignored). */
export function parseHttpDate(value: string | undefined): number | undefined {
  if (value === undefined) return undefined
  const ms = Date.parse(value)
  return Number.isNaN(ms) ? undefined : Math.floor(ms / 1000) * 1000
}
