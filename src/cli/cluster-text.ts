/** What the admin API says of the cluster (gateway/admin/cluster.ts), for people. */
import { table } from './table.ts'

interface ShownMember {
  readonly id: string
  readonly name: string
  readonly clientUrl: string | null
  readonly role: string
  readonly trouble: string | null
  readonly version: string | null
  readonly dbBytes: number | null
  readonly dbInUseBytes: number | null
  readonly lag: number | null
}

export interface ShownCluster {
  readonly cluster: string
  readonly node: string
  readonly role: string
  readonly voters: number
  readonly quotaBytes: number
  readonly restarts: number
  readonly lastEnding: string | null
  readonly level: 'well' | 'impaired' | 'failing'
  readonly words: readonly string[]
  readonly members: readonly ShownMember[]
}

const LEVELS: Readonly<Record<ShownCluster['level'], string>> = {
  well: 'all is well',
  impaired: 'works, but not all is well',
  failing: 'nothing can be written',
}

export function clusterText(shown: ShownCluster): string {
  const { cluster, node, role, voters, quotaBytes, restarts, lastEnding, members } = shown
  const rows = members.map((member) => [
    member.name,
    member.id,
    member.role,
    member.trouble === null ? 'answers' : 'away',
    member.version ?? '-',
    member.lag === null ? '-' : String(member.lag),
    member.dbInUseBytes === null ? '-' : `${bytesText(member.dbInUseBytes)} of ${bytesText(member.dbBytes ?? 0)}`,
    member.clientUrl ?? '-',
  ])
  const lines = [
    ['cluster:', `${cluster}, ${voters} voters, quota ${bytesText(quotaBytes)}`],
    ['this node:', `${node}, ${role}`],
    ['its etcd:', restarts === 0 ? 'never restarted' : `restarted ${restarts} times; it ended by ${lastEnding}`],
  ]
  const header = ['MEMBER', 'ID', 'ROLE', 'STATE', 'VERSION', 'BEHIND', 'IN USE', 'ADDRESS']
  return `${verdictText(shown)}\n${table(lines)}\n${table([header, ...rows])}`
}

export function verdictText({ level, words }: ShownCluster): string {
  return [`${LEVELS[level]}\n`, ...words.map((sentence) => `- ${sentence}\n`)].join('')
}

function bytesText(bytes: number): string {
  const gibibytes = bytes / 2 ** 30
  return gibibytes >= 1 ? `${gibibytes.toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`
}
