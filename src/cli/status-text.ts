/** What the admin API says of a gateway and those beside it (gateway/admin/status.ts), for people. */
import { bytesText, timeText } from './flush-text.ts'
import { table } from './table.ts'

export const STATUS_PATH = '/admin/v1/status'

export interface ShownNode {
  readonly number: number
  readonly name: string
  readonly address: string
  readonly state: string
  readonly version: string
  readonly weight: number
  readonly labels: Readonly<Record<string, string>>
  readonly isSelf: boolean
  readonly isReachable: boolean | null
  readonly roundTripMs: number | null
  /** Null: none. */
  readonly fabric?: string | null
}

interface ShownLevel {
  readonly bytesHeld: number
  readonly bytesMax: number
  readonly hits: number
  readonly misses: number
}

interface ShownNeighbours {
  readonly hits: number
  readonly misses: number
  readonly timeouts: number
  readonly badPages: number
  readonly bytesIn: number
  readonly bytesOut: number
  readonly peers: number
}

interface ShownLost {
  readonly number: number
  readonly name: string | null
  readonly state: string
  readonly awayMs: number | null
}

interface ShownBacklog {
  readonly bytes: number
  readonly bytesMax: number
  readonly segments: number
  readonly oldestAgeMs: number | null
  readonly failingSegments: number
  readonly paused: boolean
  readonly copiesWaiting: number
}

interface ShownCount {
  readonly segments: number
  readonly bytes: number
}

interface ShownHoldings {
  readonly ageMs: number
  readonly isComplete: boolean
  readonly trouble: string | null
  readonly byNode: readonly (ShownCount & { readonly node: number; readonly state: string })[]
  readonly copiesHere: ShownCount
  readonly unreachable: readonly (ShownCount & { readonly node: number })[]
}

export interface ShownStatus {
  readonly node: {
    readonly number: number | null
    readonly version: string
    readonly upMs: number
    readonly trouble: string | null
  }
  readonly nodes: readonly ShownNode[]
  readonly lost: readonly ShownLost[]
  readonly tiers: {
    readonly memory: ShownLevel
    readonly disk: ShownLevel | null
    readonly neighbours: ShownNeighbours | null
    readonly remote: { readonly trouble: string | null } | null
  }
  readonly backlog: ShownBacklog
  readonly holdings: ShownHoldings | null
}

export function statusText(shown: ShownStatus): string {
  const { nodes, lost, tiers, backlog, holdings } = shown
  const parts = [table([['this node:', ownText(shown)], ...tierLines(tiers), ...backlogLines(backlog)])]
  if (nodes.length > 0) parts.push(nodesText(nodes))
  if (lost.length > 0) parts.push(lostText(lost))
  if (holdings) parts.push(...holdingsParts(holdings, nodes))
  return parts.join('\n')
}

function ownText({ node, nodes }: ShownStatus): string {
  const { number, version, upMs, trouble } = node
  const name = nodes.find(({ isSelf }) => isSelf)?.name
  const who = number === null ? 'alone' : `number ${number}${name === undefined ? '' : ` (${name})`}`
  return `${who}, ${version}, up ${timeText(upMs)}${trouble === null ? '' : `; ${trouble}`}`
}

function tierLines({ memory, disk, neighbours, remote }: ShownStatus['tiers']): [string, string][] {
  const lines: [string, string][] = [['memory:', levelText(memory)]]
  if (disk) lines.push(['disk level:', levelText(disk)])
  if (neighbours) lines.push(['neighbours:', neighboursText(neighbours)])
  lines.push(['remote store:', remote === null ? 'none' : (remote.trouble ?? 'answers')])
  return lines
}

function levelText({ bytesHeld, bytesMax, hits, misses }: ShownLevel): string {
  return `${bytesText(bytesHeld)} of ${bytesText(bytesMax)}, ${hits} blocks found, ${misses} not`
}

