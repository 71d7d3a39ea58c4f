/**
 * The cluster over HTTP: `GET /admin/v1/cluster` and `POST /admin/v1/cluster/remove`. For root, and for users whose policies allow
 * `tidegate:GetCluster` and `tidegate:ControlCluster`; no token may.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { must } from '../../common/assert.ts'
import type { AccessControl } from '../../store/access.ts'
import { requestFacts } from '../http/auth/request-facts.ts'
import type { PortPlugin } from '../http/port.ts'

export interface ClusterPluginOptions {
  readonly cluster: ClusterControl
  readonly access: AccessControl
}

/** What this asks of the node of the cluster that the gateway is. */
export interface ClusterControl {
  /** Asks every member. Never rejects. */
  health(): Promise<ClusterHealthView>
  /** By its name or its id. @throws InvalidArgument, Unavailable */
  remove(member: string): Promise<void>
}

export interface ClusterHealthView {
  readonly cluster: string
  readonly node: string
  readonly role: string
  readonly memberId: string | undefined
  readonly voters: number
  readonly quotaBytes: number
  readonly restarts: number
  readonly lastEnding: string | undefined
  readonly level: string
  readonly words: readonly string[]
  readonly alarms: readonly { readonly kind: string; readonly memberId: string }[]
  readonly members: readonly MemberView[]
}

interface MemberView {
  readonly id: string
  readonly name: string
  readonly peerUrl: string
  readonly clientUrl: string | undefined
  readonly role: string
  readonly trouble: string | undefined
  readonly version: string | undefined
  readonly dbBytes: number | undefined
  readonly dbInUseBytes: number | undefined
  readonly lag: number | undefined
}

export function createClusterPlugin(options: ClusterPluginOptions): PortPlugin {
  return (app) => register(app, options)
}

function register(app: FastifyInstance, { cluster, access }: ClusterPluginOptions): void {
  const admit = (request: FastifyRequest, action: 'tidegate:GetCluster' | 'tidegate:ControlCluster'): void => {
    const authenticated = must(request.authenticated, 'authentication of a route that is not open')
    const facts = requestFacts({ authenticated, headers: request.headers, query: () => undefined })
    access.authorize(authenticated.principal, action, {}, facts)
  }

  app.get(
    '/admin/v1/cluster',
    { config: { operation: 'AdminGetCluster' }, schema: STATUS_SCHEMA },
    async (request, reply) => {
      admit(request, 'tidegate:GetCluster')
      return reply.send(healthBody(await cluster.health()))
    },
  )

  app.post<{ Body: { readonly member: string } }>(
    '/admin/v1/cluster/remove',
    { config: { operation: 'AdminRemoveMember' }, schema: REMOVE_SCHEMA },
    async (request, reply) => {
      admit(request, 'tidegate:ControlCluster')
      await cluster.remove(request.body.member)
      return reply.send(healthBody(await cluster.health()))
    },
  )
}

function healthBody({ memberId, lastEnding, members, ...rest }: ClusterHealthView): unknown {
  return { ...rest, memberId: memberId ?? null, lastEnding: lastEnding ?? null, members: members.map(memberBody) }
}

function memberBody(member: MemberView): unknown {
  const { clientUrl, trouble, version, dbBytes, dbInUseBytes, lag, ...rest } = member
  return {
    ...rest,
    clientUrl: clientUrl ?? null,
    trouble: trouble ?? null,
    version: version ?? null,
    dbBytes: dbBytes ?? null,
    dbInUseBytes: dbInUseBytes ?? null,
    lag: lag ?? null,
  }
}

const TAGS = ['cluster']
const MEMBER_NAME_CHARS_MAX = 64

const text = (description: string): object => ({ type: 'string', description })
const textOrNull = (description: string): object => ({ type: ['string', 'null'], description })
const number = (description: string): object => ({ type: 'number', description })
const numberOrNull = (description: string): object => ({ type: ['number', 'null'], description })

/** All of them are always there. */
function record(properties: Readonly<Record<string, object>>): object {
  return { type: 'object', properties, required: Object.keys(properties) }
}

const MEMBER = record({
  id: text("etcd's, in decimal."),
  name: text("The node's."),
  peerUrl: text('Where other members reach it.'),
  clientUrl: textOrNull('Where nodes reach it; null: it was never started.'),
  role: { type: 'string', enum: ['leader', 'follower', 'learner'] },
  trouble: textOrNull('Why it does not answer; null: it does.'),
  version: textOrNull('Of its etcd; null, as what follows, while it does not answer.'),
  dbBytes: numberOrNull('Of its file.'),
  dbInUseBytes: numberOrNull('Of them, without free pages.'),
  lag: numberOrNull('Changes that another member has applied and it has not.'),
})

const STATUS = record({
  cluster: text('Its name.'),
  node: text('That answers.'),
  role: { type: 'string', enum: ['voter', 'learner', 'client', 'removed'], description: 'Of that node.' },
  memberId: textOrNull("Of that node's member; null: it has none."),
  voters: number('That there are to be.'),
  quotaBytes: number('Of a member; above it only reads and deletes pass.'),
  restarts: number("Of that node's etcd, since the gateway started."),
  lastEnding: textOrNull('Why it ended last.'),
  level: { type: 'string', enum: ['well', 'impaired', 'failing'], description: 'failing: nothing can be written.' },
  words: { type: 'array', items: { type: 'string' }, description: 'What is the matter.' },
  alarms: { type: 'array', items: record({ kind: text('no space or corrupt.'), memberId: text('Who raised it.') }) },
  members: { type: 'array', items: MEMBER },
})

const STATUS_SCHEMA = {
  tags: TAGS,
  summary: 'Say who is in the cluster and how it is',
  description: 'Every member is asked by itself, so this answers without a majority too.',
  response: { 200: { description: 'Members, and what is the matter', ...STATUS } },
}

const REMOVE_SCHEMA = {
  tags: TAGS,
  summary: 'Take a member out of the cluster for good',
  description: 'Its node goes on as a client. Refused while that would put the majority at risk.',
  body: {
    type: 'object',
    additionalProperties: false,
    required: ['member'],
    properties: {
      member: { type: 'string', minLength: 1, maxLength: MEMBER_NAME_CHARS_MAX, description: 'Its name or its id.' },
    },
  },
  response: { 200: { description: 'It is out', ...STATUS } },
}
