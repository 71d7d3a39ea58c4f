/**
 * What environment variables say of an option. A secret may also lie in a file that a variable names, which is how containers are handed secrets: their
 * environment is shown to whoever may inspect them. The gateway and the commands that talk to one read both in the same way.
 */
import { ConfigError } from './config-error.ts'
import { fileVariable, OPTIONS, optionVariable } from './option-table.ts'
import type { OptionName, OptionSpec } from './option-table.ts'

export interface EnvironmentInput {
  readonly env: Readonly<Record<string, string | undefined>>
  /** UTF-8 text of a file; throws what the file system throws. */
  readonly readFile: (path: string) => string
}

export interface EnvironmentText {
  readonly text: string
  /** `in the environment variable TIDEGATE_S3`, for messages. */
  readonly where: string
  /** It was kept out of the environment, so messages do not repeat it, whatever it is. */
  readonly isHidden: boolean
}

/** An empty variable counts as unset, as container files commonly write it. @throws ConfigError naming variable and path, never what is in the file */
export function environmentText(name: OptionName, { env, readFile }: EnvironmentInput): EnvironmentText | undefined {
  const spec: OptionSpec = OPTIONS[name]
  for (const variable of [optionVariable(name), ...(spec.alsoEnvironment ?? [])]) {
    const text = env[variable] ?? ''
    const pathVariable = fileVariable(variable)
    const path = (spec.orFile && env[pathVariable]) ?? ''
    if (text !== '' && path !== '') throw new ConfigError(`${variable} and ${pathVariable}: give one of them`)
    if (text !== '') return { text, where: `in the environment variable ${variable}`, isHidden: false }
    if (path !== '') {
      return {
        text: readSecretFile(pathVariable, path, readFile),
        where: `in ${path} (${pathVariable})`,
        isHidden: true,
      }
    }
  }
  return undefined
}

/** What a file holds but for the line feed at its end. `label` is what names the file. @throws ConfigError when it cannot be read, or is empty */
export function readSecretFile(label: string, path: string, readFile: EnvironmentInput['readFile']): string {
  try {
    const text = readFile(path).replace(/\r?\n$/, '')
    if (text === '') throw new Error('it is empty')
    return text
  } catch (error) {
    throw new ConfigError(`${label}: cannot read ${path}: ${(error as Error).message}`, { cause: error })
  }
}
