/**
 * Assertions stay on in production. A failed one is a bug of ours: the process logs it, drains and ends with code 1
 * (see the process guard in src/main.ts). Never use `assert` for what a caller, a disk or a network can cause.
 */
export class AssertionFailed extends Error {
  constructor(message: string) {
    super(`assertion failed: ${message}`)
    this.name = 'AssertionFailed'
  }
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionFailed(message)
}

/** For the last branch of an exhaustive switch: does not compile while a case is missing. */
export function unreachable(value: never, what: string): never {
  throw new AssertionFailed(`unhandled ${what}: ${JSON.stringify(value)}`)
}

/** The value, asserted to be there. */
export function must<T>(value: T | undefined | null, what: string): T {
  if (value === undefined || value === null) throw new AssertionFailed(`missing ${what}`)
  return value
}
