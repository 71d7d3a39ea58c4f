import { configurationPage } from '../config/documentation.ts'
import { parseConfig } from '../config/parse.ts'
import { configuredAccess } from './access.ts'
import { UsageError } from './command.ts'
import { parseInput } from './machine.ts'
import type { CliContext, Command } from './command.ts'

/** Never prints values: a configuration may hold secrets (SECURITY-LESSONS 5.2, 3). */
const ACTIONS: Readonly<Record<string, (argv: readonly string[], context: CliContext) => void>> = {
  check(argv, context) {
    const config = parseConfig(parseInput(argv, context))
    configuredAccess(config)
    context.stdout.write(`the configuration can be used: ${config.users.length} users beside root\n`)
  },
  docs(argv, context) {
    if (argv[0] !== undefined) throw new UsageError(`config docs takes no ${argv[0]}`)
    context.stdout.write(configurationPage())
  },
}

export const configCommand: Command = {
  name: 'config',
  usage: 'check [OPTIONS] | docs',
  summary: 'check a configuration, or print the page that documents it',
  details: () =>
    `check  reads flags, environment and file as "tidegate serve" would, and says what is wrong with them (exit code 2)
docs   prints docs/configuration.md
`,
  run([name = '', ...argv], context) {
    const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
    if (action === undefined)
      throw new UsageError(name === '' ? 'config wants check or docs' : `config knows no ${name}`)
    action(argv, context)
    return Promise.resolve(0)
  },
}
