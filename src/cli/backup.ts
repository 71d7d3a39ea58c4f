/** `tidegate backup`: makes, lists and drops backups of metadata in the remote store of a running gateway. */
import { onlyNames, parseArguments } from './arguments.ts'
import { backupText, listText, type ShownBackup, type ShownNames } from './backup-text.ts'
import { UsageError, type CliContext, type Command, type ExitCode } from './command.ts'
import { connect, CONNECTION_HELP, CONNECTION_OPTIONS } from './connection.ts'
import { durationMs } from './duration.ts'

const BACKUPS_PATH = '/admin/v1/backups'
const WAIT_SECONDS_MAX = 50

type Action = (argv: readonly string[], context: CliContext) => Promise<ExitCode>

const ACTIONS: Readonly<Record<string, Action>> = { list, drop }

export const backupCommand: Command = {
  name: 'backup',
  usage: '[--wait TIME] | list | drop ID',
  summary: 'back up metadata to the remote store, list and drop backups',
  details: () =>
    `(nothing)      makes a backup now, once all that is written has arrived in the remote store, and says of when it is. Ends with code 1
               if not all arrived in time; the backup is made even so, of the newest state that did
  --wait TIME  how long to wait for that, to 50s (default 20s)
list           lists backups, and how far behind the metadata in the remote store is
drop ID        drops a backup, and frees what only it needed

A backup costs one small object: it shares what it consists of with others. "tidegate restore" makes a data directory of it.

${CONNECTION_HELP}`,
  async run(argv, context) {
    const [name = '', ...rest] = argv
    if (name === '' || name.startsWith('-')) return await make(argv, context)
    const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
    if (action === undefined) throw new UsageError(`backup knows no ${name}`)
    return await action(rest, context)
  },
}

async function make(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, { ...CONNECTION_OPTIONS, wait: { type: 'string' } })
  onlyNames(positionals)
  const json = values.wait === undefined ? {} : { waitSeconds: waitSeconds(values.wait) }
  const response = await connect(values, context.env).send({ method: 'POST', path: BACKUPS_PATH, json })
  const made = (await response.json()) as ShownBackup & { readonly complete: boolean; readonly names: ShownNames }
  context.stdout.write(values.json === true ? `${JSON.stringify(made, undefined, 2)}\n` : backupText(made))
  return made.complete ? 0 : 1
}

function waitSeconds(text: string): number {
  const seconds = durationMs('--wait', text) / 1000
  if (!Number.isInteger(seconds) || seconds > WAIT_SECONDS_MAX) {
    throw new UsageError(`--wait ${JSON.stringify(text)} is not in whole seconds up to ${WAIT_SECONDS_MAX}s`)
  }
  return seconds
}

async function list(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, CONNECTION_OPTIONS)
  onlyNames(positionals)
  const response = await connect(values, context.env).send({ method: 'GET', path: BACKUPS_PATH })
  const shown = (await response.json()) as { readonly backups: readonly ShownBackup[]; readonly names: ShownNames }
  context.stdout.write(values.json === true ? `${JSON.stringify(shown, undefined, 2)}\n` : listText(shown))
  return 0
}

async function drop(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, CONNECTION_OPTIONS)
  const [id] = onlyNames(positionals, 'the id of a backup')
  await connect(values, context.env).send({ method: 'DELETE', path: `${BACKUPS_PATH}/${encodeURIComponent(id)}` })
  if (values.json === true) context.stdout.write(`${JSON.stringify({ id, dropped: true })}\n`)
  return 0
}
