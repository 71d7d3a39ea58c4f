/** A configuration that cannot be used. The message names the option, the value and where it came from. Exit code 2. */
export class ConfigError extends Error {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'ConfigError'
  }
}
