/** Range headers (RFC 9110, 14). */

export interface ByteRange {
  readonly offset: number
  readonly length: number
}

const HEADER = /^bytes\s*=\s*(.*)$/i
const SPEC = /^(\d{0,15})\s*-\s*(\d{0,15})$/

/**
 * The part of `size` bytes that a Range header with one range asks for. Undefined for what is to be ignored: several ranges,
 * another unit, and what cannot be read.
 */
export function parseByteRange(header: string, size: number): ByteRange | 'unsatisfiable' | undefined {
  const list = HEADER.exec(header)?.[1]
  return list === undefined ? undefined : parseSpec(list.trim(), size)
}

/**
 * The parts that a Range header asks for, in its order; those outside are left out, and those that overlap or touch are made
 * one. Undefined for what is to be ignored: another unit, and a list that cannot be read. `too-many`: over `rangesMax`,
 * since many small ranges cost far more than they bring (14.2 lets a server refuse them).
 */
export function parseByteRanges(
  header: string,
  { size, rangesMax }: { size: number; rangesMax: number },
): readonly ByteRange[] | 'unsatisfiable' | 'too-many' | undefined {
  const list = HEADER.exec(header)?.[1]
  if (list === undefined) return undefined
  const specs = list.split(',', rangesMax + 1)
  if (specs.length > rangesMax) return 'too-many'
  const ranges: ByteRange[] = []
  for (const text of specs) {
    const range = parseSpec(text.trim(), size)
    if (range === undefined) return undefined
    if (range !== 'unsatisfiable') ranges.push(range)
  }
  if (ranges.length === 0) return 'unsatisfiable'
  return ranges.length === 1 ? ranges : coalesce(ranges)
}

function parseSpec(text: string, size: number): ByteRange | 'unsatisfiable' | undefined {
  const match = SPEC.exec(text)
  const first = match?.[1] ?? ''
  const last = match?.[2] ?? ''
  if (first === '' && last === '') return undefined
  if (first === '') {
    const length = Math.min(Number(last), size)
    return length === 0 ? 'unsatisfiable' : { offset: size - length, length }
  }
  const offset = Number(first)
  if (last !== '' && Number(last) < offset) return undefined
  if (offset >= size) return 'unsatisfiable'
  return { offset, length: Math.min(last === '' ? size - 1 : Number(last), size - 1) - offset + 1 }
}

/** Each range takes in those before it that it meets; there are few, and most meet none. */
function coalesce(ranges: readonly ByteRange[]): ByteRange[] {
  const apart: ByteRange[] = []
  for (const range of ranges) {
    let { offset } = range
    let end = offset + range.length
    let place = apart.length
    for (let index = apart.length - 1; index >= 0; index--) {
      const other = apart[index]
      if (other === undefined || other.offset > end || other.offset + other.length < offset) continue
      offset = Math.min(offset, other.offset)
      end = Math.max(end, other.offset + other.length)
      apart.splice(index, 1)
      place = index
    }
    apart.splice(place, 0, { offset, length: end - offset })
  }
  return apart
}
