import { inspect } from 'node:util'

/**
 * A text that must not be seen. However it is printed, logged, joined or serialised it says `[secret]`, at every log
 * level (SECURITY-LESSONS 5.2, 10: redact by type); only `reveal` gives the text.
 */
export class Secret {
  readonly #text: string

  constructor(text: string) {
    this.#text = text
  }

  reveal(): string {
    return this.#text
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  static {
    // Not written as a method: the name is a symbol, which declaration files cannot carry.
    Object.defineProperty(Secret.prototype, inspect.custom, { value: () => '[secret]' })
  }
}
