/** `tidegate status`: how a gateway and those beside it are. */
import { onlyNames, parseArguments } from './arguments.ts'
import type { CliContext, Command, ExitCode } from './command.ts'
import { connect, CONNECTION_HELP, CONNECTION_OPTIONS } from './connection.ts'
import { STATUS_PATH, statusText, type ShownStatus } from './status-text.ts'

export const statusCommand: Command = {
  name: 'status',
  usage: '',
  summary: 'the nodes, the tiers, the backlog, and who holds what',
  details: () =>
    `As the gateway that is asked knows it. Ends with code 1 when it cannot serve, or when bytes can be reached nowhere.

${CONNECTION_HELP}`,
  run: show,
}

async function show(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, CONNECTION_OPTIONS)
  onlyNames(positionals)
  const answer = await connect(values, context.env).send({ method: 'GET', path: STATUS_PATH })
  const shown = (await answer.json()) as ShownStatus
  context.stdout.write(values.json === true ? `${JSON.stringify(shown, undefined, 2)}\n` : statusText(shown))
  const isUnreachable = (shown.holdings?.unreachable.length ?? 0) > 0
  return shown.node.trouble !== null || isUnreachable ? 1 : 0
}
