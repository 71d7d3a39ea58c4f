/**
 * How this gateway and those beside it are, over HTTP: `GET /admin/v1/status`. For root, and for users whose policies allow `tidegate:GetCluster`; no
 * token may.
 *
 * It is what *this* node knows: of the others what they say of themselves and whether they can be reached from here, of segments what the shared metadata
 * say some seconds ago. It answers while etcd does not, with what it then cannot know left out and the reason in `holdings.trouble`.
 */
import type { FastifyInstance } from 'fastify'
import { must } from '../../common/assert.ts'
import type { AccessControl } from '../../store/access.ts'
import { requestFacts } from '../http/auth/request-facts.ts'
import type { PortPlugin } from '../http/port.ts'
import { STATUS_SCHEMA } from './status-schema.ts'

export interface StatusPluginOptions {
  readonly status: StatusSource
  readonly access: AccessControl
}

/** What this asks of the gateway. */
export interface StatusSource {
  /** Bounded in work and in time. Never rejects for what happens in operation. */
  look(): Promise<StatusView>
}

export interface StatusView {
  readonly node: OwnNodeView
  /** Those alive, this one too, ascending by number; empty where metadata are not shared. */
  readonly nodes: readonly NodeStatusView[]
  /** That have been away for longer than the grace, and are known all the same. */
  readonly lost: readonly LostNodeView[]
  readonly tiers: TiersView
  readonly backlog: BacklogView
  /** Undefined where metadata are not shared. */
  readonly holdings: HoldingsView | undefined
}

interface OwnNodeView {
  /** Undefined where metadata are not shared. */
  readonly number: number | undefined
  readonly version: string
  readonly upMs: number
  /** Why nothing, or only reads, can be served; undefined: all is well. */
  readonly trouble: string | undefined
}

export interface NodeStatusView {
  readonly number: number
  readonly name: string
  readonly address: string
  readonly state: string
  readonly version: string
  readonly weight: number
  readonly labels: Readonly<Record<string, string>>
  readonly isSelf: boolean
  /** Undefined: it has not been tried. */
  readonly isReachable: boolean | undefined
  readonly roundTripMs: number | undefined
  /** By which fabric large bodies go there from the one that answers; undefined: by the connection. */
  readonly fabric: string | undefined
}

export interface LostNodeView {
  readonly number: number
  readonly name: string | undefined
  /** `away`: within its grace; `fenced`: its segments are being taken over; `cleaned`: nothing is left to do; `unknown`: nobody judges it. */
  readonly state: string
  readonly awayMs: number | undefined
}

export interface TiersView {
  readonly memory: LevelView
  readonly disk: LevelView | undefined
  readonly neighbours: NeighboursView | undefined
  readonly remote: { readonly trouble: string | undefined } | undefined
}

export interface LevelView {
  readonly bytesHeld: number
  readonly bytesMax: number
  readonly hits: number
  readonly misses: number
}

export interface NeighboursView {
  readonly hits: number
  readonly misses: number
  readonly timeouts: number
  readonly badPages: number
  readonly bytesIn: number
  readonly bytesOut: number
  readonly peers: number
}

export interface BacklogView {
  readonly bytes: number
  readonly bytesMax: number
  readonly segments: number
  readonly oldestAgeMs: number | undefined
  readonly failingSegments: number
  readonly paused: boolean
  /** Segments that are to be copied to another node and are not yet. */
  readonly copiesWaiting: number
}

export interface HoldingsView {
  readonly ageMs: number
  /** False: there are more segments than are looked through. */
  readonly isComplete: boolean
  /** Why they could not be counted just now; what is said is then older, or nothing. */
  readonly trouble: string | undefined
  readonly byNode: readonly HoldingView[]
  readonly copiesHere: { readonly segments: number; readonly bytes: number }
  /** That can be reached nowhere, by the node that had them. */
  readonly unreachable: readonly { readonly node: number; readonly segments: number; readonly bytes: number }[]
}

export interface HoldingView {
  readonly node: number
  readonly state: string
  readonly segments: number
  readonly bytes: number
}

export function createStatusPlugin(options: StatusPluginOptions): PortPlugin {
  return (app) => register(app, options)
}

function register(app: FastifyInstance, { status, access }: StatusPluginOptions): void {
  app.get(
    '/admin/v1/status',
    { config: { operation: 'AdminGetStatus' }, schema: STATUS_SCHEMA },
    async (request, reply) => {
      const authenticated = must(request.authenticated, 'authentication of a route that is not open')
      const facts = requestFacts({ authenticated, headers: request.headers, query: () => undefined })
      access.authorize(authenticated.principal, 'tidegate:GetCluster', {}, facts)
      return reply.send(statusBody(await status.look()))
    },
  )
}

function statusBody({ node, nodes, lost, tiers, backlog, holdings }: StatusView): unknown {
  return {
    node: { ...node, number: node.number ?? null, trouble: node.trouble ?? null },
    nodes: nodes.map(({ isReachable, roundTripMs, fabric, ...member }) => ({
      ...member,
      isReachable: isReachable ?? null,
      roundTripMs: roundTripMs ?? null,
      fabric: fabric ?? null,
    })),
    lost: lost.map(({ name, awayMs, ...rest }) => ({ ...rest, name: name ?? null, awayMs: awayMs ?? null })),
    tiers: {
      memory: tiers.memory,
      disk: tiers.disk ?? null,
      neighbours: tiers.neighbours ?? null,
      remote: tiers.remote ? { trouble: tiers.remote.trouble ?? null } : null,
    },
    backlog: { ...backlog, oldestAgeMs: backlog.oldestAgeMs ?? null },
    holdings: holdings ? { ...holdings, trouble: holdings.trouble ?? null } : null,
  }
}
