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

interface Drained {
  readonly segments: number
  readonly bytes: number
  readonly left: number
  readonly lastError?: string
  readonly done: boolean
}

type Action = (argv: readonly string[], context: CliContext) => Promise<ExitCode>

const ACTIONS: Readonly<Record<string, Action>> = { list: listNodes, drain: drainNode, remove: removeNode }

export const nodeCommand: Command = {
  name: 'node',
  usage: 'list | drain | remove NUMBER',
  summary: 'the gateways that share their metadata',
  details: () =>
    `list             their numbers, which node.json in each one's data directory says too
drain            before a gateway leaves: what lies on it alone (--gateway says which) is copied to others, who take it over once it has stopped. Ends with 1
                 when something is left; it may be run again
remove NUMBER    takes out a gateway that will never be back: it is shut out, also if it still runs, and what it kept is let go. Bytes that only it has
                 are lost; so drain it first, if it still runs. Until it is removed, space that others free stays taken

${CONNECTION_HELP}`,
  async run([name = '', ...argv], context) {
    const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
    if (action === undefined)
      throw new UsageError(name === '' ? 'node wants list, drain or remove' : `node knows no ${name}`)
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

async function drainNode(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, CONNECTION_OPTIONS)
  onlyNames(positionals)
  const gateway = connect(values, context.env)
  let drained: Drained
  do {
    const answer = await gateway.send({ method: 'POST', path: `${NODES_PATH}/drain` })
    drained = (await answer.json()) as Drained
  } while (!drained.done)
  const { segments, bytes, left, lastError } = drained
  const done = `${segments} segments with ${bytes} bytes lie on other nodes as well; `
  const words =
    left === 0
      ? 'it can be stopped\n'
      : `${left} segments lie on this one alone: ${lastError ?? 'none would take them'}\n`
  context.stdout.write(
    values.json === true ? `${JSON.stringify({ segments, bytes, left, lastError }, undefined, 2)}\n` : done + words,
  )
  return left === 0 ? 0 : 1
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
