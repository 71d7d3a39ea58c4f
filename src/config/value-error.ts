/** A text that cannot be used as the value of an option. The message says what the text should have been. */
export class ValueError extends Error {
  /** The text may hold a secret in the wrong place: it is not repeated. */
  readonly mayHoldSecret: boolean

  constructor(expected: string, options: { mayHoldSecret?: boolean } = {}) {
    super(expected)
    this.name = 'ValueError'
    this.mayHoldSecret = options.mayHoldSecret ?? false
  }
}
