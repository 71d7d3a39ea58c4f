/** `tidegate flush`: shows and steers how a running gateway carries segments to the remote store. */
import { onlyNames, parseArguments } from './arguments.ts'
import { UsageError, type CliContext, type Command, type ExitCode } from './command.ts'
import { connect, CONNECTION_HELP, CONNECTION_OPTIONS, type Connection } from './connection.ts'
import { drainFlush } from './flush-drain.ts'
import { FLUSH_PATH, statusText, type ShownFlush } from './flush-text.ts'

type Action = (argv: readonly string[], context: CliContext) => Promise<ExitCode>

const ACTIONS: Readonly<Record<string, Action>> = {
  status: (argv, context) => show(argv, context, (gateway) => gateway.send({ method: 'GET', path: FLUSH_PATH })),
  pause: (argv, context) =>
    show(argv, context, (gateway) => gateway.send({ method: 'POST', path: `${FLUSH_PATH}/pause` })),
  resume: (argv, context) =>
    show(argv, context, (gateway) => gateway.send({ method: 'POST', path: `${FLUSH_PATH}/resume` })),
  drain: drainFlush,
}

export const flushCommand: Command = {
  name: 'flush',
  usage: 'status | pause | resume | drain [--timeout TIME]',
  summary: 'show and steer what is carried to the remote store',
  details: () =>
    `status           how much waits, what is on its way, what fails, why, and when it is tried again
pause            lets nothing leave; what is on its way arrives. Writes with ack persisted are refused meanwhile, others are slowed
                 once the backlog is half full. Ends with resume, and with the gateway
resume           goes on
drain            waits until all that is written now is in the remote store; else lists what is not, and why, and ends with code 1
  --timeout TIME   after so long, as 30s or 2h (default: however long it takes, unless flushing is paused)

${CONNECTION_HELP}`,
  async run([name = '', ...argv], context) {
    const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
    if (action === undefined) {
      throw new UsageError(name === '' ? 'flush wants status, pause, resume or drain' : `flush knows no ${name}`)
    }
    return await action(argv, context)
  },
}

/** What all but drain print: the state after what they did. */
async function show(
  argv: readonly string[],
  context: CliContext,
  ask: (gateway: Connection) => Promise<Response>,
): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, CONNECTION_OPTIONS)
  onlyNames(positionals)
  const shown = (await (await ask(connect(values, context.env))).json()) as ShownFlush
  context.stdout.write(values.json === true ? `${JSON.stringify(shown, undefined, 2)}\n` : statusText(shown))
  return 0
}
