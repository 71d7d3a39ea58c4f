/** `tidegate cluster`: begins a cluster of gateways, lets others in, shows how it is, and takes members out. */
import { onlyNames, parseArguments } from './arguments.ts'
import { clusterText, verdictText, type ShownCluster } from './cluster-text.ts'
import { initNode, joinNode } from './cluster-prepare.ts'
import { UsageError, type CliContext, type Command, type ExitCode } from './command.ts'
import { connect, CONNECTION_HELP, CONNECTION_OPTIONS, GatewayError, type Connection } from './connection.ts'
import { nodesText, STATUS_PATH, type ShownNode, type ShownStatus } from './status-text.ts'

const CLUSTER_PATH = '/admin/v1/cluster'

type Action = (argv: readonly string[], context: CliContext) => Promise<ExitCode>

const ACTIONS: Readonly<Record<string, Action>> = {
  init: initNode,
  join: joinNode,
  remove: removeMember,
  status: showStatus,
  health: (argv, context) => show(argv, context, verdictText),
}

export const clusterCommand: Command = {
  name: 'cluster',
  usage: 'init OPTIONS | join OPTIONS | remove MEMBER | status | health',
  summary: 'begin a cluster of gateways, and look after it',
  details: () =>
    `init OPTIONS     makes the data directory that of the first node of a cluster. Once in the life of a cluster; harmless when it is repeated. OPTIONS are
                 those that "tidegate serve" is then started with: --data, --cluster, --cluster-peer, --cluster-client ...
join OPTIONS     looks whether the nodes named by --cluster-join can be reached, and makes the data directory that of a further node. "serve" with
                 --cluster-join does so by itself, but for a node that was removed before
remove MEMBER    takes a member out for good, by its name or id. Its node goes on as a client; a client takes the place at its next start
status           who is in it, who leads, and how full it is; and the nodes that share its metadata ("tidegate status" says more of these)
health           what is the matter, in words; ends with code 1 when nothing can be written

${CONNECTION_HELP}`,
  async run([name = '', ...argv], context) {
    const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
    if (action === undefined) {
      throw new UsageError(
        name === '' ? 'cluster wants init, join, remove, status or health' : `cluster knows no ${name}`,
      )
    }
    return await action(argv, context)
  },
}

/** Ends with code 1 when nothing can be written. */
async function show(
  argv: readonly string[],
  context: CliContext,
  text: (shown: ShownCluster) => string,
): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, CONNECTION_OPTIONS)
  onlyNames(positionals)
  const answer = await connect(values, context.env).send({ method: 'GET', path: CLUSTER_PATH })
  const shown = (await answer.json()) as ShownCluster
  context.stdout.write(values.json === true ? `${JSON.stringify(shown, undefined, 2)}\n` : text(shown))
  return shown.level === 'failing' ? 1 : 0
}

/** The members of etcd, and the gateways over it. */
async function showStatus(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, CONNECTION_OPTIONS)
  onlyNames(positionals)
  const gateway = connect(values, context.env)
  const shown = (await (await gateway.send({ method: 'GET', path: CLUSTER_PATH })).json()) as ShownCluster
  const nodes = await nodesOf(gateway)
  const text = nodes.length === 0 ? clusterText(shown) : `${clusterText(shown)}\n${nodesText(nodes)}`
  context.stdout.write(values.json === true ? `${JSON.stringify({ ...shown, nodes }, undefined, 2)}\n` : text)
  return shown.level === 'failing' ? 1 : 0
}

/** None where the gateway that is asked is of before nodes knew each other. */
async function nodesOf(gateway: Connection): Promise<readonly ShownNode[]> {
  try {
    return ((await (await gateway.send({ method: 'GET', path: STATUS_PATH })).json()) as ShownStatus).nodes
  } catch (error) {
    if (error instanceof GatewayError && error.status === 404) return []
    throw error
  }
}

async function removeMember(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { values, positionals } = parseArguments(argv, CONNECTION_OPTIONS)
  const [member] = onlyNames(positionals, 'the name of the member')
  const gateway = connect(values, context.env)
  const answer = await gateway.send({ method: 'POST', path: `${CLUSTER_PATH}/remove`, json: { member } })
  const shown = (await answer.json()) as ShownCluster
  context.stdout.write(values.json === true ? `${JSON.stringify(shown, undefined, 2)}\n` : clusterText(shown))
  return 0
}
