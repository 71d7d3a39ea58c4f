import { parseArgs, type ParseArgsConfig } from 'node:util'
import { UsageError } from './command.ts'

export type ArgumentOptions = NonNullable<ParseArgsConfig['options']>

type Parsed<Options extends ArgumentOptions> = ReturnType<
  typeof parseArgs<{ options: Options; strict: true; allowPositionals: true }>
>

/** Flags and names of a command that talks to a gateway. @throws UsageError naming the argument at fault */
export function parseArguments<const Options extends ArgumentOptions>(
  argv: readonly string[],
  options: Options,
): Pick<Parsed<Options>, 'values' | 'positionals'> {
  try {
    return parseArgs({ args: [...argv], options, strict: true, allowPositionals: true })
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

/** Exactly the names that a command wants. @throws UsageError */
export function onlyNames<const Names extends readonly string[]>(
  positionals: readonly string[],
  ...names: Names
): { readonly [Index in keyof Names]: string } {
  const missing = names[positionals.length]
  if (missing !== undefined) throw new UsageError(`${missing} is missing`)
  const extra = positionals[names.length]
  if (extra !== undefined) throw new UsageError(`${JSON.stringify(extra)} is one argument too many`)
  return positionals as unknown as { readonly [Index in keyof Names]: string }
}
