/** `tidegate cluster init` and `join`: what a node is to be, written into its data directory while no gateway uses it. */
import { systemClock } from '../common/clock.ts'
import { createLogger } from '../common/logging.ts'
import { openDataDirectory } from '../config/data-directory.ts'
import { parseConfig } from '../config/parse.ts'
import type { ClusterNodeOptions } from '../meta/raft/member/cluster-options.ts'
import { initCluster, prepareToJoin } from '../meta/raft/member/prepare-node.ts'
import { refuseOwnMetadata } from '../node-identity.ts'
import { clusterSettings } from './cluster-settings.ts'
import { UsageError, type CliContext, type ExitCode } from './command.ts'
import { parseInput } from './machine.ts'

export async function initNode(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  await prepared(argv, context, async (options) => {
    const { clusterName, voters, clientUrl } = options
    if (!(await initCluster(options))) return `this is a node of cluster ${clusterName} already\n`
    const others =
      voters === 1 ? '' : `\nOther nodes: tidegate serve --cluster ${clusterName} --cluster-join ${clientUrl} ...`
    return `cluster ${clusterName} begins here, with ${voters} voters in the end: start "tidegate serve" with the same options.${others}\n`
  })
  return 0
}

export async function joinNode(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  await prepared(argv, context, async (options) => {
    const names = (await prepareToJoin(options)).map(({ name }) => name).join(', ')
    return `this becomes a node of cluster ${options.clusterName} (${names}): start "tidegate serve" with the same options\n`
  })
  return 0
}

async function prepared(
  argv: readonly string[],
  context: CliContext,
  work: (options: ClusterNodeOptions) => Promise<string>,
): Promise<void> {
  const config = parseConfig(parseInput(argv, context))
  const logger = createLogger({ level: config.logLevel, pretty: context.stderr.isTTY === true })
  const options = clusterSettings(config, config.data, logger)
  if (options === undefined) throw new UsageError('--cluster is missing: the name of the cluster')
  const directory = await openDataDirectory(config.data)
  try {
    refuseOwnMetadata(directory.path, '--cluster')
    const settled = clusterSettings(config, directory.path, logger) ?? options
    context.stdout.write(await work({ ...settled, clock: systemClock }))
  } finally {
    await directory.close()
  }
}
