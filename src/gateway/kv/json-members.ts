/**
 * Members of a JSON object that a client sent, read one by one: what is missing, of the wrong kind or unknown is refused by the
 * path at which it stands. For bodies with hundreds of operations, where a schema would name a branch of an alternative instead.
 */
import { TidegateError } from '../../common/errors.ts'

/** An empty path is the body itself. */
export function badMember(path: string, why: string): TidegateError {
  const what = path === '' ? 'the body' : `the member "${path}"`
  return new TidegateError('InvalidArgument', `${what} ${why}`, { details: { member: path } })
}

/** The members of a list, no more than `max`. @throws InvalidArgument */
export function listOf(value: unknown, path: string, max: number): readonly unknown[] {
  if (!Array.isArray(value)) throw badMember(path, 'is no list')
  if (value.length > max) throw badMember(path, `has ${value.length} entries, more than ${max}`)
  return value
}

export class JsonMembers {
  readonly path: string
  readonly #members: Readonly<Record<string, unknown>>

  /** @throws InvalidArgument when it is no object */
  constructor(value: unknown, path: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw badMember(path, 'is no object')
    this.path = path
    this.#members = value as Record<string, unknown>
  }

  pathOf(name: string): string {
    return this.path === '' ? name : `${this.path}.${name}`
  }

  /** @throws InvalidArgument naming a member that is none of these */
  allowOnly(names: ReadonlySet<string>): void {
    for (const name of Object.keys(this.#members)) {
      if (!names.has(name)) throw badMember(this.pathOf(name), 'is not known here')
    }
  }

  has(name: string): boolean {
    return this.get(name) !== undefined
  }

  get(name: string): unknown {
    return Object.hasOwn(this.#members, name) ? this.#members[name] : undefined
  }

  optionalText(name: string): string | undefined {
    const value = this.get(name)
    if (value === undefined || typeof value === 'string') return value
    throw badMember(this.pathOf(name), 'is no text')
  }

  text(name: string): string {
    const value = this.optionalText(name)
    if (value === undefined) throw badMember(this.pathOf(name), 'is missing')
    return value
  }

  oneOf<T extends string>(name: string, values: readonly T[]): T {
    const text = this.text(name)
    const found = values.find((value) => value === text)
    if (found === undefined) throw badMember(this.pathOf(name), `must be one of ${values.join(', ')}`)
    return found
  }

  optionalNumber(name: string, { min, max }: { min: number; max: number }): number | undefined {
    const value = this.get(name)
    if (value === undefined) return undefined
    if (typeof value === 'number' && value >= min && value <= max) return value
    throw badMember(this.pathOf(name), `is no number from ${min} to ${max}`)
  }

  truth(name: string): boolean {
    const value = this.get(name)
    if (typeof value === 'boolean') return value
    throw badMember(this.pathOf(name), 'is neither true nor false')
  }

  /** Bytes in base64. */
  base64(name: string): Buffer {
    const text = this.text(name)
    const bytes = Buffer.from(text, 'base64')
    if (bytes.length === base64Bytes(text)) return bytes
    throw badMember(this.pathOf(name), 'is no base64')
  }

  optionalTexts(name: string): Readonly<Record<string, string>> | undefined {
    const value = this.get(name)
    if (value === undefined) return undefined
    const members = new JsonMembers(value, this.pathOf(name))
    return Object.fromEntries(Object.keys(members.#members).map((each) => [each, members.text(each)]))
  }
}

/**
 * How many bytes a text of base64 stands for, padded or not; undefined for a length that none has. Node passes over what is not
 * base64, so too few come of it.
 */
function base64Bytes(text: string): number | undefined {
  let length = text.length
  while (length > 0 && text.charCodeAt(length - 1) === 61 /* = */) length--
  return length % 4 === 1 ? undefined : (length * 3) >> 2
}
