/** `tidegate node`: the gateways that share their metadata, and how one that will never be back is taken out. */
import { onlyNames, parseArguments } from './arguments.ts'
import { UsageError, type CliContext, type Command, type ExitCode } from './command.ts'
import { connect, CONNECTION_HELP, CONNECTION_OPTIONS } from './connection.ts'

const NODES_PATH = '/admin/v1/nodes'

interface ShownNodes {
  readonly own: number
  readonly nodes: readonly { readonly number: number; readonly horizon: number }[]
}

interface Removed {
  readonly files: number
  readonly builds: number
}

type Action = (argv: readonly string[], context: CliContext) => Promise<ExitCode>

const ACTIONS: Readonly<Record<string, Action>> = { list: listNodes, remove: removeNode }

export const nodeCommand: Command = {
  name: 'node',
  usage: 'list | remove NUMBER',
  summary: 'the gateways that share their metadata',
  details: () =>
    `list             their numbers, which node.json in each one's data directory says too
remove NUMBER    takes out a gateway that will never be back: it is shut out, also if it still runs, and what it kept is let go. Bytes that only it has
                 are lost; so first let it carry all to the remote store, if it can. Until it is removed, space that others free stays taken

${CONNECTION_HELP}`,
  async run([name = '', ...argv], context) {
    const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
    if (action === undefined) throw new UsageError(name === '' ? 'node wants list or remove' : `node knows no ${name}`)
    return await action(argv, context)
  },
}

async function listNodes(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, CONNECTION_OPTIONS)
  onlyNames(positionals)
  const answer = await connect(values, context.env).send({ method: 'GET', path: NODES_PATH })
  const shown = (await answer.json()) as ShownNodes
  const lines = shown.nodes.map(({ number }) => `node ${number}${number === shown.own ? ' (this one)' : ''}\n`)
  context.stdout.write(values.json === true ? `${JSON.stringify(shown, undefined, 2)}\n` : lines.join(''))
  return 0
}

async function removeNode(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, CONNECTION_OPTIONS)
  const [text] = onlyNames(positionals, 'the number of the node')
  if (!/^\d{1,7}$/.test(text)) throw new UsageError(`${JSON.stringify(text)} is not the number of a node`)
  const gateway = connect(values, context.env)
  const answer = await gateway.send({ method: 'POST', path: `${NODES_PATH}/remove`, json: { node: Number(text) } })
  const removed = (await answer.json()) as Removed
  const words = `node ${text} is out; ${removed.files} open files and ${removed.builds} unfinished bodies of it are let go\n`
  context.stdout.write(values.json === true ? `${JSON.stringify(removed, undefined, 2)}\n` : words)
  return 0
}
