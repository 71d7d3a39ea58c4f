/** `tidegate meta migrate`. Its options are those of serve, with --to or --from for --meta. */
import { createLogger } from '../common/logging.ts'
import { PREFIX_DEFAULT } from '../config/metadata-location.ts'
import { parseConfig, type Config } from '../config/parse.ts'
import { initCluster } from '../meta/raft/member/prepare-node.ts'
import type { MigrateRequest, Reached } from '../migrate.ts'
import { clusterSettings } from './cluster-settings.ts'
import { UsageError, type CliContext, type ExitCode } from './command.ts'
import { parseInput } from './machine.ts'
import { migrateText } from './meta-text.ts'
import { endProgress, progressLine } from './restore-text.ts'

const PROGRESS_EVERY_MS = 200
const CLUSTER = 'cluster'
const MEMBER_DIRECTORY = 'etcd'

interface Asked {
  readonly to: MigrateRequest['to']
  /** A URL, or `cluster`. */
  readonly place: string
  readonly json: boolean
  /** For the table of options. */
  readonly rest: readonly string[]
}

export async function migrateMetadata(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const { stdout, stderr } = context
  const { to, place, json, rest } = asked(argv)
  const options = place === CLUSTER ? rest : [...rest, '--meta', place]
  const config = parseConfig(parseInput(options, context))
  if (place === CLUSTER && config.cluster === undefined)
    throw new UsageError('--cluster is missing: the name of the cluster, with the options that serve has for it')
  const { migrate } = await import('../migrate.ts')
  try {
    const report = await migrate({
      to,
      data: config.data,
      prefix: config.meta?.prefix ?? PREFIX_DEFAULT,
      reach: (dataPath) => reach({ config, to }, dataPath, context),
      memberDirectory: place === CLUSTER ? MEMBER_DIRECTORY : undefined,
      onProgress: progressLine(stderr, PROGRESS_EVERY_MS),
    })
    endProgress(stderr)
    stdout.write(json ? `${JSON.stringify(report, undefined, 2)}\n` : migrateText(report, place))
    return 0
  } catch (error) {
    endProgress(stderr)
    throw error
  }
}

async function reach(
  { config, to }: { config: Config; to: MigrateRequest['to'] },
  dataPath: string,
  context: CliContext,
): Promise<Reached> {
  const { meta, metaCa, metaCert, metaKey, metaLogin } = config
  if (meta) {
    const tls = { authorityPath: metaCa, certificatePath: metaCert, keyPath: metaKey }
    return { endpoints: meta.endpoints, tls, login: metaLogin, stop: () => Promise.resolve() }
  }
  const logger = createLogger({ level: config.logLevel, pretty: context.stderr.isTTY === true })
  const settings = clusterSettings(config, dataPath, logger)
  if (settings === undefined) throw new UsageError('--cluster is missing: the name of the cluster')
  // "cluster init" refuses a directory with metadata of its own, and here they are to be moved into the cluster that begins.
  if (to === 'etcd' && settings.join.length === 0) await initCluster(settings)
  const { startClusterNode } = await import('../meta/raft/member/cluster-node.ts')
  const node = await startClusterNode(settings)
  return { endpoints: node.endpoints, tls: settings.tls, stop: () => node.stop() }
}

/** @throws UsageError */
function asked(argv: readonly string[]): Asked {
  const rest: string[] = []
  const places = new Map<string, string>()
  let json = false
  for (let index = 0; index < argv.length; index++) {
    const argument = argv[index] ?? ''
    const [flag = '', ...parts] = argument.split('=')
    if (argument === '--json') json = true
    else if (flag === '--to' || flag === '--from') {
      const place = parts.length > 0 ? parts.join('=') : argv[++index]
      if (place === undefined || place === '') throw new UsageError(`${flag} wants a value: etcd://HOST:PORT/PREFIX`)
      if (places.has(flag)) throw new UsageError(`${flag} is given twice`)
      places.set(flag, place)
    } else rest.push(argument)
  }
  const [first, second] = places
  if (first === undefined || second !== undefined)
    throw new UsageError('give --to URL or --from URL: into etcd, or back into the data directory')
  const [flag, place] = first
  return { to: flag === '--to' ? 'etcd' : 'data', place, json, rest }
}
