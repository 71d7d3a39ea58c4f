/** `tidegate credentials`: the root user's keys, for a shell that is to use them. */
import { credentialsPath, keptCredentials } from '../config/credentials.ts'
import { OPTIONS } from '../config/option-table.ts'
import { parseConfig } from '../config/parse.ts'
import { parseInput } from './machine.ts'
import type { CliContext, Command, ExitCode } from './command.ts'

export const credentialsCommand: Command = {
  name: 'credentials',
  usage: '[--json] [OPTIONS]',
  summary: "print the root user's keys, for a shell or as JSON",
  details: () =>
    `As the gateway with these options has them: from the environment, from files, or from the data directory, where the
first start has made them. A gateway may be running meanwhile. OPTIONS, environment and file are those of "serve".
What is printed is secret; to use it:

  eval "$(tidegate credentials)"

--json         print JSON
`,
  run: (argv, context) => Promise.resolve(print(argv, context)),
}

function print(argv: readonly string[], context: CliContext): ExitCode {
  const options = argv.filter((argument) => argument !== '--json')
  const config = parseConfig(parseInput(options, context))
  const root = config.root ?? keptCredentials(config.data)
  if (root === undefined) {
    const path = credentialsPath(config.data)
    context.stderr.write(
      `tidegate: there are no credentials yet: none are given, and the first start of "tidegate serve" makes ${path}\n`,
    )
    return 1
  }
  const [accessKeyId, secretAccessKey, { region }] = [root.accessKey, root.secretKey.reveal(), config]
  if (options.length < argv.length) {
    context.stdout.write(`${JSON.stringify({ accessKeyId, secretAccessKey, region })}\n`)
    return 0
  }
  const variables = {
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    // Clients sign for the default region by themselves.
    ...(region === OPTIONS.region.default ? {} : { AWS_REGION: region }),
  }
  for (const [name, value] of Object.entries(variables)) context.stdout.write(`export ${name}=${shellQuoted(value)}\n`)
  return 0
}

/** One word of a POSIX shell (Shell Command Language, 2.2.2): nothing means anything between single quotes but the next one. */
function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`
}
