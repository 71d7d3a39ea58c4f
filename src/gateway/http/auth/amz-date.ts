/** `20130524T000000Z`, the only form SigV4 knows, as milliseconds since 1970; NaN for anything else. */
export function parseAmzDate(text: string): number {
  if (text === lastText) return lastMs
  if (!AMZ_DATE.test(text)) return Number.NaN
  const number = (from: number, to: number): number => Number(text.slice(from, to))
  const ms = Date.UTC(number(0, 4), number(4, 6) - 1, number(6, 8), number(9, 11), number(11, 13), number(13, 15))
  // Date.UTC carries over (month 13, 30 February): only a text that comes out as it went in is a date.
  if (formatAmzDate(ms) !== text) return Number.NaN
  lastText = text
  lastMs = ms
  return ms
}

/** The inverse of `parseAmzDate`. */
export function formatAmzDate(ms: number): string {
  return new Date(ms).toISOString().replace(SEPARATORS, '')
}

/** ISO 8601 with seconds, as S3 writes times in its error documents. */
export function formatErrorTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`
}

const AMZ_DATE = /^\d{8}T\d{6}Z$/
const SEPARATORS = /[-:]|\.\d{3}/g

// Requests of the same second carry the same text: the last one is remembered.
let lastText = ''
let lastMs = Number.NaN