function neighboursText(shown: ShownNeighbours): string {
  const { hits, misses, timeouts, badPages, bytesIn, bytesOut, peers } = shown
  const failures = `${timeouts} not answered in time${badPages === 0 ? '' : `, ${badPages} with wrong bytes`}`
  const carried = `${bytesText(bytesIn)} in, ${bytesText(bytesOut)} out`
  return `${peers} connected, ${hits} blocks found, ${misses} not, ${failures}; ${carried}`
}

function backlogLines(backlog: ShownBacklog): [string, string][] {
  const { bytes, bytesMax, segments, oldestAgeMs, failingSegments, paused, copiesWaiting } = backlog
  const oldest = oldestAgeMs === null ? '' : `, the oldest ${timeText(oldestAgeMs)} old`
  const failing = failingSegments === 0 ? '' : `; ${failingSegments} fail`
  const state = paused ? '; paused' : ''
  const lines: [string, string][] = [
    ['backlog:', `${bytesText(bytes)} of ${bytesText(bytesMax)} in ${segments} segments${oldest}${failing}${state}`],
  ]
  if (copiesWaiting > 0) lines.push(['copies:', `${copiesWaiting} segments wait for theirs`])
  return lines
}

const NODE_COLUMNS: Readonly<Record<string, (node: ShownNode) => string>> = {
  NODE: ({ number, isSelf }) => `${number}${isSelf ? ' *' : ''}`,
  NAME: ({ name }) => name,
  ADDRESS: ({ address }) => address,
  STATE: ({ state }) => state,
  'FROM HERE': fromHere,
  VERSION: ({ version }) => version,
  WEIGHT: ({ weight }) => String(weight),
  LABELS: ({ labels }) =>
    Object.entries(labels)
      .map(([name, value]) => `${name}=${value}`)
      .join(',') || '-',
}

function fromHere({ isSelf, isReachable, roundTripMs, fabric }: ShownNode): string {
  if (isSelf) return '-'
  if (isReachable === null) return 'not tried'
  if (!isReachable) return 'not reached'
  const reached = roundTripMs === null ? 'reached' : `${roundTripMs.toFixed(1)} ms`
  return fabric ? `${reached}, ${fabric}` : reached
}

export function nodesText(nodes: readonly ShownNode[]): string {
  return table([
    Object.keys(NODE_COLUMNS),
    ...nodes.map((node) => Object.values(NODE_COLUMNS).map((cell) => cell(node))),
  ])
}

function lostText(lost: readonly ShownLost[]): string {
  return table([
    ['LOST', 'NAME', 'STATE', 'AWAY FOR'],
    ...lost.map(({ number, name, state, awayMs }) => [
      String(number),
      name ?? '-',
      state,
      awayMs === null ? '-' : timeText(awayMs),
    ]),
  ])
}

function holdingsParts(holdings: ShownHoldings, nodes: readonly ShownNode[]): string[] {
  const { ageMs, isComplete, trouble, byNode, copiesHere, unreachable } = holdings
  const named = (node: number): string => {
    const name = nodes.find(({ number }) => number === node)?.name
    return name === undefined ? String(node) : `${node} (${name})`
  }
  const rows = byNode.map(({ node, state, segments, bytes }) => [
    named(node),
    state,
    String(segments),
    bytesText(bytes),
  ])
  const parts = [table([['HOLDER', 'STATE', 'SEGMENTS', 'BYTES'], ...rows])]
  const age = ageMs >= 1000 ? `counted ${timeText(ageMs)} ago` : 'counted just now'
  const cut = isComplete ? '' : '; there are more than were counted'
  const lines = [['segments:', `${age}${cut}${trouble === null ? '' : `; ${trouble}`}`]]
  lines.push(['copies here:', `${copiesHere.segments} segments with ${bytesText(copiesHere.bytes)}`])
  for (const { node, segments, bytes } of unreachable)
    lines.push(['unreachable:', `${segments} segments with ${bytesText(bytes)}, until node ${named(node)} is back`])
  parts.push(table(lines))
  return parts
}
