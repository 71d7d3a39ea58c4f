/** `tidegate cluster init` and `join`: what a node is to be, written into its directory before it is started. */
import { createEtcdAdmin } from '../admin-client.ts'
import { createEtcdClient } from '../client.ts'
import { checkClusterOptions, ClusterRefused } from './cluster-options.ts'
import type { ClusterNodeOptions } from './cluster-options.ts'
import { ClusterRows } from './cluster-rows.ts'
import { findEtcd } from './member.ts'
import { knownMember } from './membership.ts'
import { NodeDirectory } from './node-record.ts'
import type { KnownMember } from './node-record.ts'

const CALL_MS_MAX = 3_000

/** Safe to repeat. @returns false: it had been done before. @throws ClusterRefused */
export async function initCluster(options: ClusterNodeOptions): Promise<boolean> {
  checkClusterOptions(options)
  const { clusterName, voters } = options
  const directory = new NodeDirectory(options.directory)
  const record = directory.read()
  if (record?.cluster === clusterName && (record.state === 'founding' || record.state === 'member')) return false
  if (record !== undefined)
    throw new ClusterRefused(`${directory.path} is that of a node of ${record.cluster} (${record.state})`)
  if (directory.hasData()) throw new ClusterRefused(`${directory.path} holds data of etcd`)
  await findEtcd(options.etcd)
  const there = await membersThere(options)
  if (there !== undefined)
    throw new ClusterRefused(
      `--cluster-join: ${there.members.map(({ name }) => name).join(', ')} ${there.members.length === 1 ? 'is' : 'are'} there already ` +
        `(cluster ${there.name ?? 'without a name'}): this node joins when it is started`,
    )
  await directory.write({ cluster: clusterName, state: 'founding', memberId: undefined, voters, members: [] })
  return true
}

/** Looks whether the cluster can be reached, and that this node may join it when it is started. @throws ClusterRefused */
export async function prepareToJoin(options: ClusterNodeOptions): Promise<readonly KnownMember[]> {
  checkClusterOptions(options)
  const { clusterName, join } = options
  if (join.length === 0) throw new ClusterRefused('--cluster-join is missing: the address of a member')
  const directory = new NodeDirectory(options.directory)
  const record = directory.read()
  if (record !== undefined && record.state !== 'client' && record.state !== 'removed')
    throw new ClusterRefused(`${directory.path} is that of a node of ${record.cluster} (${record.state})`)
  const there = await membersThere(options)
  if (there === undefined) throw new ClusterRefused(`--cluster-join: no member answers at ${join.join(', ')}`)
  if (there.name !== clusterName)
    throw new ClusterRefused(`--cluster: ${clusterName}, but the members at ${join.join(', ')} are of ${there.name}`)
  const { members, voters } = there
  await directory.write({ cluster: clusterName, state: 'client', memberId: undefined, voters, members })
  return members
}

interface There {
  readonly name: string | undefined
  readonly voters: number
  readonly members: readonly KnownMember[]
}

/** Undefined: nobody answers. */
async function membersThere({ join, tls, clock, nodeName, voters }: ClusterNodeOptions): Promise<There | undefined> {
  if (join.length === 0) return undefined
  const client = { endpoints: join, tls, clock, callTimeoutMs: CALL_MS_MAX }
  const etcd = createEtcdClient(client)
  const admin = createEtcdAdmin(client)
  try {
    const members = (await admin.members()).map(knownMember)
    const settings = await new ClusterRows(etcd, { clock, node: nodeName }).settings()
    return { name: settings?.name, voters: settings?.voters ?? voters, members }
  } catch {
    return undefined
  } finally {
    await etcd.stop()
    admin.close()
  }
}
