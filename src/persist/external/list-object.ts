/**
 * One object of a listing, read as almost all stores write it: the elements below, each without attributes and blanks. Reading a page takes
 * a third of the time so. For an object with anything else in it there is no answer here, and it is read element by element (list-page.ts).
 */
export interface ListedObject {
  Key?: string
  Size?: number
  ETag?: string
  modifiedMs?: number
  StorageClass?: string
}

/** In the order in which most stores write them; only the first five are read. */
const FIELDS = ['Key', 'LastModified', 'ETag', 'Size', 'StorageClass', 'ChecksumAlgorithm', 'ChecksumType'] as const
const FIELDS_READ = 5
const FIELD_STARTS = FIELDS.map((name) => `<${name}>`)
const FIELD_ENDS = FIELDS.map((name) => `</${name}>`)
const OBJECT_END = '</Contents>'
const DAY_CHARACTERS = '2026-03-01T'.length
const CLOCK_CHARACTERS = '10:20:30'.length

/** Texts of the fields that are read, as they are written. */
export interface PlainObject {
  readonly texts: readonly (string | undefined)[]
  /** Right behind the object. */
  readonly end: number
}

/** `from` is right behind `<Contents>`. */
export function readPlainObject(xml: string, from: number): PlainObject | undefined {
  const texts: (string | undefined)[] = [undefined, undefined, undefined, undefined, undefined]
  let at = from
  for (let last = -1; ;) {
    const field = fieldAt(xml, at, last + 1)
    if (field === undefined) break
    const start = at + (FIELD_STARTS[field]?.length ?? 0)
    const end = xml.indexOf('<', start)
    const fieldEnd = FIELD_ENDS[field] ?? ''
    if (end < 0 || !xml.startsWith(fieldEnd, end)) return undefined
    if (field < FIELDS_READ) {
      if (texts[field] !== undefined) return undefined
      texts[field] = xml.slice(start, end)
    }
    at = end + fieldEnd.length
    last = field
  }
  return xml.startsWith(OBJECT_END, at) ? { texts, end: at + OBJECT_END.length } : undefined
}

/** Index of the field that begins there; most likely it is this one. */
function fieldAt(xml: string, at: number, likely: number): number | undefined {
  for (let tried = 0; tried < FIELDS.length; tried++) {
    const field = (likely + tried) % FIELDS.length
    if (xml.startsWith(FIELD_STARTS[field] ?? '', at)) return field
  }
  return undefined
}

/** The day that was read last: most objects of a listing are of a few. */
let known = { day: '', ms: 0 }

/** Of a time in UTC that is written well; `Date.parse` takes ten times as long. */
export function timeMs(text: string): number {
  const day = text.slice(0, DAY_CHARACTERS)
  if (day !== known.day) known = { day, ms: Date.parse(`${day}00:00:00Z`) }
  const [hours, minutes, seconds] = [twoDigits(text, 11), twoDigits(text, 14), twoDigits(text, 17)]
  // A leap second, or the end of a day as 24:00.
  if (hours > 23 || minutes > 59 || seconds > 59) return Date.parse(text)
  const ms = known.ms + ((hours * 60 + minutes) * 60 + seconds) * 1000
  const end = DAY_CHARACTERS + CLOCK_CHARACTERS
  return text.charCodeAt(end) === POINT ? ms + Number(text.slice(end + 1, -1).padEnd(3, '0')) : ms
}

const POINT = 0x2e
const ZERO = 0x30

function twoDigits(text: string, at: number): number {
  return (text.charCodeAt(at) - ZERO) * 10 + text.charCodeAt(at + 1) - ZERO
}
