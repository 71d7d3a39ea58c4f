/** Assertions of the suite that do not apply to this file system, each with its reason: `FILE NUMBERS REASON`, a line each. */

export interface NotApplicable {
  readonly file: string
  readonly numbers: ReadonlySet<number>
  readonly reason: string
}

const LINE = /^(\S+\.t) (\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*) (\S.*)$/

/** Lines that begin with `#` are comments. @throws Error for a line without a reason */
export function readNotApplicable(text: string): NotApplicable[] {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return lines.map((line) => {
    const [, file, numbers, reason] = LINE.exec(line) ?? []
    if (file === undefined || numbers === undefined || reason === undefined) {
      throw new Error(`not of the form FILE NUMBERS REASON: ${line}`)
    }
    return { file, numbers: numbersOf(numbers), reason }
  })
}

/** `4,9-10` */
function numbersOf(text: string): ReadonlySet<number> {
  const numbers = new Set<number>()
  for (const part of text.split(',')) {
    const [from = 0, to = from] = part.split('-').map(Number)
    for (let number = from; number <= to; number++) numbers.add(number)
  }
  return numbers
}
