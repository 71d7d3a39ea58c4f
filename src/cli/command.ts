import type { Config } from '../config/parse.ts'

/** 0 done, 1 failed, 2 bad usage or configuration, 3 data directory in use by another process. */
export type ExitCode = 0 | 1 | 2 | 3

export interface Output {
  write(text: string | Uint8Array): unknown
  readonly isTTY?: boolean
}

/** The world as a command sees it; a test hands it another. */
export interface CliContext {
  /** After `tidegate`. */
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stdout: Output
  readonly stderr: Output
  /** Standard input; the process's when absent. */
  readonly stdin?: AsyncIterable<Uint8Array>
  /** Brings the gateway up and resolves when it has been stopped again. src/main.ts passes it in. */
  readonly serve: (config: Config) => Promise<void>
}

export interface Command {
  readonly name: string
  /** After the name, in the usage line. */
  readonly usage: string
  /** One line for the list of commands. */
  readonly summary: string
  /** What `tidegate help NAME` shows below the usage line. */
  details(): string
  /** `argv` is what stands after the name. Rejects with what cli/run.ts turns into an exit code. */
  run(argv: readonly string[], context: CliContext): Promise<ExitCode>
}

/** Bad usage: exit code 2, with a pointer to the help of the command. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UsageError'
  }
}
